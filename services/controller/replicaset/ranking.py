"""Which pods go first when there are too many. Kubernetes' order: the least useful, then the youngest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from tillerman.api.meta import get_condition
from tillerman.api.pods import is_ready
from tillerman.api.times import to_seconds
from tillerman.pb.k8s import core_v1_pb2 as core

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def deletion_cost(pod: core.Pod) -> int:
    """The annotation pod-deletion-cost as an int32; 0 when it is missing or malformed."""
    text = pod.metadata.annotations.get(DELETION_COST, "")
    try:
        cost = int(text)
    except ValueError:
        return 0
    return cost if -(2**31) <= cost < 2**31 and not text.startswith("+") else 0


def pods_to_delete(pods: Sequence[core.Pod], related: Iterable[core.Pod], count: int, now: float) -> list[core.Pod]:
    """The `count` pods to delete first.

    `related` are all active pods of the same owner's owner (for a Deployment: of all its ReplicaSets), so that nodes
    that hold several of them are thinned first. `now` is in epoch seconds.
    """
    if count >= len(pods):
        return list(pods)
    on_node = Counter(pod.spec.nodeName for pod in related if pod.spec.nodeName)
    return sorted(pods, key=lambda pod: _rank(pod, on_node.get(pod.spec.nodeName, 0), now))[:count]


def _rank(pod: core.Pod, on_node: int, now: float) -> tuple[object, ...]:
    ready = is_ready(pod)
    return (
        bool(pod.spec.nodeName),
        _PHASES.get(pod.status.phase, 0),
        ready,
        deletion_cost(pod),
        -on_node,
        _age_rank(_ready_since(pod), now) if ready else 0,
        tuple(-restarts for restarts in _restarts(pod)),
        _age_rank(to_seconds(pod.metadata.creationTimestamp), now),
        pod.metadata.uid,
    )


def _age_rank(since: float, now: float) -> int:
    """Ages within a factor of two are alike, so that scale-downs do not always hit the newest few."""
    if not since:
        return -1
    return int(math.log2(max((now - since) * 1e9, 1.0)))


def _ready_since(pod: core.Pod) -> float:
    condition = get_condition(pod.status.conditions, "Ready")
    return to_seconds(condition.lastTransitionTime) if condition is not None else 0.0


def _restarts(pod: core.Pod) -> tuple[int, int]:
    """Most restarts among containers, and among init containers that run beside them."""
    sidecars = {container.name for container in pod.spec.initContainers if container.restartPolicy == "Always"}
    return (
        max((status.restartCount for status in pod.status.containerStatuses), default=0),
        max((s.restartCount for s in pod.status.initContainerStatuses if s.name in sidecars), default=0),
    )
