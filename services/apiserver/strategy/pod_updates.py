"""The few fields of a pod that may change, and how."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import Cause, forbidden, invalid
from services.apiserver.strategy.containers import padded_image
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.masking import take_field, take_node_affinity
from services.apiserver.strategy.pod_annotations import pod_annotation_changes
from tillerman.pb.k8s import core_v1_pb2 as core

_MAY_CHANGE = (
    "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, "
    "`spec.activeDeadlineSeconds` or `spec.tolerations` (only additions to existing tolerations)"
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_TERMS = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
_ONLY_ADDITIONS = "only additions are allowed (no mutations or deletions)"


def pod_changes(new: Any, old: Any) -> list[Cause]:
    """A pod's containers are what they are: only their images, the deadline and more tolerations may change."""
    causes = pod_annotation_changes("metadata.annotations", new.metadata.annotations, old.metadata.annotations)
    for field in ("containers", "initContainers"):
        after, before = getattr(new.spec, field), getattr(old.spec, field)
        if len(after) != len(before):
            return [*causes, forbidden(f"spec.{field}", "pod updates may not add or remove containers")]
        for index, container in enumerate(after):
            causes += padded_image(f"spec.{field}[{index}].image", container.image)
    later = _deadline(new.spec, old.spec)
    causes += later
    if later and new.spec.HasField("activeDeadlineSeconds"):
        return causes
    causes += _only_more_tolerations(new.spec, old.spec)
    causes += _gates(new.spec, old.spec)
    changed = core.PodSpec()
    changed.CopyFrom(new.spec)
    _mask_changeable(changed, old.spec)
    if old.spec.schedulingGates:
        # A gated pod may still narrow where it can go.
        causes += _only_narrower(new.spec, old.spec)
        take_field(changed, old.spec, "nodeSelector")
        take_node_affinity(changed, old.spec)
    if not semantically_equal(changed, old.spec):
        causes.append(forbidden("spec", _MAY_CHANGE))
    return causes


def _mask_changeable(spec: Any, old: Any) -> None:
    """Give every field that may change its old value."""
    for field in ("containers", "initContainers"):
        for container, before in zip(getattr(spec, field), getattr(old, field), strict=True):
            container.image = before.image
    for field in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        take_field(spec, old, field)
    if spec.terminationGracePeriodSeconds == 1 and old.terminationGracePeriodSeconds < 0:
        spec.terminationGracePeriodSeconds = old.terminationGracePeriodSeconds


def _deadline(new: Any, old: Any) -> list[Cause]:
    path = "spec.activeDeadlineSeconds"
    if new.HasField("activeDeadlineSeconds"):
        if not 0 <= new.activeDeadlineSeconds <= 2**31 - 1:
            return [invalid(path, new.activeDeadlineSeconds, "must be between 0 and 2147483647, inclusive")]
        if old.HasField("activeDeadlineSeconds") and old.activeDeadlineSeconds < new.activeDeadlineSeconds:
            return [invalid(path, new.activeDeadlineSeconds, "must be less than or equal to previous value")]
    elif old.HasField("activeDeadlineSeconds"):
        return [invalid(path, 0, "must not update from a positive integer to nil value")]
    return []


def _only_more_tolerations(new: Any, old: Any) -> list[Cause]:
    def without_seconds(toleration: Any) -> bytes:
        copy = core.Toleration()
        copy.CopyFrom(toleration)
        copy.ClearField("tolerationSeconds")
        return bytes(copy.SerializeToString(deterministic=True))

    kept = {without_seconds(t) for t in new.tolerations}
    if all(without_seconds(t) in kept for t in old.tolerations):
        return []
    return [forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")]


def _gates(new: Any, old: Any) -> list[Cause]:
    before = {gate.name for gate in old.schedulingGates}
    return [
        forbidden(f"spec.schedulingGates[{index}]", "only deletion is allowed, but found new scheduling gate")
        for index, gate in enumerate(new.schedulingGates)
        if gate.name not in before
    ]


def _only_narrower(new: Any, old: Any) -> list[Cause]:
    """Every node that a gated pod can go to now is one that it could go to before."""
    causes: list[Cause] = []
    if any(new.nodeSelector.get(key) != value for key, value in old.nodeSelector.items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        causes.append(invalid("spec.nodeSelector", new.nodeSelector, detail))
    before, after = (getattr(spec.affinity.nodeAffinity, _REQUIRED).nodeSelectorTerms for spec in (old, new))
    if before and len(before) != len(after):
        detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [*causes, invalid(_TERMS, after, detail)]
    return causes + [
        invalid(f"{_TERMS}[{index}]", term, _ONLY_ADDITIONS)
        for index, (term, known) in enumerate(zip(after, before, strict=False))
        if not _adds_to(term, known)
    ]


def _adds_to(term: Any, known: Any) -> bool:
    """Whether a term asks for all that it asked for before. An empty one selects nothing, so nothing narrows it."""
    if not known.matchExpressions and not known.matchFields:
        return not term.matchExpressions and not term.matchFields
    return all(
        list(getattr(term, field)[: len(getattr(known, field))]) == list(getattr(known, field))
        for field in ("matchExpressions", "matchFields")
    )
