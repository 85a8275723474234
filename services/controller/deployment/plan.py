"""The Deployment controller's decisions: which ReplicaSet gets which size next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.controller.deployment.revisions import ReplicaSets
from services.controller.deployment.sizes import (
    DESIRED_REPLICAS,
    available_total,
    is_rolling,
    min_available,
    new_replica_set_size,
    proportional_sizes,
    replicas_of,
    spec_total,
)
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core


@dataclass(frozen=True)
class Resize:
    replica_set: apps.ReplicaSet
    replicas: int


def is_resized(deployment: apps.Deployment, sets: ReplicaSets) -> bool:
    """Whether spec.replicas changed since the running ReplicaSets were sized."""
    desired = str(replicas_of(deployment))
    return any(rs.metadata.annotations.get(DESIRED_REPLICAS, desired) != desired for rs in sets.active)


def plan_new(deployment: apps.Deployment, sets: ReplicaSets) -> list[Resize]:
    """Grow the new ReplicaSet as far as the surge allows, or shrink it to the desired size."""
    new = sets.new
    desired = replicas_of(deployment)
    if new is None or new.spec.replicas == desired:
        return []
    if new.spec.replicas > desired:
        return [Resize(new, desired)]
    size = new_replica_set_size(deployment, sets.all, new)
    return [Resize(new, size)] if size != new.spec.replicas else []


def plan_old(deployment: apps.Deployment, sets: ReplicaSets) -> list[Resize]:
    """Shrink old ReplicaSets: first what is not available anyway, then as far as availability allows."""
    total = spec_total(sets.all)
    if spec_total(sets.old) == 0:
        return []
    floor = min_available(deployment)
    new_unavailable = sets.new.spec.replicas - sets.new.status.availableReplicas if sets.new is not None else 0
    removable = total - floor - new_unavailable
    if removable <= 0:
        return []
    sizes = {rs.metadata.uid: rs.spec.replicas for rs in sets.old}
    cleaned = 0
    for rs in sets.old:
        unhealthy = sizes[rs.metadata.uid] - rs.status.availableReplicas
        if unhealthy > 0 and cleaned < removable:
            step = min(removable - cleaned, unhealthy)
            sizes[rs.metadata.uid] -= step
            cleaned += step
    spare = available_total(sets.all) - floor
    for rs in sets.old:
        if spare <= 0:
            break
        step = min(sizes[rs.metadata.uid], spare)
        sizes[rs.metadata.uid] -= step
        spare -= step
    return [Resize(rs, sizes[rs.metadata.uid]) for rs in sets.old if sizes[rs.metadata.uid] != rs.spec.replicas]


def plan_scale(deployment: apps.Deployment, sets: ReplicaSets) -> list[Resize]:
    """Sizes after spec.replicas changed, without rolling on. Includes ReplicaSets whose size stays."""
    single = _active_or_latest(sets)
    if single is not None:
        return [Resize(single, replicas_of(deployment))]
    if _is_saturated(deployment, sets.new):
        return [Resize(rs, 0) for rs in sets.old if rs.spec.replicas > 0]
    if is_rolling(deployment):
        return [Resize(rs, size) for rs, size in proportional_sizes(deployment, sets.active)]
    return []


def plan_recreate_old(sets: ReplicaSets) -> list[Resize]:
    return [Resize(rs, 0) for rs in sets.old if rs.spec.replicas > 0]


def old_pods_running(new: apps.ReplicaSet | None, pods: Iterable[tuple[str, core.Pod]]) -> bool:
    """Whether a pod of another ReplicaSet may still run. `pods` are (uid of the owner, pod)."""
    new_uid = new.metadata.uid if new is not None else ""
    return any(uid != new_uid and pod.status.phase not in ("Failed", "Succeeded") for uid, pod in pods)


def _active_or_latest(sets: ReplicaSets) -> apps.ReplicaSet | None:
    """The one ReplicaSet that carries the pods; None when several do."""
    active = sets.active
    if len(active) == 1:
        return active[0]
    if active:
        return None
    if sets.new is not None:
        return sets.new
    return _latest(sets.old)


def _latest(sets: Sequence[apps.ReplicaSet]) -> apps.ReplicaSet | None:
    return max(sets, key=lambda rs: rs.metadata.creationTimestamp.seconds, default=None)


def _is_saturated(deployment: apps.Deployment, new: apps.ReplicaSet | None) -> bool:
    desired = replicas_of(deployment)
    return (
        new is not None
        and new.metadata.annotations.get(DESIRED_REPLICAS) == str(desired)
        and new.spec.replicas == desired
        and new.status.availableReplicas == desired
    )
