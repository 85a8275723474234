"""A Deployment's status: counts, and the conditions Available, Progressing and ReplicaFailure in Kubernetes' words."""

from __future__ import annotations

from services.controller.deployment.revisions import ReplicaSets
from services.controller.deployment.sizes import available_total, min_available, replicas_of, spec_total
from tillerman.api.meta import get_condition
from tillerman.api.times import from_seconds, to_seconds
from tillerman.pb.k8s import apps_v1_pb2 as apps

# spec.progressDeadlineSeconds of this size means that there is none.
_NO_DEADLINE = 2**31 - 1


def progress_deadline(deployment: apps.Deployment) -> int | None:
    """Seconds; None when the Deployment has no deadline."""
    spec = deployment.spec
    if not spec.HasField("progressDeadlineSeconds") or spec.progressDeadlineSeconds == _NO_DEADLINE:
        return None
    return spec.progressDeadlineSeconds


def set_condition(status: apps.DeploymentStatus, type: str, value: str, reason: str, message: str, now: float) -> None:
    """Sets a condition in place; one of the same status and reason stays untouched."""
    known = get_condition(status.conditions, type)
    if known is not None and known.status == value and known.reason == reason:
        return
    condition = apps.DeploymentCondition(
        type=type,
        status=value,
        lastUpdateTime=from_seconds(now),
        lastTransitionTime=from_seconds(now),
        reason=reason,
        message=message,
    )
    if known is not None and known.status == value:
        condition.lastTransitionTime.CopyFrom(known.lastTransitionTime)
    remove_condition(status, type)
    status.conditions.append(condition)


def remove_condition(status: apps.DeploymentStatus, type: str) -> None:
    kept = [condition for condition in status.conditions if condition.type != type]
    if len(kept) != len(status.conditions):
        del status.conditions[:]
        status.conditions.extend(kept)


def counted_status(deployment: apps.Deployment, sets: ReplicaSets, now: float) -> apps.DeploymentStatus:
    """The counts and the condition Available; other conditions as they are."""
    status = apps.DeploymentStatus()
    status.CopyFrom(deployment.status)
    available = available_total(sets.all)
    status.observedGeneration = deployment.metadata.generation
    status.replicas = sum(rs.status.replicas for rs in sets.all)
    status.updatedReplicas = sets.new.status.replicas if sets.new is not None else 0
    status.readyReplicas = sum(rs.status.readyReplicas for rs in sets.all)
    status.availableReplicas = available
    status.unavailableReplicas = max(spec_total(sets.all) - available, 0)
    if available >= min_available(deployment):
        message = "Deployment has minimum availability."
        set_condition(status, "Available", "True", "MinimumReplicasAvailable", message, now)
    else:
        message = "Deployment does not have minimum availability."
        set_condition(status, "Available", "False", "MinimumReplicasUnavailable", message, now)
    return status


def is_complete(deployment: apps.Deployment, status: apps.DeploymentStatus) -> bool:
    desired = replicas_of(deployment)
    return (
        status.updatedReplicas == desired
        and status.replicas == desired
        and status.availableReplicas == desired
        and status.observedGeneration >= deployment.metadata.generation
    )


def is_progressing(old: apps.DeploymentStatus, new: apps.DeploymentStatus) -> bool:
    return (
        new.updatedReplicas > old.updatedReplicas
        or new.replicas - new.updatedReplicas < old.replicas - old.updatedReplicas
        or new.readyReplicas > old.readyReplicas
        or new.availableReplicas > old.availableReplicas
    )


def is_timed_out(deployment: apps.Deployment, status: apps.DeploymentStatus, now: float) -> bool:
    condition = get_condition(status.conditions, "Progressing")
    deadline = progress_deadline(deployment)
    if condition is None or deadline is None or condition.reason == "NewReplicaSetAvailable":
        return False
    if condition.reason == "ProgressDeadlineExceeded":
        return True
    return to_seconds(condition.lastUpdateTime) + deadline < now


def rollout_status(deployment: apps.Deployment, sets: ReplicaSets, now: float) -> apps.DeploymentStatus:
    """The whole status during and after a rollout."""
    status = counted_status(deployment, sets, now)
    progressing = get_condition(deployment.status.conditions, "Progressing")
    has_deadline = progress_deadline(deployment) is not None
    if not has_deadline:
        remove_condition(status, "Progressing")
    was_complete = (
        status.replicas == status.updatedReplicas
        and progressing is not None
        and progressing.reason == "NewReplicaSetAvailable"
    )
    if has_deadline and not was_complete:
        _set_progress(deployment, sets, status, now)
    _set_replica_failure(sets, status, now)
    return status


def _set_progress(deployment: apps.Deployment, sets: ReplicaSets, status: apps.DeploymentStatus, now: float) -> None:
    subject = (
        f'ReplicaSet "{sets.new.metadata.name}"' if sets.new is not None else f'Deployment "{deployment.metadata.name}"'
    )
    if is_complete(deployment, status):
        message = f"{subject} has successfully progressed."
        set_condition(status, "Progressing", "True", "NewReplicaSetAvailable", message, now)
    elif is_progressing(deployment.status, status):
        known = get_condition(status.conditions, "Progressing")
        since = known.lastTransitionTime.seconds if known is not None and known.status == "True" else None
        remove_condition(status, "Progressing")
        set_condition(status, "Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
        if since is not None:
            condition = get_condition(status.conditions, "Progressing")
            if condition is not None:
                condition.lastTransitionTime.CopyFrom(from_seconds(since))
    elif is_timed_out(deployment, status, now):
        message = f"{subject} has timed out progressing."
        set_condition(status, "Progressing", "False", "ProgressDeadlineExceeded", message, now)


def _set_replica_failure(sets: ReplicaSets, status: apps.DeploymentStatus, now: float) -> None:
    candidates = [sets.new, *sets.old] if sets.new is not None else list(sets.old)
    for replica_set in candidates:
        condition = get_condition(replica_set.status.conditions, "ReplicaFailure")
        if condition is not None and condition.status == "True":
            set_condition(status, "ReplicaFailure", "True", condition.reason, condition.message, now)
            return
    remove_condition(status, "ReplicaFailure")


def pause_condition(deployment: apps.Deployment) -> tuple[str, str] | None:
    """(reason, message) to set on Progressing (status Unknown) after a pause or a resume; None when it is told."""
    condition = get_condition(deployment.status.conditions, "Progressing")
    if progress_deadline(deployment) is None:
        return None
    if condition is not None and condition.reason == "ProgressDeadlineExceeded":
        return None
    told = condition is not None and condition.reason == "DeploymentPaused"
    if deployment.spec.paused and not told:
        return ("DeploymentPaused", "Deployment is paused")
    if not deployment.spec.paused and told:
        return ("DeploymentResumed", "Deployment is resumed")
    return None


def seconds_to_deadline(deployment: apps.Deployment, status: apps.DeploymentStatus, now: float) -> float | None:
    """Seconds after which a stuck rollout must be looked at again; None when it cannot time out."""
    condition = get_condition(status.conditions, "Progressing")
    deadline = progress_deadline(deployment)
    if condition is None or deadline is None or is_complete(deployment, status):
        return None
    if condition.reason in ("ProgressDeadlineExceeded", "NewReplicaSetAvailable"):
        return None
    return max(to_seconds(condition.lastUpdateTime) + deadline - now, 0.0) + 1.0
