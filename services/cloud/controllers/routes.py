"""The route controller: one route per node and pod CIDR in the cloud's routing table, and none for nodes that are gone.

There is one key: the table as a whole is compared with the nodes as a whole.
"""

import ipaddress
from collections.abc import Iterable

from services.cloud.controllers.context import Context
from services.cloud.provider import ProviderError, Route, Routes
from tillerman.api.meta import get_condition
from tillerman.api.times import from_seconds, rfc3339
from tillerman.client.workqueue import WorkQueue
from tillerman.pb.k8s import core_v1_pb2 as core

TABLE = "routes"
PERIOD = 60.0


class RouteController:
    name = "cloud-route"

    def __init__(self, context: Context, routes: Routes, *, cluster_cidr: str) -> None:
        self._context = context
        self._routes = routes
        self._cluster_cidr = ipaddress.ip_network(cluster_cidr)
        self._nodes = context.client.resource(core.Node)
        self.queue = WorkQueue(self.name, clock=context.clock)
        context.nodes.add_handler(on_add=self._changed, on_update=self._updated, on_delete=self._changed)

    def _changed(self, _: core.Node) -> None:
        self.queue.add(TABLE)

    def _updated(self, old: core.Node, new: core.Node) -> None:
        if pod_cidrs(old) != pod_cidrs(new) or old.spec.providerID != new.spec.providerID:
            self.queue.add(TABLE)

    async def reconcile(self, key: str) -> float | None:
        """Does all it can before it raises what went wrong."""
        nodes = [node for node in self._context.nodes.list() if not node.metadata.HasField("deletionTimestamp")]
        present = await self._routes.list(nodes)
        missing, stale = difference(nodes, present, self._cluster_cidr)
        for route in stale:
            await self._routes.delete(route)
        failure: ProviderError | None = None
        unreachable: set[str] = set()
        for node, cidr in missing:
            try:
                await self._routes.create(node, cidr)
            except ProviderError as error:
                failure = error
                unreachable.add(node.metadata.name)
                message = f"Could not create route to {cidr} for node {node.metadata.name}: {error}"
                self._context.recorder.event(node, "Warning", "FailedToCreateRoute", message)
        for node in nodes:
            if pod_cidrs(node):
                await self._tell(node, reachable=node.metadata.name not in unreachable)
        if failure is not None:
            raise failure
        return PERIOD

    async def _tell(self, node: core.Node, *, reachable: bool) -> None:
        """The condition NetworkUnavailable, which keeps pods away while there is no route."""
        status, reason, message = (
            ("False", "RouteCreated", "RouteController created a route")
            if reachable
            else ("True", "NoRouteCreated", "RouteController failed to create a route")
        )
        present = get_condition(node.status.conditions, "NetworkUnavailable")
        if present is not None and (present.status, present.reason) == (status, reason):
            return
        now = rfc3339(from_seconds(self._context.clock.time()))
        condition = {
            "type": "NetworkUnavailable",
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        patch = {"status": {"conditions": [condition]}}
        await self._nodes.patch(node.metadata.name, None, patch, type="strategic", subresource="status")


def pod_cidrs(node: core.Node) -> list[str]:
    return list(node.spec.podCIDRs) or ([node.spec.podCIDR] if node.spec.podCIDR else [])


def difference(
    nodes: Iterable[core.Node],
    present: Iterable[Route],
    cluster_cidr: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> tuple[list[tuple[core.Node, str]], list[Route]]:
    """(routes to make, routes to take away). Only what lies in the cluster's range is ours."""
    wanted = {(node.metadata.name, cidr): node for node in nodes for cidr in pod_cidrs(node)}
    ours = [route for route in present if _within(route.cidr, cluster_cidr)]
    there = {(route.node, route.cidr) for route in ours}
    missing = [(node, cidr) for (name, cidr), node in wanted.items() if (name, cidr) not in there]
    return missing, [route for route in ours if (route.node, route.cidr) not in wanted]


def _within(cidr: str, outer: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        inner = ipaddress.ip_network(cidr)
    except ValueError:
        return False
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
