"""Rules for metadata, the same for every kind but for the form of the name."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from services.apiserver.strategy.causes import (
    IMMUTABLE,
    Cause,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    label_map,
    non_negative,
    qualified_name,
    required,
    too_long,
)
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns_label
from tillerman.api.status import shown

ANNOTATIONS_LIMIT = 256 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
_FINALIZER_DETAIL = "name is neither a standard finalizer name nor is it fully qualified"


def validate(meta: Any, rules: Kind, *, path: str = "metadata", plain_finalizers: bool = False) -> list[Cause]:
    """What is wrong with a new object's metadata. Custom resources may have `plain_finalizers` (without a domain)."""
    plain = plain_finalizers or rules.plain_finalizers
    return _identity(meta, rules, path) + _contents(meta, path, plain_finalizers=plain)


def validate_own(meta: Any, rules: Kind, *, path: str = "metadata") -> list[Cause]:
    """The part of `validate` that looks at what is the object's own, for one whose likes are valid (see alike.py)."""
    return _identity(meta, rules, path) + _managed_fields(f"{path}.managedFields", meta.managedFields)


def validate_name(name: str, rules: Kind, *, path: str = "metadata") -> list[Cause]:
    if not name:
        return [required(f"{path}.name", "name or generateName is required")]
    return invalid_all(f"{path}.name", name, rules.name(name, False))


def _identity(meta: Any, rules: Kind, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if meta.generateName:
        causes += invalid_all(f"{path}.generateName", meta.generateName, rules.name(meta.generateName, True))
    causes += validate_name(meta.name, rules, path=path)
    if rules.namespaced:
        if not meta.namespace:
            causes.append(required(f"{path}.namespace"))
        else:
            causes += invalid_all(f"{path}.namespace", meta.namespace, _namespace_name(meta.namespace))
    elif meta.namespace:
        causes.append(forbidden(f"{path}.namespace", "not allowed on this type"))
    return causes


@lru_cache(1024)
def _namespace_name(name: str) -> tuple[str, ...]:
    """The same few stand on all objects."""
    return tuple(dns_label(name))


def validate_update(
    new: Any, old: Any, rules: Kind, *, path: str = "metadata", plain_finalizers: bool = False
) -> list[Cause]:
    """What is wrong with replacing one metadata by another (after `carry_over`)."""
    causes: list[Cause] = []
    for field in ("name", "namespace", "uid"):
        causes += immutable(f"{path}.{field}", getattr(new, field), getattr(old, field))
    for field in ("creationTimestamp", "deletionTimestamp"):
        if new.HasField(field) != old.HasField(field) or getattr(new, field).seconds != getattr(old, field).seconds:
            # Go prints a time so, without quotes.
            moment = datetime.fromtimestamp(getattr(new, field).seconds, UTC) if new.HasField(field) else None
            printed = f"{moment:%Y-%m-%d %H:%M:%S} +0000 UTC" if moment is not None else "null"
            message = f"Invalid value: {printed}: {IMMUTABLE}"
            causes.append(Cause(f"{path}.{field}", "FieldValueInvalid", message))
    if new.deletionGracePeriodSeconds != old.deletionGracePeriodSeconds:
        causes += immutable(f"{path}.deletionGracePeriodSeconds", new.deletionGracePeriodSeconds, None)
    if old.HasField("deletionTimestamp"):
        added = sorted(set(new.finalizers).difference(old.finalizers))
        if added:
            detail = "no new finalizers can be added if the object is being deleted, found new finalizers "
            causes.append(forbidden(f"{path}.finalizers", detail + shown(added)))
    return causes + _contents(new, path, plain_finalizers=plain_finalizers or rules.plain_finalizers)


def carry_over(new: Any, old: Any) -> None:
    """Fill what a client may leave out of an update, and put back what it cannot change; works on the whole objects."""
    meta, before = new.metadata, old.metadata
    if not meta.uid:
        meta.uid = before.uid
    # Whoever leaves these out means what they are; the first cannot even be asked to change.
    meta.creationTimestamp.CopyFrom(before.creationTimestamp)
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        if before.HasField(field) and not meta.HasField(field):
            meta.MergeFrom(type(meta)(**{field: getattr(before, field)}))
    meta.ClearField("generation")
    if before.generation:
        meta.generation = before.generation
    meta.ClearField("selfLink")
    if before.selfLink:
        meta.selfLink = before.selfLink


def resource_version_needed() -> Cause:
    """For kinds that cannot be overwritten blindly."""
    return Cause("metadata.resourceVersion", "FieldValueInvalid", "Invalid value: 0x0: must be specified for an update")


def annotation_map(path: str, values: Any) -> list[Cause]:
    """Keys are qualified names in any case; all together at most 256 KiB."""
    causes: list[Cause] = []
    size = 0
    for key, value in values.items():
        causes += invalid_all(path, key, qualified_name(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_LIMIT:
        causes.append(too_long(path, ANNOTATIONS_LIMIT))
    return causes


def _contents(meta: Any, path: str, *, plain_finalizers: bool) -> list[Cause]:
    causes = non_negative(f"{path}.generation", meta.generation) if meta.generation else []
    if meta.labels:
        causes += label_map(f"{path}.labels", meta.labels)
    if meta.annotations:
        causes += annotation_map(f"{path}.annotations", meta.annotations)
    if meta.ownerReferences:
        causes += _owner_references(f"{path}.ownerReferences", meta.ownerReferences)
    if meta.finalizers:
        causes += _finalizers(f"{path}.finalizers", meta.finalizers, plain_allowed=plain_finalizers)
    if meta.managedFields:
        causes += _managed_fields(f"{path}.managedFields", meta.managedFields)
    return causes


def _owner_references(path: str, references: Any) -> list[Cause]:
    causes: list[Cause] = []
    controller = ""
    for owner in references:
        group, _, version = owner.apiVersion.rpartition("/") if owner.apiVersion.count("/") < 2 else ("", "", "")
        for field, value, subject in (
            ("apiVersion", owner.apiVersion if version else "", "version"),
            ("kind", owner.kind, "kind"),
            ("name", owner.name, "name"),
            ("uid", owner.uid, "uid"),
        ):
            if not value:
                causes.append(invalid(f"{path}.{field}", value, f"{subject} must not be empty"))
        if (group, version, owner.kind) == ("", "v1", "Event"):
            causes.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.controller:
            if controller:
                both = f"{controller} and {owner.name}"
                detail = f'Only one reference can have Controller set to true. Found "true" in references for {both}'
                causes.append(invalid(path, references, detail))
            else:
                controller = owner.name
    return causes


def _finalizers(path: str, finalizers: Any, *, plain_allowed: bool) -> list[Cause]:
    causes: list[Cause] = []
    for finalizer in finalizers:
        causes += invalid_all(path, finalizer, qualified_name(finalizer))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        causes.append(invalid(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set"))
    if not plain_allowed:
        for index, finalizer in enumerate(finalizers):
            causes += finalizer_name(f"{path}[{index}]", finalizer)
    return causes


def finalizer_name(path: str, finalizer: str) -> list[Cause]:
    """A finalizer without a domain must be one of Kubernetes' own."""
    if "/" in finalizer or finalizer in _STANDARD_FINALIZERS:
        return []
    return [invalid(path, finalizer, _FINALIZER_DETAIL)]


def _managed_fields(path: str, entries: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, entry in enumerate(entries):
        where = f"{path}[{index}]"
        if entry.operation not in ("Apply", "Update"):
            causes.append(invalid(f"{where}.operation", entry.operation, "must be `Apply` or `Update`"))
        if entry.fieldsType and entry.fieldsType != "FieldsV1":
            causes.append(invalid(f"{where}.fieldsType", entry.fieldsType, "must be `FieldsV1`"))
        if len(entry.manager) > 128:
            causes.append(too_long(f"{where}.manager", 128))
    return causes
