"""What to do for a ReplicaSet or a ReplicationController: pure functions of it and the pods it can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.controller.replicaset.ranking import pods_to_delete
from tillerman.api.meta import get_condition
from tillerman.api.pods import is_active, is_ready
from tillerman.api.times import from_seconds, to_seconds
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

# Most pods created or deleted in one reconcile.
BURST = 500


@dataclass(frozen=True)
class ReplicaPlan:
    create: int = 0
    delete: Sequence[core.Pod] = field(default_factory=tuple)


def desired_replicas(replica_set: apps.ReplicaSet) -> int:
    return replica_set.spec.replicas if replica_set.spec.HasField("replicas") else 1


def plan_replicas(
    replica_set: apps.ReplicaSet, pods: Sequence[core.Pod], related: Sequence[core.Pod], now: float
) -> ReplicaPlan:
    """How many pods to create, or which to delete. `pods` are owned; inactive ones are left out here."""
    active = [pod for pod in pods if is_active(pod)]
    surplus = len(active) - desired_replicas(replica_set)
    if surplus < 0:
        return ReplicaPlan(create=min(-surplus, BURST))
    if surplus > 0:
        return ReplicaPlan(delete=pods_to_delete(active, related, min(surplus, BURST), now))
    return ReplicaPlan()


def available_since(pod: core.Pod, min_ready_seconds: int) -> float | None:
    """Epoch seconds from which a ready pod counts as available; None when it is not ready."""
    if not is_ready(pod):
        return None
    condition = get_condition(pod.status.conditions, "Ready")
    since = to_seconds(condition.lastTransitionTime) if condition is not None else 0.0
    return since + min_ready_seconds if min_ready_seconds else since


def is_available(pod: core.Pod, min_ready_seconds: int, now: float) -> bool:
    since = available_since(pod, min_ready_seconds)
    return since is not None and (min_ready_seconds == 0 or since <= now)


def next_available_in(pods: Sequence[core.Pod], min_ready_seconds: int, now: float) -> float | None:
    """Seconds until the next ready pod becomes available; None when none is waiting."""
    if not min_ready_seconds:
        return None
    waits = [since - now for pod in pods if (since := available_since(pod, min_ready_seconds)) and since > now]
    return min(waits, default=None)


def plan_status(
    replica_set: apps.ReplicaSet, pods: Sequence[core.Pod], failure: tuple[str, str] | None, now: float
) -> apps.ReplicaSetStatus:
    """The status for what is seen. `failure` is (reason, message) of a create or delete that was refused."""
    status = type(replica_set.status)()
    status.CopyFrom(replica_set.status)
    active = [pod for pod in pods if is_active(pod)]
    template = replica_set.spec.template.metadata.labels.items()
    status.replicas = len(active)
    status.fullyLabeledReplicas = sum(1 for pod in active if all(pod.metadata.labels.get(k) == v for k, v in template))
    status.readyReplicas = sum(1 for pod in active if is_ready(pod))
    min_ready = replica_set.spec.minReadySeconds
    status.availableReplicas = sum(1 for pod in active if is_available(pod, min_ready, now))
    status.observedGeneration = replica_set.metadata.generation
    _set_failure(status, failure, now)
    return status


def _set_failure(status: apps.ReplicaSetStatus, failure: tuple[str, str] | None, now: float) -> None:
    known = get_condition(status.conditions, "ReplicaFailure")
    if failure is None:
        if known is not None:
            kept = [condition for condition in status.conditions if condition.type != "ReplicaFailure"]
            del status.conditions[:]
            status.conditions.extend(kept)
        return
    if known is None:
        reason, message = failure
        status.conditions.add(
            type="ReplicaFailure",
            status="True",
            lastTransitionTime=from_seconds(now),
            reason=reason,
            message=message,
        )
