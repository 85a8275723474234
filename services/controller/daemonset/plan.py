"""The DaemonSet controller's decisions: which nodes, which pods to create and which to replace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.controller.deployment.sizes import scaled_value
from services.controller.history import REVISION_LABEL
from services.controller.nodes.health import tolerates
from services.controller.replicaset.plan import is_available
from tillerman.api.pods import is_ready
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import intstr_pb2 as intstr

# What a daemon's pod tolerates besides what its template says: (key, effect).
TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


@dataclass
class DaemonPlan:
    """`create` holds node names, one per pod."""

    create: list[str] = field(default_factory=list)
    delete: list[core.Pod] = field(default_factory=list)
    failed: list[core.Pod] = field(default_factory=list)


def tolerations_of(daemon: apps.DaemonSet) -> list[core.Toleration]:
    spec = daemon.spec.template.spec
    added = [core.Toleration(key=key, operator="Exists", effect=effect) for key, effect in TOLERATED]
    if spec.hostNetwork:
        added.append(
            core.Toleration(key="node.kubernetes.io/network-unavailable", operator="Exists", effect="NoSchedule")
        )
    return [*spec.tolerations, *added]


def should_run(daemon: apps.DaemonSet, node: core.Node) -> tuple[bool, bool]:
    """(whether a pod should be started there, whether one that is there may stay)."""
    spec = daemon.spec.template.spec
    if spec.nodeName and spec.nodeName != node.metadata.name:
        return False, False
    if any(node.metadata.labels.get(key) != value for key, value in spec.nodeSelector.items()):
        return False, False
    required = spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    if spec.affinity.nodeAffinity.HasField("requiredDuringSchedulingIgnoredDuringExecution") and not any(
        term_matches(term, node) for term in required.nodeSelectorTerms
    ):
        return False, False
    tolerations = tolerations_of(daemon)
    untolerated = {
        taint.effect for taint in node.spec.taints if not any(tolerates(one, taint) for one in tolerations)
    } - {"PreferNoSchedule"}
    return not untolerated, "NoExecute" not in untolerated


def term_matches(term: core.NodeSelectorTerm, node: core.Node) -> bool:
    if not term.matchExpressions and not term.matchFields:
        return False
    fields = {"metadata.name": node.metadata.name}
    return all(_matches(one, node.metadata.labels) for one in term.matchExpressions) and all(
        _matches(one, fields) for one in term.matchFields
    )


def _matches(requirement: core.NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    value = values.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            if value is None or not value.lstrip("-").isdigit():
                return False
            bound = int(requirement.values[0])
            return int(value) > bound if requirement.operator == "Gt" else int(value) < bound
    return False


def node_of(pod: core.Pod) -> str:
    """The node a daemon's pod is, or will be, on."""
    if pod.spec.nodeName:
        return pod.spec.nodeName
    required = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    for term in required.nodeSelectorTerms:
        for one in term.matchFields:
            if one.key == "metadata.name" and one.operator == "In" and one.values:
                return one.values[0]
    return ""


def by_node(pods: Sequence[core.Pod]) -> dict[str, list[core.Pod]]:
    result: dict[str, list[core.Pod]] = {}
    for pod in pods:
        result.setdefault(node_of(pod), []).append(pod)
    return result


def plan_daemons(daemon: apps.DaemonSet, nodes: Sequence[core.Node], pods: Sequence[core.Pod]) -> DaemonPlan:
    """One pod per fitting node; failed pods are replaced, surplus ones (the youngest) and misplaced ones go."""
    plan = DaemonPlan()
    placed = by_node(pods)
    for node in nodes:
        start, stay = should_run(daemon, node)
        here = placed.pop(node.metadata.name, [])
        alive = [pod for pod in here if not pod.metadata.HasField("deletionTimestamp")]
        ended = [pod for pod in alive if pod.status.phase in ("Failed", "Succeeded")]
        running = [pod for pod in alive if pod not in ended]
        if not stay:
            plan.delete += alive
            continue
        plan.failed += ended
        if start and not here:
            plan.create.append(node.metadata.name)
        running.sort(key=lambda pod: (not is_ready(pod), pod.metadata.creationTimestamp.seconds, pod.metadata.name))
        keep = 2 if surge_of(daemon, len(nodes)) else 1
        plan.delete += running[keep:]
    for node_name, left in placed.items():
        if node_name:
            # The node is gone; pods without any node are the scheduler's to place.
            plan.delete += [pod for pod in left if not pod.metadata.HasField("deletionTimestamp")]
    plan.delete += plan.failed
    return plan


def surge_of(daemon: apps.DaemonSet, desired: int) -> int:
    rolling = daemon.spec.updateStrategy.rollingUpdate
    if daemon.spec.updateStrategy.type == "OnDelete" or not rolling.HasField("maxSurge"):
        return 0
    return scaled_value(rolling.maxSurge, desired, round_up=True)


def max_unavailable(daemon: apps.DaemonSet, desired: int) -> int:
    rolling = daemon.spec.updateStrategy.rollingUpdate
    one = intstr.IntOrString(type=0, intVal=1)
    value = rolling.maxUnavailable if rolling.HasField("maxUnavailable") else one
    if surge_of(daemon, desired):
        return 0
    return max(scaled_value(value, desired, round_up=True), 1)


def plan_rollout(
    daemon: apps.DaemonSet, nodes: Sequence[core.Node], pods: Sequence[core.Pod], digest: str, now: float
) -> DaemonPlan:
    """Which old pods to replace now. Without surge the old pod goes first; with it, when the new one is available."""
    plan = DaemonPlan()
    wanted = [node.metadata.name for node in nodes if should_run(daemon, node)[0]]
    placed = by_node([pod for pod in pods if not pod.metadata.HasField("deletionTimestamp")])
    min_ready = daemon.spec.minReadySeconds
    surge, room = surge_of(daemon, len(wanted)), max_unavailable(daemon, len(wanted))
    ready_to_go: list[core.Pod] = []
    unavailable = 0
    surging = 0
    for name in wanted:
        here = placed.get(name, [])
        new = [pod for pod in here if pod.metadata.labels.get(REVISION_LABEL) == digest]
        old = [pod for pod in here if pod not in new]
        if surge:
            if old and any(is_available(pod, min_ready, now) for pod in new):
                plan.delete += old
            elif old and new:
                surging += 1
            elif old and surging < surge:
                plan.create.append(name)
                surging += 1
            continue
        available = any(is_available(pod, min_ready, now) for pod in here)
        unavailable += not available
        if old and not available:
            plan.delete += old
        elif old:
            ready_to_go += old
    if not surge:
        plan.delete += ready_to_go[: max(room - unavailable, 0)]
    return plan


def plan_status(
    daemon: apps.DaemonSet, nodes: Sequence[core.Node], pods: Sequence[core.Pod], digest: str, now: float
) -> apps.DaemonSetStatus:
    status = apps.DaemonSetStatus()
    status.CopyFrom(daemon.status)
    placed = by_node([pod for pod in pods if not pod.metadata.HasField("deletionTimestamp")])
    desired = current = misplaced = ready = available = updated = 0
    for node in nodes:
        start, _ = should_run(daemon, node)
        here = placed.get(node.metadata.name, [])
        if not start:
            misplaced += bool(here)
            continue
        desired += 1
        if not here:
            continue
        current += 1
        best = min(here, key=lambda pod: (not is_ready(pod), pod.metadata.creationTimestamp.seconds))
        ready += is_ready(best)
        available += is_available(best, daemon.spec.minReadySeconds, now)
        updated += any(pod.metadata.labels.get(REVISION_LABEL) == digest for pod in here)
    status.desiredNumberScheduled, status.currentNumberScheduled = desired, current
    status.numberMisscheduled, status.numberReady = misplaced, ready
    status.numberAvailable, status.numberUnavailable = available, desired - available
    status.updatedNumberScheduled = updated
    status.observedGeneration = daemon.metadata.generation
    return status
