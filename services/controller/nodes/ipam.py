"""Gives each node its podCIDR as soon as its kubelet has reported; the kubelet waits for it.

Kubelets report as they register. A Node without any condition has none yet, and may never get one.

Allocations live in one bit set in this process, filled from all nodes before the first one is given out. A part is
noted as taken before the write, and stays taken while the outcome of the write is not known.
"""

from __future__ import annotations

from typing import ClassVar

from prometheus_client import Counter, Gauge

from services.controller.framework import Controller, ControllerContext
from services.controller.nodes.cidrs import CIDRExhausted, CIDRSet
from tillerman.api.status import StatusError, is_conflict, is_invalid, is_not_found
from tillerman.pb.k8s import core_v1_pb2 as core

ALLOCATIONS = Counter("node_ipam_controller_cidrset_cidrs_allocations", "podCIDRs given out.")
RELEASES = Counter("node_ipam_controller_cidrset_cidrs_releases", "podCIDRs taken back.")
USAGE = Gauge("node_ipam_controller_cidrset_usage_cidrs", "Fraction of podCIDRs in use.")


def awaits_cidr(node: core.Node) -> bool:
    reported = bool(node.status.conditions)
    return reported and not node.spec.podCIDR and not node.metadata.HasField("deletionTimestamp")


class NodeIPAMController(Controller):
    name = "nodeipam"
    workers: ClassVar[int] = 10

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder("cidrAllocator")
        self._cidrs = CIDRSet(self.options.cluster_cidr, self.options.node_cidr_mask_size)
        self._pending: dict[str, str] = {}
        self._nodes = self.informer(core.Node)
        self._nodes.add_handler(on_add=self._added, on_update=self._updated, on_delete=self._deleted)

    def known_keys(self) -> list[str]:
        return [node.metadata.name for node in self._nodes.list()]

    def _added(self, node: core.Node) -> None:
        if node.spec.podCIDR:
            self._occupy(node)
        elif awaits_cidr(node):
            self.enqueue(node)

    def _updated(self, old: core.Node, new: core.Node) -> None:
        if new.spec.podCIDR and not old.spec.podCIDR:
            self._occupy(new)
        elif awaits_cidr(new):
            self.enqueue(new)

    def _occupy(self, node: core.Node) -> None:
        name = node.metadata.name
        pending = self._pending.pop(name, None)
        for cidr in node.spec.podCIDRs or [node.spec.podCIDR]:
            if cidr == pending:
                pending = None
            elif not self._cidrs.occupy(cidr):
                self.log.error("podCIDR is shared with another node", node=name, cidr=cidr)
        if pending is not None:
            self._cidrs.release(pending)
        self._measure()

    def _deleted(self, node: core.Node) -> None:
        pending = self._pending.pop(node.metadata.name, None)
        cidrs = {cidr for cidr in (pending, node.spec.podCIDR, *node.spec.podCIDRs) if cidr}
        for cidr in cidrs:
            self._cidrs.release(cidr)
            RELEASES.inc()
        self._measure()

    def _measure(self) -> None:
        USAGE.set(self._cidrs.used / self._cidrs.capacity)

    async def reconcile(self, key: str) -> float | None:
        node = self._nodes.get(key)
        if node is None or not awaits_cidr(node):
            return None
        cidr = self._pending.get(key)
        if cidr is None:
            try:
                cidr = self._cidrs.allocate()
            except CIDRExhausted:
                message = f"Node {key} status is now: CIDRNotAvailable"
                self._recorder.event(node, "Normal", "CIDRNotAvailable", message)
                return 30.0
            self._pending[key] = cidr
        patch = {"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}
        try:
            await self.client.resource(core.Node).patch(key, None, patch, type="strategic")
        except StatusError as error:
            if is_not_found(error) or is_conflict(error) or is_invalid(error):
                # Refused for sure: the node has another podCIDR, or is another node.
                self._give_back(key, cidr)
                return None if is_not_found(error) else 0.1
            raise
        ALLOCATIONS.inc()
        self._measure()
        return None

    def _give_back(self, key: str, cidr: str) -> None:
        if self._pending.get(key) == cidr:
            del self._pending[key]
            self._cidrs.release(cidr)
