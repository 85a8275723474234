"""PersistentVolume and PersistentVolumeClaim."""

from __future__ import annotations

import posixpath
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    not_supported,
    required,
)
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns_subdomain
from services.apiserver.strategy.selectors import label_selector, node_selector
from services.apiserver.strategy.volume_sources import no_backsteps, source_rules
from tillerman.api.quantity import parse_quantity
from tillerman.pb.k8s import core_v1_pb2 as core

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
VOLUME_MODES = ("Block", "Filesystem")
_NO_CLASS = "an empty string is disallowed"
_ONE_SOURCE = "may not specify more than 1 volume type"
_INLINE = "in the context of inline volumes"
_CLAIM_FROZEN = "spec is immutable after creation except resources.requests for bound claims"


def _access_modes(path: str, modes: Any) -> list[Cause]:
    causes = [not_supported(path, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        causes.append(forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return causes


def _validate_volume(volume: Any) -> list[Cause]:
    spec = volume.spec
    causes = _modes_needed("spec", spec)
    if not spec.capacity:
        causes.append(required("spec.capacity"))
    if set(spec.capacity) != {"storage"}:
        causes.append(not_supported("spec.capacity", sorted(spec.capacity), ["storage"]))
    for name, amount in spec.capacity.items():
        if parse_quantity(amount) <= 0:
            causes.append(invalid(f"spec.capacity[{name}]", amount.string, "must be greater than zero"))
    if spec.persistentVolumeReclaimPolicy and spec.persistentVolumeReclaimPolicy not in RECLAIM_POLICIES:
        path = "spec.persistentVolumeReclaimPolicy"
        causes.append(not_supported(path, spec.persistentVolumeReclaimPolicy, RECLAIM_POLICIES))
    if spec.HasField("nodeAffinity"):
        causes += _node_affinity(spec.nodeAffinity)
    causes += _volume_source("spec", spec)
    if spec.storageClassName:
        causes += invalid_all("spec.storageClassName", spec.storageClassName, dns_subdomain(spec.storageClassName))
    if spec.HasField("volumeMode") and spec.volumeMode not in VOLUME_MODES:
        causes.append(not_supported("spec.volumeMode", spec.volumeMode, VOLUME_MODES))
    if spec.HasField("volumeAttributesClassName"):
        causes += _attributes_class(spec)
    return causes


def inline_volume_spec(path: str, spec: Any) -> list[Cause]:
    """A volume that stands in a VolumeAttachment: a CSI driver's, and nothing about how it is claimed."""
    causes = [
        forbidden(f"{path}.{field}", f"may not be specified {_INLINE}")
        for field, given in (
            ("claimRef", spec.HasField("claimRef")),
            ("capacity", spec.capacity),
            ("nodeAffinity", spec.HasField("nodeAffinity")),
            ("storageClassName", spec.storageClassName),
        )
        if given
    ]
    if not spec.persistentVolumeSource.HasField("csi"):
        causes.append(required(f"{path}.csi", f"has to be specified {_INLINE}"))
    causes += _modes_needed(path, spec)
    if spec.persistentVolumeReclaimPolicy not in ("", "Retain"):
        causes.append(forbidden(f"{path}.persistentVolumeReclaimPolicy", f"may only be Retain {_INLINE}"))
    causes += _volume_source(path, spec)
    if spec.HasField("volumeMode") and spec.volumeMode != "Filesystem":
        detail = f"may not specify volumeMode other than Filesystem {_INLINE}"
        causes.append(forbidden(f"{path}.volumeMode", detail))
    return causes


def _modes_needed(path: str, spec: Any) -> list[Cause]:
    causes = [] if spec.accessModes else [required(f"{path}.accessModes")]
    return causes + _access_modes(f"{path}.accessModes", spec.accessModes)


def _attributes_class(spec: Any) -> list[Cause]:
    path, name = "spec.volumeAttributesClassName", spec.volumeAttributesClassName
    causes = invalid_all(path, name, dns_subdomain(name)) if name else [required(path, _NO_CLASS)]
    if not spec.persistentVolumeSource.HasField("csi"):
        causes.append(required("spec.csi", "has to be specified when using volumeAttributesClassName"))
    return causes


def _node_affinity(affinity: Any) -> list[Cause]:
    if not affinity.HasField("required"):
        return [required("spec.nodeAffinity.required", "must specify required node constraints")]
    return node_selector("spec.nodeAffinity.required", affinity.required)


def _volume_source(parent: str, spec: Any) -> list[Cause]:
    source = spec.persistentVolumeSource
    # Kubernetes takes a path on the host for the first of several sources.
    given = sorted((field.name for field, _ in source.ListFields()), key=lambda field: field != "hostPath")
    if not given:
        return [required(parent, "must specify a volume type")]
    name = given[0]
    value, path = getattr(source, name), f"{parent}.{name}"
    causes = source_rules(path, name, value)
    causes += [forbidden(f"{parent}.{other}", _ONE_SOURCE) for other in given[1:]]
    if name == "local":
        if not value.path:
            causes.append(required(f"{path}.path"))
        else:
            causes += no_backsteps(f"{path}.path", value.path)
        if not spec.HasField("nodeAffinity"):
            causes.append(required(f"{parent}.nodeAffinity", "Local volume requires node affinity"))
    elif name == "csi":
        if not value.volumeHandle:
            causes.append(required(f"{path}.volumeHandle"))
        for field in (
            "controllerPublishSecretRef",
            "nodeStageSecretRef",
            "nodePublishSecretRef",
            "controllerExpandSecretRef",
            "nodeExpandSecretRef",
        ):
            if value.HasField(field):
                reference = getattr(value, field)
                causes += [required(f"{path}.{field}.{f}") for f in ("name", "namespace") if not getattr(reference, f)]
    elif name == "hostPath" and _is_root(value.path) and spec.persistentVolumeReclaimPolicy == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        causes.append(forbidden(f"{parent}.persistentVolumeReclaimPolicy", detail))
    return causes


def _is_root(path: str) -> bool:
    return posixpath.normpath(path) in ("/", "//")


def _update_volume(new: Any, old: Any) -> list[Cause]:
    causes: list[Cause] = []
    if not semantically_equal(new.spec.persistentVolumeSource, old.spec.persistentVolumeSource):
        detail = "spec.persistentvolumesource is immutable after creation"
        causes.append(forbidden("spec.persistentvolumesource", detail))
    causes += immutable("spec.volumeMode", new.spec.volumeMode, old.spec.volumeMode)
    if old.spec.HasField("nodeAffinity"):
        causes += immutable("spec.nodeAffinity", new.spec.nodeAffinity, old.spec.nodeAffinity)
    return causes


def _status_needs_version(new: Any, old: Any) -> list[Cause]:
    return [] if new.metadata.resourceVersion else [required("metadata.resourceVersion")]


def claim_spec(path: str, spec: Any) -> list[Cause]:
    """A claim, on its own or in a template."""
    causes: list[Cause] = []
    if not spec.accessModes:
        causes.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    if spec.HasField("selector"):
        causes += label_selector(f"{path}.selector", spec.selector)
    causes += _access_modes(f"{path}.accessModes", spec.accessModes)
    where = f"{path}.resources[storage]"
    if "storage" not in spec.resources.requests:
        causes.append(required(where))
    elif parse_quantity(spec.resources.requests["storage"]) <= 0:
        causes.append(invalid(where, spec.resources.requests["storage"].string, "must be greater than zero"))
    if spec.HasField("storageClassName") and spec.storageClassName:
        causes += invalid_all(f"{path}.storageClassName", spec.storageClassName, dns_subdomain(spec.storageClassName))
    if spec.HasField("volumeMode") and spec.volumeMode not in VOLUME_MODES:
        causes.append(not_supported(f"{path}.volumeMode", spec.volumeMode, VOLUME_MODES))
    if spec.volumeAttributesClassName:
        name = spec.volumeAttributesClassName
        causes += invalid_all(f"{path}.volumeAttributesClassName", name, dns_subdomain(name))
    if spec.HasField("dataSource"):
        for field in ("name", "kind"):
            if not getattr(spec.dataSource, field):
                causes.append(required(f"{path}.dataSource.{field}"))
        if not spec.dataSource.apiGroup and spec.dataSource.kind != "PersistentVolumeClaim":
            detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
            causes.append(invalid(f"{path}.dataSource", spec.dataSource.kind, detail))
    if spec.HasField("dataSourceRef"):
        causes += [
            required(f"{path}.dataSourceRef.{field}")
            for field in ("name", "kind")
            if not getattr(spec.dataSourceRef, field)
        ]
        if not spec.dataSourceRef.apiGroup and spec.dataSourceRef.kind not in ("", "PersistentVolumeClaim"):
            detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
            causes.append(invalid(f"{path}.dataSourceRef", spec.dataSourceRef.kind, detail))
        if spec.HasField("dataSource") and any(
            getattr(spec.dataSource, field) != getattr(spec.dataSourceRef, field) for field in ("kind", "name")
        ):
            causes.append(invalid(f"{path}.dataSource", spec.dataSource, "must match dataSourceRef"))
    return causes


def _validate_claim(claim: Any) -> list[Cause]:
    return claim_spec("spec", claim.spec)


def _update_claim(new: Any, old: Any) -> list[Cause]:
    """A bound claim may grow; the volume and the class may be filled in; nothing else changes."""
    masked = core.PersistentVolumeClaimSpec()
    masked.CopyFrom(new.spec)
    before = old.spec
    if not before.volumeName:
        masked.volumeName = before.volumeName
    if not before.HasField("storageClassName") and new.spec.HasField("storageClassName"):
        masked.ClearField("storageClassName")
    causes: list[Cause] = []
    requests = before.resources.requests
    if old.status.phase == "Bound" and masked.resources.requests and "storage" in requests:
        masked.resources.requests["storage"].CopyFrom(requests["storage"])
    masked.ClearField("volumeAttributesClassName")
    unmasked = core.PersistentVolumeClaimSpec()
    unmasked.CopyFrom(before)
    unmasked.ClearField("volumeAttributesClassName")
    if not semantically_equal(masked, unmasked):
        causes.append(forbidden("spec", _CLAIM_FROZEN))
    if _requested(new.spec) < _requested(before):
        detail = "field can not be less than previous value"
        causes.append(forbidden("spec.resources.requests.storage", detail))
    # Kubernetes itself leaves the spec out of this path.
    causes += immutable("volumeMode", new.spec.volumeMode, before.volumeMode)
    if before.HasField("volumeAttributesClassName") and not new.spec.volumeAttributesClassName:
        to = "an empty string" if new.spec.HasField("volumeAttributesClassName") else "nil"
        path = "spec.volumeAttributesClassName"
        causes.append(forbidden(path, f"update from non-nil value to {to} is forbidden"))
    return causes


def _requested(spec: Any) -> Any:
    requests = spec.resources.requests
    return parse_quantity(requests.get("storage", "0"))


def _claim_status(new: Any, old: Any) -> list[Cause]:
    causes = _status_needs_version(new, old)
    if not new.spec.accessModes:
        causes.append(required("Spec.accessModes"))
    for name, amount in new.status.capacity.items():
        if parse_quantity(amount) < 0:
            causes.append(invalid(f"status.capacity[{name}]", amount.string, "must be greater than or equal to 0"))
    return causes


def _create_phase(obj: Any) -> None:
    obj.status.phase = "Pending"


def _create_claim(claim: Any) -> None:
    _create_phase(claim)
    copy_data_source(claim.spec)


def copy_data_source(spec: Any) -> None:
    """dataSource and dataSourceRef say the same, unless the latter is in another namespace."""
    one, other = spec.HasField("dataSource"), spec.HasField("dataSourceRef")
    if one and not other:
        _copy_reference(spec.dataSource, spec.dataSourceRef)
    elif other and not one and not spec.dataSourceRef.namespace:
        _copy_reference(spec.dataSourceRef, spec.dataSource)


def _copy_reference(source: Any, target: Any) -> None:
    for field in ("apiGroup", "kind", "name"):
        if source.HasField(field):
            setattr(target, field, getattr(source, field))


KINDS = {
    core.PersistentVolume: Kind(
        namespaced=False,
        status=True,
        create=_create_phase,
        validate=_validate_volume,
        validate_update=_update_volume,
        validate_status=_status_needs_version,
    ),
    core.PersistentVolumeClaim: Kind(
        status=True,
        create=_create_claim,
        update=lambda new, _old: copy_data_source(new.spec),
        validate=_validate_claim,
        validate_update=_update_claim,
        validate_status=_claim_status,
    ),
}
