"""The life of a definition, as pure steps on the message: its names, whether it is served, and its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.apiserver.crd.definition import ESTABLISHED, NAMES_ACCEPTED, TERMINATING, is_true
from tillerman.api import times
from tillerman.api.meta import get_condition, set_condition
from tillerman.pb.k8s import apiextensions_v1_pb2 as apiextensions

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
APPROVED_BY = "api-approved.kubernetes.io"
CONFORMANT = "KubernetesAPIApprovalPolicyConformant"
# Groups of Kubernetes itself: their definitions say where they were approved.
PROTECTED = ("k8s.io", "kubernetes.io")


def condition(crd: Any, type: str, status: str, reason: str, message: str) -> None:
    set_condition(
        crd.status.conditions,
        apiextensions.CustomResourceDefinitionCondition(
            type=type, status=status, reason=reason, message=message, lastTransitionTime=times.now()
        ),
    )


def protected(group: str) -> bool:
    return any(group == own or group.endswith(f".{own}") for own in PROTECTED)


def mark_terminating(crd: Any) -> None:
    """What a delete leaves: the instances go first, then the definition."""
    crd.metadata.deletionTimestamp.CopyFrom(times.now())
    if FINALIZER not in crd.metadata.finalizers:
        crd.metadata.finalizers.append(FINALIZER)
    message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    condition(crd, TERMINATING, "True", "InstanceDeletionPending", message)


def deletion_due(crd: Any) -> bool:
    """Whether the instances are to be removed now."""
    return crd.metadata.HasField("deletionTimestamp") and FINALIZER in crd.metadata.finalizers


def settle(crd: Any, others: Iterable[Any]) -> None:
    """Brings acceptedNames and the conditions up to date. ``others``: the group's other definitions."""
    _accept_names(crd, others)
    if is_true(crd, NAMES_ACCEPTED) and not is_true(crd, ESTABLISHED):
        condition(crd, ESTABLISHED, "True", "InitialNamesAccepted", "the initial names have been accepted")
    elif get_condition(crd.status.conditions, ESTABLISHED) is None:
        condition(crd, ESTABLISHED, "False", "NotAccepted", "not all names are accepted")
    if protected(crd.spec.group):
        _approve(crd)


def _accept_names(crd: Any, others: Iterable[Any]) -> None:
    """Takes over each name that is free in the group; one that isn't leaves what was accepted before."""
    wanted, accepted = crd.spec.names, crd.status.acceptedNames
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        taken = other.status.acceptedNames
        resources.update([taken.plural, taken.singular, *taken.shortNames])
        kinds.update([taken.kind, taken.listKind])
    reason, problem = "", ""
    for field, used, word in (
        ("plural", resources, "PluralConflict"),
        ("singular", resources, "SingularConflict"),
        ("shortNames", resources, "ShortNamesConflict"),
        ("kind", kinds, "KindConflict"),
        ("listKind", kinds, "ListKindConflict"),
    ):
        found = conflicts(wanted, accepted, field, used)
        if found:
            reason, problem = word, found
        elif field == "shortNames":
            del accepted.shortNames[:]
            accepted.shortNames.extend(wanted.shortNames)
        else:
            setattr(accepted, field, getattr(wanted, field))
    del accepted.categories[:]
    accepted.categories.extend(wanted.categories)
    if problem:
        condition(crd, NAMES_ACCEPTED, "False", reason, problem)
    else:
        condition(crd, NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found")


def conflicts(wanted: Any, accepted: Any, field: str, used: set[str]) -> str:
    """Which of a field's names others have; empty when there is none."""
    if field == "shortNames":
        names = [name for name in wanted.shortNames if name not in accepted.shortNames]
    else:
        names = [getattr(wanted, field)] if getattr(wanted, field) != getattr(accepted, field) else []
    texts = [f'"{name}" is already in use' for name in names if name in used]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""


def _approve(crd: Any) -> None:
    """Where a definition in a group of Kubernetes was approved."""
    state, reason, message = approval(crd.metadata.annotations.get(APPROVED_BY, ""))
    condition(crd, CONFORMANT, state, reason, message)


def approval(annotation: str) -> tuple[str, str, str]:
    """(status, reason, message) of the condition."""
    if not annotation:
        more = "https://github.com/kubernetes/enhancements/pull/1111"
        message = f'protected groups must have approval annotation "{APPROVED_BY}", see {more}'
        return "False", "MissingAnnotation", message
    if annotation.startswith("unapproved"):
        return "False", "UnapprovedAnnotation", f"not approved: {annotation!r}".replace("'", '"')
    if annotation.startswith(("http://", "https://")):
        return "True", "ApprovedAnnotation", f"approved in {annotation}"
    text = f'protected groups must have approval annotation "{APPROVED_BY}" with either a URL or a reason starting with'
    return (
        "False",
        "InvalidAnnotation",
        f'{text} "unapproved", see https://github.com/kubernetes/enhancements/pull/1111',
    )
