"""NodeAgent: registers the node, keeps its status and Lease current, and learns its podCIDR.

Root tasks `run_status` and `run_lease`; the informer's handler hands over the podCIDR.
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from services.kubelet.machine import Machine, free_memory
from services.kubelet.node_status import Health, build_node, build_status, own_labels, same_but_for_heartbeats
from services.kubelet.runtime.interface import ImageState, Runtime, RuntimeFailure, RuntimeInfo
from tillerman.api.codec import to_dict
from tillerman.api.status import StatusError, is_already_exists, is_conflict, is_not_found
from tillerman.api.times import micro_now
from tillerman.client.client import Client
from tillerman.client.clock import Clock
from tillerman.client.informer import Informer
from tillerman.pb.k8s import coordination_v1_pb2 as coordination
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
LEASE_NAMESPACE = "kube-node-lease"
_RETRY_SECONDS = 0.5
_IMAGES_EVERY_SECONDS = 60.0


class NodeAgent:
    def __init__(
        self,
        client: Client,
        informer: Informer[core.Node],
        *,
        name: str,
        ip: str,
        port: int,
        labels: Mapping[str, str],
        taints: Sequence[str],
        machine: Machine,
        allocatable: Mapping[str, int],
        runtime: Runtime,
        runtime_info: RuntimeInfo,
        root_dir: Path,
        clock: Clock,
        on_pod_cidr: Callable[[str], None],
        record: Callable[[core.Node, str, str, str], None],
        update_every: float,
        report_every: float,
        lease_seconds: int,
    ) -> None:
        self._nodes = client.resource(core.Node)
        self._leases = client.resource(coordination.Lease)
        self._informer = informer
        self._name, self._ip, self._port = name, ip, port
        self._labels, self._taints = dict(labels), list(taints)
        self._machine, self._allocatable = machine, allocatable
        self._runtime, self._runtime_info = runtime, runtime_info
        self._root_dir = root_dir
        self._clock = clock
        self._on_pod_cidr = on_pod_cidr
        self._record = record
        self._update_every, self._report_every, self._lease_seconds = update_every, report_every, lease_seconds
        self.registered = asyncio.Event()
        self._node = core.Node()
        self._sent_at = 0.0
        self._images: Sequence[ImageState] = ()
        self._images_at: float | None = None
        self._pod_cidr = ""
        self._changed = asyncio.Event()

    def labels(self) -> Mapping[str, str]:
        """As the API server has them."""
        node = self._informer.get(self._name) or self._node
        return node.metadata.labels

    async def register(self) -> None:
        """Until the API server has the Node. A Node of an earlier life is kept; its labels are brought up to date."""
        while True:
            try:
                self._node = await self._create_or_adopt()
                break
            except StatusError as error:
                log.warning("node_not_registered", node=self._name, error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
        self._note_cidr(self._node)
        self._informer.add_handler(
            on_add=self._note_node, on_update=lambda _, new: self._note_node(new), on_delete=lambda _: self._gone()
        )
        self._record(self._node, "Normal", "Starting", "Starting kubelet.")
        self.registered.set()

    async def _create_or_adopt(self) -> core.Node:
        node = build_node(name=self._name, labels=self._labels, taints=self._taints, machine=self._machine)
        # The status is created with it, so that the node is Ready in one call.
        node.status.CopyFrom(await self._status(core.NodeStatus()))
        try:
            created = await self._nodes.create(node)
            self._sent_at = self._clock.monotonic()
            return created
        except StatusError as error:
            if not is_already_exists(error):
                raise
        found = await self._nodes.get(self._name)
        wanted = own_labels(self._name, self._machine, self._labels)
        if any(found.metadata.labels.get(key) != text for key, text in wanted.items()):
            found = await self._nodes.patch(self._name, None, {"metadata": {"labels": wanted}})
        return found

    def _gone(self) -> None:
        log.warning("node_object_deleted", node=self._name)
        self._node = core.Node()
        self._changed.set()

    def _note_node(self, node: core.Node) -> None:
        self._node = node
        self._note_cidr(node)

    def _note_cidr(self, node: core.Node) -> None:
        if node.spec.podCIDR and node.spec.podCIDR != self._pod_cidr:
            self._pod_cidr = node.spec.podCIDR
            self._on_pod_cidr(self._pod_cidr)

    async def run_status(self) -> None:
        """Sends the status when it changed, and every report_every seconds anyway."""
        was_ready: bool | None = None
        while True:
            try:
                if not self._node.metadata.name:
                    self._node = await self._create_or_adopt()
                ready = await self._send_status()
                if ready != was_ready:
                    reason = "NodeReady" if ready else "NodeNotReady"
                    self._record(self._node, "Normal", reason, f"Node {self._name} status is now: {reason}")
                    was_ready = ready
            except StatusError as error:
                log.warning("node_status_not_sent", error=str(error))
            timer = self._clock.call_later(self._update_every, self._changed.set)
            await self._changed.wait()
            timer.cancel()
            self._changed.clear()

    async def _send_status(self) -> bool:
        status = await self._status(self._node.status)
        ready = any(c.type == "Ready" and c.status == "True" for c in status.conditions)
        now = self._clock.monotonic()
        overdue = now - self._sent_at >= self._report_every
        if same_but_for_heartbeats(status, self._node.status) and not overdue and self._sent_at:
            return ready
        patch = {"status": to_dict(status)}
        try:
            self._node = await self._nodes.patch(self._name, None, patch, type="strategic", subresource="status")
        except StatusError as error:
            if is_not_found(error):
                self._node = core.Node()
                self._changed.set()
            raise
        self._sent_at = now
        return ready

    async def _status(self, old: core.NodeStatus) -> core.NodeStatus:
        error = ""
        try:
            await self._runtime.ping()
            now = self._clock.monotonic()
            if self._images_at is None or now - self._images_at >= _IMAGES_EVERY_SECONDS:
                self._images, self._images_at = await self._runtime.images(), now
        except RuntimeFailure as failure:
            error = f"container runtime is down: {failure}"
        disk = await asyncio.to_thread(shutil.disk_usage, self._root_dir)
        return build_status(
            old,
            name=self._name,
            ip=self._ip,
            port=self._port,
            machine=self._machine,
            runtime=self._runtime_info,
            given=self._allocatable,
            images=self._images,
            health=Health(error, free_memory() or 1 << 40, disk.free),
            now=self._clock.time(),
        )

    async def run_lease(self) -> None:
        """Renews the node's Lease four times in its duration."""
        lease: coordination.Lease | None = None
        while True:
            wait = self._lease_seconds / 4
            try:
                lease = await self._renew(lease)
            except StatusError as error:
                lease = None
                if not is_conflict(error):
                    log.warning("lease_not_renewed", error=str(error))
                wait = min(wait, _RETRY_SECONDS if is_conflict(error) else 2.0)
            await self._clock.sleep(wait)

    async def _renew(self, lease: coordination.Lease | None) -> coordination.Lease:
        if lease is None:
            try:
                lease = await self._leases.get(self._name, LEASE_NAMESPACE)
            except StatusError as error:
                if not is_not_found(error):
                    raise
                lease = coordination.Lease()
                lease.metadata.name, lease.metadata.namespace = self._name, LEASE_NAMESPACE
                if self._node.metadata.uid:
                    lease.metadata.ownerReferences.add(
                        apiVersion="v1", kind="Node", name=self._name, uid=self._node.metadata.uid
                    )
        fresh = coordination.Lease.FromString(lease.SerializeToString())
        fresh.spec.holderIdentity = self._name
        fresh.spec.leaseDurationSeconds = self._lease_seconds
        fresh.spec.renewTime.CopyFrom(micro_now())
        if fresh.metadata.resourceVersion:
            return await self._leases.update(fresh)
        return await self._leases.create(fresh)
