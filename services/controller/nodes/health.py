"""A node's health from its heartbeats: pure functions of conditions, Lease and time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tillerman.api.meta import get_condition
from tillerman.api.times import from_seconds
from tillerman.pb.k8s import core_v1_pb2 as core

UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
# Condition type -> status -> taint key; each with effect NoSchedule.
_CONDITION_TAINTS = {
    "Ready": {"False": NOT_READY, "Unknown": UNREACHABLE},
    "MemoryPressure": {"True": "node.kubernetes.io/memory-pressure"},
    "DiskPressure": {"True": "node.kubernetes.io/disk-pressure"},
    "PIDPressure": {"True": "node.kubernetes.io/pid-pressure"},
    "NetworkUnavailable": {"True": "node.kubernetes.io/network-unavailable"},
}
_NO_SCHEDULE_KEYS = {key for taints in _CONDITION_TAINTS.values() for key in taints.values()} | {UNSCHEDULABLE}
_NO_EXECUTE_KEYS = frozenset({NOT_READY, UNREACHABLE})
_WATCHED_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")

NORMAL, PARTIAL_DISRUPTION, FULL_DISRUPTION = "Normal", "PartialDisruption", "FullDisruption"


def ready_status(node: core.Node) -> str:
    """ "True", "False" or "Unknown"; "" before the kubelet's first report."""
    condition = get_condition(node.status.conditions, "Ready")
    return condition.status if condition is not None else ""


def silenced_conditions(node: core.Node, now: float) -> list[core.NodeCondition]:
    """The conditions to write for a node whose heartbeats have stopped; empty when they say so already."""
    changed: list[core.NodeCondition] = []
    for type in _WATCHED_CONDITIONS:
        known = get_condition(node.status.conditions, type)
        if known is None:
            changed.append(
                core.NodeCondition(
                    type=type,
                    status="Unknown",
                    reason="NodeStatusNeverUpdated",
                    message="Kubelet never posted node status.",
                    lastHeartbeatTime=node.metadata.creationTimestamp,
                    lastTransitionTime=from_seconds(now),
                )
            )
        elif known.status != "Unknown":
            condition = core.NodeCondition()
            condition.CopyFrom(known)
            condition.status = "Unknown"
            condition.reason = "NodeStatusUnknown"
            condition.message = "Kubelet stopped posting node status."
            condition.lastTransitionTime.CopyFrom(from_seconds(now))
            changed.append(condition)
    return changed


def wanted_taints(node: core.Node, now: float, *, evict: bool) -> list[core.Taint] | None:
    """The node's taints as its conditions ask for; None when it has them. Taints of others stay.

    Without `evict`, a NoExecute taint that is not there yet is not added: the zone's eviction rate decides when.
    """
    no_schedule: list[str] = []
    for condition in node.status.conditions:
        key = _CONDITION_TAINTS.get(condition.type, {}).get(condition.status)
        if key is not None:
            no_schedule.append(key)
    if not ready_status(node) and any(t.key == NOT_READY and t.effect == "NoSchedule" for t in node.spec.taints):
        # A new node stays as admission marked it until its kubelet has reported.
        no_schedule.append(NOT_READY)
    if node.spec.unschedulable:
        no_schedule.append(UNSCHEDULABLE)
    no_execute = _CONDITION_TAINTS["Ready"].get(ready_status(node))
    present = {(taint.key, taint.effect): taint for taint in node.spec.taints}
    result = [taint for taint in node.spec.taints if not _is_ours(taint)]
    for key in no_schedule:
        taint = present.get((key, "NoSchedule"))
        if taint is None:
            taint = core.Taint(key=key, effect="NoSchedule")
            if key != UNSCHEDULABLE:
                taint.timeAdded.CopyFrom(from_seconds(now))
        result.append(taint)
    if no_execute is not None:
        taint = present.get((no_execute, "NoExecute"))
        if taint is not None:
            result.append(taint)
        elif evict:
            result.append(core.Taint(key=no_execute, effect="NoExecute", timeAdded=from_seconds(now)))
    before = {(taint.key, taint.effect, taint.value) for taint in node.spec.taints}
    return None if {(taint.key, taint.effect, taint.value) for taint in result} == before else result


def needs_eviction_taint(node: core.Node) -> bool:
    """Whether the node should have a NoExecute taint for its Ready condition, and has not."""
    key = _CONDITION_TAINTS["Ready"].get(ready_status(node))
    return key is not None and not any(t.key == key and t.effect == "NoExecute" for t in node.spec.taints)


def _is_ours(taint: core.Taint) -> bool:
    if taint.effect == "NoSchedule":
        return taint.key in _NO_SCHEDULE_KEYS
    return taint.effect == "NoExecute" and taint.key in _NO_EXECUTE_KEYS


def zone_of(node: core.Node) -> str:
    labels = node.metadata.labels
    region = labels.get("topology.kubernetes.io/region", "")
    return f"{region}:{labels.get('topology.kubernetes.io/zone', '')}"


def zone_state(statuses: Iterable[str], threshold: float) -> str:
    """How a zone fares, from its nodes' Ready statuses. `threshold` is a fraction of nodes."""
    counted = list(statuses)
    down = sum(1 for status in counted if status != "True")
    if counted and down == len(counted):
        return FULL_DISRUPTION
    if down > 2 and down / len(counted) >= threshold:
        return PARTIAL_DISRUPTION
    return NORMAL


@dataclass(frozen=True)
class EvictionRates:
    """Nodes per second."""

    normal: float
    secondary: float
    large_cluster: int

    def of(self, state: str, nodes: int, *, everything_down: bool) -> float:
        """0 means that nothing is emptied. When every zone is down, the fault is more likely on this side."""
        if everything_down:
            return 0.0
        if state == PARTIAL_DISRUPTION:
            return self.secondary if nodes > self.large_cluster else 0.0
        return self.normal


def tolerated_seconds(
    taints: Sequence[core.Taint], tolerations: Sequence[core.Toleration]
) -> tuple[bool, float | None]:
    """(whether all NoExecute taints are tolerated, for how many seconds). None is for ever; 0 or less is not at all."""
    shortest: float | None = None
    for taint in taints:
        matching = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        if not matching:
            return False, 0.0
        for toleration in matching:
            if toleration.HasField("tolerationSeconds"):
                seconds = max(float(toleration.tolerationSeconds), 0.0)
                shortest = seconds if shortest is None else min(shortest, seconds)
    return True, shortest


def tolerates(toleration: core.Toleration, taint: core.Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    operator = toleration.operator or "Equal"
    if not toleration.key and operator != "Exists":
        return False
    return operator == "Exists" or toleration.value == taint.value
