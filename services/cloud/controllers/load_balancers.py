"""The service controller: a load balancer for every Service of `type: LoadBalancer`.

Reconciles one Service: the finalizer first, then the cloud's load balancer, then the status; the other way round when
the Service goes away or changes its type. Services that name a loadBalancerClass belong to someone else.
"""

import json
from collections.abc import Sequence
from typing import Any

from services.cloud.controllers.context import Context
from services.cloud.controllers.nodes import is_ready
from services.cloud.provider import Ingress, LoadBalancers, ProviderError
from tillerman.api.meta import key_of
from tillerman.api.status import is_not_found
from tillerman.client.workqueue import WorkQueue
from tillerman.pb.k8s import core_v1_pb2 as core

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
LEAVING = "ToBeDeletedByClusterAutoscaler"


class ServiceController:
    name = "cloud-service"

    def __init__(self, context: Context, load_balancers: LoadBalancers) -> None:
        self._context = context
        self._cloud = load_balancers
        self._services = context.client.resource(core.Service)
        self.queue = WorkQueue(self.name, clock=context.clock)
        # What each Service's load balancer was last made from, by key.
        self._done: dict[str, tuple[object, ...]] = {}
        # Uids of Services whose load balancer is going or gone, and which events have told so.
        self._leaving: dict[str, set[str]] = {}
        context.services.add_handler(
            on_add=self._changed, on_update=lambda _, new: self._changed(new), on_delete=self._gone
        )
        context.nodes.add_handler(
            on_add=self._nodes_changed, on_update=self._node_changed, on_delete=self._nodes_changed
        )

    def _changed(self, service: core.Service) -> None:
        if wants_load_balancer(service) or FINALIZER in service.metadata.finalizers:
            self.queue.add(key_of(service))

    def _gone(self, service: core.Service) -> None:
        self._done.pop(key_of(service), None)
        self._leaving.pop(service.metadata.uid, None)

    def _node_changed(self, old: core.Node, new: core.Node) -> None:
        if takes_traffic(old) != takes_traffic(new) or old.spec.providerID != new.spec.providerID:
            self._nodes_changed(new)

    def _nodes_changed(self, _: core.Node) -> None:
        for service in self._context.services.list():
            self._changed(service)

    def nodes(self) -> list[core.Node]:
        """The nodes that load balancers send traffic to."""
        nodes = [node for node in self._context.nodes.list() if takes_traffic(node)]
        return sorted(nodes, key=lambda node: node.metadata.name)

    async def reconcile(self, key: str) -> float | None:
        service = self._context.services.get(key)
        if service is None:
            return None
        if service.metadata.HasField("deletionTimestamp") or not wants_load_balancer(service):
            await self._remove(service)
        else:
            await self._ensure(service)
        return None

    async def _ensure(self, service: core.Service) -> None:
        key, nodes = key_of(service), self.nodes()
        made_from = _made_from(service, nodes)
        present = service.status.loadBalancer.ingress
        if self._done.get(key) == made_from and present:
            return
        event = self._context.recorder.event
        self._leaving.pop(service.metadata.uid, None)
        # Our own writes come back as events, perhaps before the status does: they are no news.
        first = not present and key not in self._done
        if first:
            event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        if FINALIZER not in service.metadata.finalizers:
            service = await self._set_finalizers(service, [*service.metadata.finalizers, FINALIZER])
        try:
            ingress = await self._cloud.ensure(service, nodes)
        except ProviderError as error:
            event(service, "Warning", "SyncLoadBalancerFailed", f"Error syncing load balancer: {error}")
            raise
        changed = await self._write_status(service, ingress)
        updated = self._done.get(key, made_from) != made_from
        self._done[key] = made_from
        if first:
            event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        elif updated or (present and changed):
            event(service, "Normal", "UpdatedLoadBalancer", "Updated load balancer with new hosts")

    async def _remove(self, service: core.Service) -> None:
        self._done.pop(key_of(service), None)
        if FINALIZER not in service.metadata.finalizers:
            return
        self._tell_leaving(service, "DeletingLoadBalancer", "Deleting load balancer")
        try:
            await self._cloud.delete(service)
        except ProviderError as error:
            message = f"Error deleting load balancer: {error}"
            self._context.recorder.event(service, "Warning", "DeleteLoadBalancerFailed", message)
            raise
        try:
            await self._write_status(service, [])
            await self._set_finalizers(service, [f for f in service.metadata.finalizers if f != FINALIZER])
        except Exception as error:
            if not is_not_found(error):
                raise
        self._tell_leaving(service, "DeletedLoadBalancer", "Deleted load balancer")

    def _tell_leaving(self, service: core.Service, reason: str, message: str) -> None:
        """Once each, however often it takes to get there."""
        told = self._leaving.setdefault(service.metadata.uid, set())
        if reason not in told:
            told.add(reason)
            self._context.recorder.event(service, "Normal", reason, message)

    async def _set_finalizers(self, service: core.Service, finalizers: list[str]) -> core.Service:
        metadata = {"finalizers": finalizers, "resourceVersion": service.metadata.resourceVersion}
        name, namespace = service.metadata.name, service.metadata.namespace
        return await self._services.patch(name, namespace, {"metadata": metadata}, type="merge")

    async def _write_status(self, service: core.Service, ingress: Sequence[Ingress]) -> bool:
        """True if it had to be written."""
        present = [Ingress(i.ip, i.hostname, i.ipMode) for i in service.status.loadBalancer.ingress]
        if present == list(ingress):
            return False
        written = [_plain(each) for each in ingress] or None
        name, namespace = service.metadata.name, service.metadata.namespace
        patch = {"status": {"loadBalancer": {"ingress": written}}}
        await self._services.patch(name, namespace, patch, type="merge", subresource="status")
        return True


def wants_load_balancer(service: core.Service) -> bool:
    return service.spec.type == "LoadBalancer" and not service.spec.loadBalancerClass


def takes_traffic(node: core.Node) -> bool:
    return (
        is_ready(node)
        and not node.metadata.HasField("deletionTimestamp")
        and EXCLUDED not in node.metadata.labels
        and all(taint.key != LEAVING for taint in node.spec.taints)
    )


def _made_from(service: core.Service, nodes: Sequence[core.Node]) -> tuple[object, ...]:
    return (
        service.metadata.uid,
        tuple((port.port, port.nodePort, port.protocol) for port in service.spec.ports),
        (service.spec.loadBalancerIP, service.spec.externalTrafficPolicy, tuple(service.spec.loadBalancerSourceRanges)),
        json.dumps(dict(service.metadata.annotations), sort_keys=True),
        tuple((node.metadata.name, node.spec.providerID) for node in nodes),
    )


def _plain(ingress: Ingress) -> dict[str, Any]:
    plain = {"ip": ingress.ip, "hostname": ingress.hostname, "ipMode": ingress.ip_mode}
    return {key: value for key, value in plain.items() if value}
