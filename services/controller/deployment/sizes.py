"""How many: the arithmetic of maxSurge, maxUnavailable and proportional scaling, in Kubernetes' rounding."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import intstr_pb2 as intstr

DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"


def scaled_value(value: intstr.IntOrString, total: int, *, round_up: bool) -> int:
    """An absolute number as it is, or a percentage of `total`. ValueError when the string is no percentage."""
    if value.type == 0:
        return value.intVal
    if not value.strVal.endswith("%"):
        raise ValueError(f"invalid value for IntOrString: {value.strVal!r} is neither a number nor a percentage")
    product = int(value.strVal[:-1]) * total
    return -(-product // 100) if round_up else product // 100


def replicas_of(deployment: apps.Deployment) -> int:
    return deployment.spec.replicas if deployment.spec.HasField("replicas") else 1


def is_rolling(deployment: apps.Deployment) -> bool:
    return deployment.spec.strategy.type != "Recreate"


def fenceposts(deployment: apps.Deployment) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as pod counts; surge rounds up, unavailable down, and they are never both 0."""
    rolling = deployment.spec.strategy.rollingUpdate
    quarter = intstr.IntOrString(type=1, strVal="25%")
    replicas = replicas_of(deployment)
    surge = scaled_value(rolling.maxSurge if rolling.HasField("maxSurge") else quarter, replicas, round_up=True)
    unavailable = scaled_value(
        rolling.maxUnavailable if rolling.HasField("maxUnavailable") else quarter, replicas, round_up=False
    )
    return (0, 1) if surge == 0 and unavailable == 0 else (surge, unavailable)


def max_surge(deployment: apps.Deployment) -> int:
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: apps.Deployment) -> int:
    if not is_rolling(deployment) or replicas_of(deployment) == 0:
        return 0
    return min(fenceposts(deployment)[1], replicas_of(deployment))


def min_available(deployment: apps.Deployment) -> int:
    return replicas_of(deployment) - max_unavailable(deployment)


def spec_total(replica_sets: Iterable[apps.ReplicaSet]) -> int:
    return sum(replica_set.spec.replicas for replica_set in replica_sets)


def available_total(replica_sets: Iterable[apps.ReplicaSet]) -> int:
    return sum(replica_set.status.availableReplicas for replica_set in replica_sets)


def new_replica_set_size(
    deployment: apps.Deployment, all_sets: Iterable[apps.ReplicaSet], new_set: apps.ReplicaSet | None
) -> int:
    """The size the new ReplicaSet may have now, given what all of them hold."""
    desired = replicas_of(deployment)
    if not is_rolling(deployment):
        return desired
    current = new_set.spec.replicas if new_set is not None else 0
    room = desired + max_surge(deployment) - spec_total(all_sets)
    if room <= 0:
        return current
    return current + min(room, desired - current)


def proportional_sizes(
    deployment: apps.Deployment, active: Iterable[apps.ReplicaSet]
) -> list[tuple[apps.ReplicaSet, int]]:
    """New sizes when a rolling Deployment is resized half-way: each ReplicaSet keeps its share."""
    desired, surge = replicas_of(deployment), max_surge(deployment)
    allowed = desired + surge if desired > 0 else 0
    sets = list(active)
    to_add = allowed - spec_total(sets)
    if to_add > 0:
        sets.sort(key=lambda rs: (-rs.spec.replicas, -rs.metadata.creationTimestamp.seconds, rs.metadata.name))
    else:
        sets.sort(key=lambda rs: (-rs.spec.replicas, rs.metadata.creationTimestamp.seconds, rs.metadata.name))
    sizes: list[int] = []
    added = 0
    for replica_set in sets:
        share = _share(replica_set, deployment, to_add, added) if to_add else 0
        added += share
        sizes.append(replica_set.spec.replicas + share)
    if sizes and to_add:
        sizes[0] = max(sizes[0] + to_add - added, 0)
    return list(zip(sets, sizes, strict=True))


def _share(replica_set: apps.ReplicaSet, deployment: apps.Deployment, to_add: int, added: int) -> int:
    if replica_set.spec.replicas == 0 or to_add == added:
        return 0
    fraction = _fraction(replica_set, deployment)
    allowed = to_add - added
    return min(fraction, allowed) if to_add > 0 else max(fraction, allowed)


def _fraction(replica_set: apps.ReplicaSet, deployment: apps.Deployment) -> int:
    desired = replicas_of(deployment)
    current = replica_set.spec.replicas
    if desired == 0:
        return -current
    noted = replica_set.metadata.annotations.get(MAX_REPLICAS, "")
    before = int(noted) if noted.isdigit() else deployment.status.replicas
    if before == 0:
        return 0
    return _round_half_up(current * (desired + max_surge(deployment)) / before) - current


def _round_half_up(value: float) -> int:
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)
