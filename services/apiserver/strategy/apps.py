"""Deployment, ReplicaSet, StatefulSet, DaemonSet, ControllerRevision and ReplicationController."""

from __future__ import annotations

import re
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    forbidden,
    immutable,
    invalid,
    non_negative,
    not_supported,
    plain,
    required,
)
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.group_defaults import TEMPLATE_GENERATION
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.masking import take_field
from services.apiserver.strategy.names import dns_label
from services.apiserver.strategy.pod_spec import pod_template, template_metadata
from services.apiserver.strategy.printing import printed
from services.apiserver.strategy.selectors import label_selector
from tillerman.api.selectors import from_map, from_message
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

_MISMATCH = "`selector` does not match template `labels`"
_PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)
_READ_ONLY_DISK = (
    "must be true for replicated pods > 1; GCE PD can only be mounted on multiple machines if it is read-only"
)
_DAEMON_COUNTS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
)
_ONLY_ALWAYS = ["Always"]
_STATEFUL_SET_CHANGEABLE = (
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "persistentVolumeClaimRetentionPolicy",
    "ordinals",
    "revisionHistoryLimit",
)
_STATEFUL_SET_FROZEN = (
    "updates to statefulset spec for fields other than 'replicas', 'template', and 'updateStrategy' are forbidden"
)


def number_or_percent(path: str, value: Any) -> list[Cause]:
    """An IntOrString: not negative, or a percentage."""
    if value.type == 1:
        return [] if re.fullmatch("[0-9]+%", value.strVal) else [invalid(path, value, _PERCENT)]
    return non_negative(path, value.intVal)


def at_most_all(path: str, value: Any) -> list[Cause]:
    """A percentage, if it is one, of no more than 100."""
    if value.type == 1 and re.fullmatch("[0-9]+%", value.strVal) and int(value.strVal[:-1]) > 100:
        return [invalid(path, value, "must not be greater than 100%")]
    return []


def amount_of(value: Any) -> int:
    """The number in an IntOrString, percent or not."""
    return int(value.strVal[:-1]) if value.type == 1 and value.strVal[:-1].isdigit() else int(value.intVal)


def unselected(path: str, spec: Any) -> list[Cause] | None:
    """What is wrong with labels of a template's pods that its own selector does not select (one that is not there
    selects none). None: the selector cannot be read.
    """
    if spec.HasField("selector"):
        try:
            selector = from_message(spec.selector)
        except ValueError:
            return None
        if selector.matches(spec.template.metadata.labels):
            return []
    return [invalid(f"{path}.template.metadata.labels", spec.template.metadata.labels, _MISMATCH)]


def _selector(path: str, spec: Any, kind: str) -> list[Cause]:
    """A selector that must be there and say something."""
    if not spec.HasField("selector"):
        return [required(path)]
    return label_selector(path, spec.selector) + _empty_selector(path, spec, kind)


def _empty_selector(path: str, spec: Any, kind: str) -> list[Cause]:
    if spec.selector.matchLabels or spec.selector.matchExpressions:
        return []
    return [invalid(path, spec.selector, f"empty selector is invalid for {kind}")]


def _kept_running(path: str, pod: Any, kind: str) -> list[Cause]:
    """Pods of a template are replaced when they end, so they do not end by themselves."""
    causes: list[Cause] = []
    if pod.restartPolicy != "Always":
        causes.append(not_supported(f"{path}.restartPolicy", pod.restartPolicy, _ONLY_ALWAYS))
    if pod.HasField("activeDeadlineSeconds"):
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        causes.append(forbidden(f"{path}.activeDeadlineSeconds", detail))
    return causes


def _read_only_disks(path: str, spec: Any) -> list[Cause]:
    """A disk that several nodes mount must be mounted read-only."""
    return [
        invalid(f"{path}.spec.volumes[{index}].gcePersistentDisk.readOnly", False, _READ_ONLY_DISK)
        for index, volume in enumerate(spec.template.spec.volumes)
        if volume.volumeSource.HasField("gcePersistentDisk") and not volume.volumeSource.gcePersistentDisk.readOnly
    ]


def _replicated_template(path: str, spec: Any, kind: str) -> list[Cause]:
    causes = pod_template(path, spec.template)
    if spec.replicas > 1:
        causes += _read_only_disks(path, spec)
    return causes + _kept_running(f"{path}.spec", spec.template.spec, kind)


def _replicas_of_template(spec: Any) -> list[Cause]:
    """The selector and the template of a Deployment or ReplicaSet; what cannot select is not compared with what it
    should select.
    """
    causes = _selector("spec.selector", spec, "deployment")
    strangers = unselected("spec", spec)
    if strangers is None:
        return [*causes, invalid("spec.selector", spec.selector, "invalid label selector")]
    return causes + strangers + _replicated_template("spec.template", spec, "ReplicaSet")


def _validate_deployment(deployment: Any) -> list[Cause]:
    spec = deployment.spec
    causes = non_negative("spec.replicas", spec.replicas) + _replicas_of_template(spec)
    causes += _deployment_strategy("spec.strategy", spec.strategy)
    causes += non_negative("spec.minReadySeconds", spec.minReadySeconds)
    if spec.HasField("revisionHistoryLimit"):
        causes += non_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit)
    if spec.HasField("progressDeadlineSeconds"):
        path = "spec.progressDeadlineSeconds"
        causes += non_negative(path, spec.progressDeadlineSeconds)
        if spec.progressDeadlineSeconds <= spec.minReadySeconds:
            causes.append(invalid(path, spec.progressDeadlineSeconds, "must be greater than minReadySeconds"))
    return causes


def _deployment_strategy(path: str, strategy: Any) -> list[Cause]:
    if strategy.type == "Recreate":
        if not strategy.HasField("rollingUpdate"):
            return []
        detail = "may not be specified when strategy `type` is 'Recreate'"
        return [forbidden(f"{path}.rollingUpdate", detail)]
    if strategy.type != "RollingUpdate":
        return [not_supported(path, printed(strategy) or plain(strategy), ["Recreate", "RollingUpdate"])]
    rolling, where = strategy.rollingUpdate, f"{path}.rollingUpdate"
    causes = number_or_percent(f"{where}.maxUnavailable", rolling.maxUnavailable)
    causes += number_or_percent(f"{where}.maxSurge", rolling.maxSurge)
    if amount_of(rolling.maxUnavailable) == 0 and amount_of(rolling.maxSurge) == 0:
        detail = "may not be 0 when `maxSurge` is 0"
        causes.append(invalid(f"{where}.maxUnavailable", rolling.maxUnavailable, detail))
    return causes + at_most_all(f"{where}.maxUnavailable", rolling.maxUnavailable)


def _update_deployment(new: Any, old: Any) -> None:
    # Annotations are part of what a Deployment's controller acts on.
    if dict(new.metadata.annotations) != dict(old.metadata.annotations):
        new.metadata.generation = old.metadata.generation + 1


def _same_selector(new: Any, old: Any) -> list[Cause]:
    return immutable("spec.selector", new.spec.selector, old.spec.selector)


def _deployment_status(new: Any, old: Any) -> list[Cause]:
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")
    return _replica_status(new.status, counts) + _collisions(new, old)


def _replica_set_status(new: Any, old: Any) -> list[Cause]:
    return _replica_status(new.status, ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"))


def _stateful_set_status(new: Any, old: Any) -> list[Cause]:
    counts = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    return _replica_status(new.status, counts) + _collisions(new, old)


def _replica_status(status: Any, counts: tuple[str, ...]) -> list[Cause]:
    """No count is negative, and no part is greater than the whole."""
    causes: list[Cause] = []
    for field in (*counts, "observedGeneration"):
        causes += non_negative(f"status.{field}", getattr(status, field))
    for field in counts[1:]:
        if field != "unavailableReplicas" and getattr(status, field) > status.replicas:
            causes.append(invalid(f"status.{field}", getattr(status, field), "cannot be greater than status.replicas"))
    if "availableReplicas" in counts and status.availableReplicas > status.readyReplicas:
        detail = "cannot be greater than readyReplicas"
        causes.append(invalid("status.availableReplicas", status.availableReplicas, detail))
    return causes


def _collisions(new: Any, old: Any) -> list[Cause]:
    """How often a name was taken: only ever more."""
    path, count = "status.collisionCount", new.status.collisionCount
    causes = non_negative(path, count)
    if old.status.HasField("collisionCount") and count < old.status.collisionCount:
        causes.append(invalid(path, count, "cannot be decremented"))
    return causes


def _daemon_set_status(new: Any, old: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in _DAEMON_COUNTS:
        causes += non_negative(f"status.{field}", getattr(new.status, field))
    return causes + _collisions(new, old)


def _keep_labels(new: Any, old: Any) -> None:
    new.metadata.labels.clear()
    new.metadata.labels.update(old.metadata.labels)


def _validate_replica_set(replica_set: Any) -> list[Cause]:
    spec = replica_set.spec
    causes = non_negative("spec.replicas", spec.replicas) + non_negative("spec.minReadySeconds", spec.minReadySeconds)
    return causes + _replicas_of_template(spec)


def _validate_stateful_set(stateful_set: Any) -> list[Cause]:
    spec = stateful_set.spec
    causes: list[Cause] = []
    if not spec.podManagementPolicy:
        causes.append(required("spec.podManagementPolicy"))
    elif spec.podManagementPolicy not in ("OrderedReady", "Parallel"):
        detail = "must be 'OrderedReady' or 'Parallel'"
        causes.append(invalid("spec.podManagementPolicy", spec.podManagementPolicy, detail))
    causes += _stateful_set_strategy("spec.updateStrategy", spec.updateStrategy)
    causes += _claim_retention("spec.persistentVolumeClaimRetentionPolicy", spec.persistentVolumeClaimRetentionPolicy)
    causes += non_negative("spec.replicas", spec.replicas) + non_negative("spec.minReadySeconds", spec.minReadySeconds)
    causes += non_negative("spec.ordinals.start", spec.ordinals.start)
    if spec.HasField("revisionHistoryLimit"):
        causes += non_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit)
    causes += _selector("spec.selector", spec, "statefulset")
    strangers = unselected("spec", spec)
    if strangers is None:
        causes.append(invalid("spec.selector", spec.selector))
    else:
        # Kubernetes leaves the rest of the template, and the claims, to those who make pods and claims of them.
        causes += strangers + template_metadata("spec.template", spec.template)
    return causes + _kept_running("spec.template.spec", spec.template.spec, "StatefulSet")


def _claim_retention(path: str, policy: Any) -> list[Cause]:
    return [
        not_supported(f"{path}.{field}", getattr(policy, field), ["Retain", "Delete"])
        for field in ("whenDeleted", "whenScaled")
        if policy.HasField(field) and getattr(policy, field) not in ("Retain", "Delete")
    ]


def _stateful_set_strategy(path: str, strategy: Any) -> list[Cause]:
    if not strategy.type:
        return [required(path)]
    if strategy.type == "OnDelete":
        if not strategy.HasField("rollingUpdate"):
            return []
        detail = "only allowed for updateStrategy 'RollingUpdate'"
        return [invalid(f"{path}.rollingUpdate", strategy.rollingUpdate, detail)]
    if strategy.type != "RollingUpdate":
        return [invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]
    rolling, where = strategy.rollingUpdate, f"{path}.rollingUpdate"
    causes = non_negative(f"{where}.partition", rolling.partition)
    if rolling.HasField("maxUnavailable"):
        where = f"{where}.maxUnavailable"
        causes += number_or_percent(where, rolling.maxUnavailable)
        if amount_of(rolling.maxUnavailable) == 0:
            causes.append(invalid(where, rolling.maxUnavailable, "cannot be 0"))
        causes += at_most_all(where, rolling.maxUnavailable)
    return causes


def _update_stateful_set(new: Any, old: Any) -> list[Cause]:
    masked: Any = apps.StatefulSetSpec()
    masked.CopyFrom(new.spec)
    for field in _STATEFUL_SET_CHANGEABLE:
        take_field(masked, old.spec, field)
    for index, claim in enumerate(masked.volumeClaimTemplates):
        if index < len(old.spec.volumeClaimTemplates):
            claim.status.CopyFrom(old.spec.volumeClaimTemplates[index].status)
    return [] if semantically_equal(masked, old.spec) else [forbidden("spec", _STATEFUL_SET_FROZEN)]


def _create_daemon_set(daemon_set: Any) -> None:
    if daemon_set.metadata.annotations.get(TEMPLATE_GENERATION, "0") == "0":
        daemon_set.metadata.annotations[TEMPLATE_GENERATION] = "1"


def _update_daemon_set(new: Any, old: Any) -> None:
    """The template's own generation, which older controllers still read."""
    known = old.metadata.annotations.get(TEMPLATE_GENERATION, "")
    generation = int(known) if known.isdigit() else 1
    if not semantically_equal(new.spec.template, old.spec.template):
        generation += 1
    new.metadata.annotations[TEMPLATE_GENERATION] = str(generation)


def _update_daemon_set_status(new: Any, old: Any) -> None:
    if TEMPLATE_GENERATION in old.metadata.annotations:
        new.metadata.annotations[TEMPLATE_GENERATION] = old.metadata.annotations[TEMPLATE_GENERATION]


def _validate_daemon_set(daemon_set: Any) -> list[Cause]:
    spec = daemon_set.spec
    # A DaemonSet is not told that it needs a selector, nor that it cannot be read as a whole.
    causes = label_selector("spec.selector", spec.selector) + (unselected("spec", spec) or [])
    if spec.HasField("selector"):
        causes += _empty_selector("spec.selector", spec, "daemonset")
    causes += pod_template("spec.template", spec.template) + _read_only_disks("spec.template", spec)
    causes += _kept_running("spec.template.spec", spec.template.spec, "DaemonSet")
    causes += non_negative("spec.minReadySeconds", spec.minReadySeconds)
    strategy, path = spec.updateStrategy, "spec.updateStrategy"
    if strategy.type == "RollingUpdate":
        rolling, where = strategy.rollingUpdate, f"{path}.rollingUpdate"
        for field in ("maxUnavailable", "maxSurge"):
            causes += number_or_percent(f"{where}.{field}", getattr(rolling, field))
            causes += at_most_all(f"{where}.{field}", getattr(rolling, field))
        unavailable, surge = amount_of(rolling.maxUnavailable), amount_of(rolling.maxSurge)
        if unavailable == 0 and surge == 0:
            causes.append(invalid(f"{where}.maxUnavailable", rolling.maxUnavailable, "cannot be 0"))
        elif unavailable and surge:
            detail = "may not be set when maxUnavailable is non-zero"
            causes.append(invalid(f"{where}.maxSurge", rolling.maxSurge, detail))
    elif strategy.type != "OnDelete":
        causes.append(not_supported(path, printed(strategy) or plain(strategy), ["RollingUpdate", "OnDelete"]))
    if spec.HasField("revisionHistoryLimit"):
        causes += non_negative("spec.revisionHistoryLimit", spec.revisionHistoryLimit)
    return causes


def _validate_revision(revision: Any) -> list[Cause]:
    causes = [] if revision.HasField("data") else [required("data", "data is mandatory")]
    return causes + non_negative("revision", revision.revision)


def _update_revision(new: Any, old: Any) -> list[Cause]:
    return immutable("data", new.data, old.data)


def _validate_replication_controller(controller: Any) -> list[Cause]:
    spec = controller.spec
    causes = non_negative("spec.minReadySeconds", spec.minReadySeconds)
    if not spec.selector:
        causes.append(required("spec.selector"))
    causes += non_negative("spec.replicas", spec.replicas)
    if not spec.HasField("template"):
        return [*causes, required("spec.template")]
    if spec.selector and not from_map(spec.selector).matches(spec.template.metadata.labels):
        causes.append(invalid("spec.template.metadata.labels", spec.template.metadata.labels, _MISMATCH))
    return causes + _replicated_template("spec.template", spec, "ReplicationController")


KINDS = {
    apps.Deployment: Kind(
        status=True,
        generation=True,
        update=_update_deployment,
        update_status=_keep_labels,
        validate=_validate_deployment,
        validate_update=_same_selector,
        validate_status=_deployment_status,
    ),
    apps.ReplicaSet: Kind(
        status=True,
        generation=True,
        validate=_validate_replica_set,
        validate_update=_same_selector,
        validate_status=_replica_set_status,
    ),
    apps.StatefulSet: Kind(
        name=dns_label,
        status=True,
        generation=True,
        validate=_validate_stateful_set,
        validate_update=_update_stateful_set,
        validate_status=_stateful_set_status,
    ),
    apps.DaemonSet: Kind(
        status=True,
        generation=True,
        create=_create_daemon_set,
        update=_update_daemon_set,
        update_status=_update_daemon_set_status,
        validate=_validate_daemon_set,
        validate_update=_same_selector,
        validate_status=_daemon_set_status,
    ),
    apps.ControllerRevision: Kind(validate=_validate_revision, validate_update=_update_revision),
    core.ReplicationController: Kind(
        status=True,
        generation=True,
        validate=_validate_replication_controller,
        validate_status=_replica_set_status,
    ),
}
