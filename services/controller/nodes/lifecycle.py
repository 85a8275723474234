"""The node lifecycle controller: notices silent nodes, taints by condition, marks their pods not ready.

Time is measured here, never read from a node: what counts is when this process last saw a Lease or a heartbeat change.
Each node's key comes due exactly when its grace period would end; there is no polling.
"""

from __future__ import annotations

from collections import defaultdict
from typing import ClassVar

from prometheus_client import Counter, Gauge

from services.controller.framework import Controller, ControllerContext
from services.controller.nodes.health import (
    FULL_DISRUPTION,
    EvictionRates,
    needs_eviction_taint,
    ready_status,
    silenced_conditions,
    wanted_taints,
    zone_of,
    zone_state,
)
from tillerman.api.meta import get_condition
from tillerman.api.status import StatusError, is_not_found
from tillerman.api.times import from_seconds
from tillerman.client.batch import BatchOp
from tillerman.pb.k8s import coordination_v1_pb2 as coordination
from tillerman.pb.k8s import core_v1_pb2 as core

NODE_INDEX = "node"
LEASE_NAMESPACE = "kube-node-lease"

EVICTIONS = Counter("node_collector_evictions", "Nodes whose pods are being evicted, by zone.", ["zone"])
ZONE_SIZE = Gauge("node_collector_zone_size", "Nodes per zone.", ["zone"])
ZONE_HEALTH = Gauge("node_collector_zone_health", "Percentage of ready nodes per zone.", ["zone"])
UNHEALTHY = Gauge("node_collector_unhealthy_nodes_in_zone", "Nodes per zone that are not ready.", ["zone"])


class NodeLifecycleController(Controller):
    name = "nodelifecycle"
    workers: ClassVar[int] = 8

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        options = self.options
        self._recorder = context.recorder("node-controller")
        self._rates = EvictionRates(
            options.node_eviction_rate, options.secondary_node_eviction_rate, options.large_cluster_size_threshold
        )
        self._heard: dict[str, float] = {}
        self._next_eviction: dict[str, float] = {}
        self._nodes = self.informer(core.Node)
        self._pods = self.informer(core.Pod)
        self._leases = self.context.informers.informer(coordination.Lease, namespace=LEASE_NAMESPACE)
        self.needs(self._leases)
        self._pods.add_index(NODE_INDEX, lambda pod: (pod.spec.nodeName,) if pod.spec.nodeName else ())
        self._nodes.add_handler(on_add=self._node_added, on_update=self._node_updated, on_delete=self._node_deleted)
        self._leases.add_handler(on_add=self._lease_added, on_update=self._lease_updated)

    def known_keys(self) -> list[str]:
        return [node.metadata.name for node in self._nodes.list()]

    def _node_added(self, node: core.Node) -> None:
        self._heard.setdefault(node.metadata.name, self.clock.monotonic())
        self.enqueue(node)

    def _node_updated(self, old: core.Node, new: core.Node) -> None:
        if _heartbeat(old) != _heartbeat(new) and ready_status(new) != "Unknown":
            self._heard[new.metadata.name] = self.clock.monotonic()
        if old.spec != new.spec or _statuses(old) != _statuses(new):
            self.enqueue(new)

    def _node_deleted(self, node: core.Node) -> None:
        self._heard.pop(node.metadata.name, None)
        if not self.running:
            return
        message = f"Removing Node {node.metadata.name} from Controller"
        self._recorder.event(node, "Normal", "RemovingNode", f"Node {node.metadata.name} event: {message}")

    def _lease_added(self, lease: coordination.Lease) -> None:
        self._heard[lease.metadata.name] = self.clock.monotonic()

    def _lease_updated(self, old: coordination.Lease, new: coordination.Lease) -> None:
        if old.spec.renewTime != new.spec.renewTime:
            self._heard[new.metadata.name] = self.clock.monotonic()

    def _silent_in(self, node: core.Node) -> float:
        """Seconds until the node counts as silent; 0 or less when it does."""
        options = self.options
        reported = get_condition(node.status.conditions, "Ready") is not None
        grace = options.node_monitor_grace_period if reported else options.node_startup_grace_period
        name = node.metadata.name
        return self._heard.setdefault(name, self.clock.monotonic()) + grace - self.clock.monotonic()

    async def reconcile(self, key: str) -> float | None:
        node = self._nodes.get(key)
        if node is None:
            return None
        silent_in = self._silent_in(node)
        if silent_in <= 0:
            node = await self._mark_silent(node)
        wait = await self._taint(node)
        if ready_status(node) not in ("True", ""):
            await self._mark_pods_not_ready(node)
        if silent_in > 0:
            wait = silent_in if wait is None else min(wait, silent_in)
        return wait

    async def _mark_silent(self, node: core.Node) -> core.Node:
        conditions = silenced_conditions(node, self.clock.time())
        if not conditions:
            return node
        changed = core.Node()
        changed.CopyFrom(node)
        replaced = {condition.type: condition for condition in conditions}
        kept = [condition for condition in node.status.conditions if condition.type not in replaced]
        del changed.status.conditions[:]
        changed.status.conditions.extend([*kept, *replaced.values()])
        stored = await self.client.resource(core.Node).update_status(changed)
        name = node.metadata.name
        self.log.warning("node is silent", node=name, grace_period=self.options.node_monitor_grace_period)
        self._recorder.event(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        return stored

    async def _taint(self, node: core.Node) -> float | None:
        """Writes the taints that are due; seconds after which a NoExecute taint that has to wait comes due."""
        evict, wait = False, None
        if needs_eviction_taint(node):
            evict, wait = self._may_evict(node)
        taints = wanted_taints(node, self.clock.time(), evict=evict)
        if taints is None:
            return wait
        changed = core.Node()
        changed.CopyFrom(node)
        del changed.spec.taints[:]
        changed.spec.taints.extend(taints)
        await self.client.resource(core.Node).update(changed)
        if evict:
            EVICTIONS.labels(zone_of(node)).inc()
        return wait

    def _may_evict(self, node: core.Node) -> tuple[bool, float | None]:
        """Whether the zone's rate lets this node be emptied now, else the seconds to wait."""
        zones: dict[str, list[str]] = defaultdict(list)
        for other in self._nodes.list():
            status = ready_status(node if other.metadata.name == node.metadata.name else other)
            zones[zone_of(other)].append(status or "True")
        threshold = self.options.unhealthy_zone_threshold
        states = {zone: zone_state(statuses, threshold) for zone, statuses in zones.items()}
        self._measure(zones)
        zone = zone_of(node)
        everything_down = all(state == FULL_DISRUPTION for state in states.values()) and len(self._nodes) > 1
        rate = self._rates.of(states[zone], len(zones[zone]), everything_down=everything_down)
        if rate <= 0:
            return False, 5.0
        now = self.clock.monotonic()
        due = self._next_eviction.get(zone, 0.0)
        if due > now:
            return False, due - now
        self._next_eviction[zone] = now + 1.0 / rate
        return True, None

    def _measure(self, zones: dict[str, list[str]]) -> None:
        for zone, statuses in zones.items():
            ready = sum(1 for status in statuses if status == "True")
            ZONE_SIZE.labels(zone).set(len(statuses))
            ZONE_HEALTH.labels(zone).set(100.0 * ready / len(statuses))
            UNHEALTHY.labels(zone).set(len(statuses) - ready)

    async def _mark_pods_not_ready(self, node: core.Node) -> None:
        """A silent kubelet cannot say so itself: its pods leave their Services."""
        operations: list[BatchOp] = []
        for pod in self._pods.by_index(NODE_INDEX, node.metadata.name):
            ready = get_condition(pod.status.conditions, "Ready")
            if ready is None or ready.status != "True":
                continue
            changed = core.Pod()
            changed.CopyFrom(pod)
            condition = get_condition(changed.status.conditions, "Ready")
            if condition is not None:
                condition.status = "False"
                condition.lastTransitionTime.CopyFrom(from_seconds(self.clock.time()))
            operations.append(BatchOp.update_status(changed))
            self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")
        for outcome in await self.client.batch(operations):
            if isinstance(outcome, StatusError) and not is_not_found(outcome):
                raise outcome


def _heartbeat(node: core.Node) -> tuple[int, ...]:
    return tuple(condition.lastHeartbeatTime.seconds for condition in node.status.conditions)


def _statuses(node: core.Node) -> list[tuple[str, str]]:
    return [(condition.type, condition.status) for condition in node.status.conditions]
