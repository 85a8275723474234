"""storage.k8s.io: StorageClass, CSIDriver, CSINode, VolumeAttachment."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    not_supported,
    qualified_name,
    required,
    too_long,
)
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.masking import keep_metadata
from services.apiserver.strategy.names import dns_subdomain
from services.apiserver.strategy.persistent_volumes import inline_volume_spec
from services.apiserver.strategy.volume_sources import csi_driver_name
from tillerman.pb.k8s import storage_v1_pb2 as storage

_PARAMETERS_LIMIT, _PARAMETER_COUNT = 256 * 1024, 512
_ERROR_LIMIT = 1024
_SHORTEST_PERIOD = 10
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
_LIFECYCLES = ("Persistent", "Ephemeral")
_ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


def _validate_class(storage_class: Any) -> list[Cause]:
    causes: list[Cause] = []
    if not storage_class.provisioner:
        causes.append(required("provisioner"))
    else:
        problems = qualified_name(storage_class.provisioner.lower())
        causes += invalid_all("provisioner", storage_class.provisioner, problems)
    causes += _parameters(storage_class.parameters)
    if storage_class.reclaimPolicy and storage_class.reclaimPolicy not in ("Delete", "Retain"):
        causes.append(not_supported("reclaimPolicy", storage_class.reclaimPolicy, ["Delete", "Retain"]))
    if not storage_class.HasField("volumeBindingMode"):
        causes.append(required("volumeBindingMode"))
    elif storage_class.volumeBindingMode not in _BINDING_MODES:
        causes.append(not_supported("volumeBindingMode", storage_class.volumeBindingMode, _BINDING_MODES))
    # Kubernetes starts from as many empty terms as were given: an empty one is a duplicate of each.
    known: list[dict[str, set[str]]] = [{} for _ in storage_class.allowedTopologies]
    for index, term in enumerate(storage_class.allowedTopologies):
        path = f"allowedTopologies[{index}]"
        causes += _topology(path, term)
        asked = {requirement.key: set(requirement.values) for requirement in term.matchLabelExpressions}
        causes += [duplicate(f"{path}.matchLabelExpressions", "") for other in known if other == asked]
        known.append(asked)
    return causes


def _parameters(parameters: Any) -> list[Cause]:
    causes: list[Cause] = []
    if len(parameters) > _PARAMETER_COUNT:
        causes.append(Cause("parameters", "FieldValueTooLong", "Too long: must have at most 512 bytes"))
    if any(not key for key in parameters):
        causes.append(invalid("parameters", "", "field can not be empty."))
    if sum(len(k.encode()) + len(v.encode()) for k, v in parameters.items()) > _PARAMETERS_LIMIT:
        causes.append(too_long("parameters", _PARAMETERS_LIMIT))
    return causes


def _topology(path: str, term: Any) -> list[Cause]:
    causes: list[Cause] = []
    keys: set[str] = set()
    for index, requirement in enumerate(term.matchLabelExpressions):
        where = f"{path}.matchLabelExpressions[{index}]"
        if not requirement.values:
            causes.append(required(f"{where}.values"))
        seen: set[str] = set()
        for position, value in enumerate(requirement.values):
            if value in seen:
                causes.append(duplicate(f"{where}.values[{position}]", value))
            seen.add(value)
        causes += invalid_all(f"{where}.key", requirement.key, qualified_name(requirement.key))
        if requirement.key in keys:
            causes.append(duplicate(f"{where}.key", requirement.key))
        keys.add(requirement.key)
    return causes


def _update_class(new: Any, old: Any) -> list[Cause]:
    causes: list[Cause] = []
    if dict(new.parameters) != dict(old.parameters):
        causes.append(forbidden("parameters", "updates to parameters are forbidden."))
    causes += [
        forbidden(field, f"updates to {field} are forbidden.")
        for field in ("provisioner", "reclaimPolicy")
        if getattr(new, field) != getattr(old, field)
    ]
    return causes + immutable("volumeBindingMode", new.volumeBindingMode, old.volumeBindingMode)


def _validate_driver(driver: Any) -> list[Cause]:
    spec = driver.spec
    causes = csi_driver_name("metadata.name", driver.metadata.name) if driver.metadata.name else []
    if not spec.HasField("attachRequired"):
        causes.append(required("spec.attachedRequired"))
    if not spec.HasField("podInfoOnMount"):
        causes.append(required("spec.podInfoOnMount"))
    for mode in spec.volumeLifecycleModes:
        if mode not in _LIFECYCLES:
            causes.append(not_supported("spec.volumeLifecycleModes", mode, _LIFECYCLES))
    if spec.HasField("fsGroupPolicy") and spec.fsGroupPolicy not in _GROUP_POLICIES:
        causes.append(not_supported("spec.fsGroupPolicy", spec.fsGroupPolicy, _GROUP_POLICIES))
    period = spec.nodeAllocatableUpdatePeriodSeconds
    if spec.HasField("nodeAllocatableUpdatePeriodSeconds") and period < _SHORTEST_PERIOD:
        detail = f"must be greater than or equal to {_SHORTEST_PERIOD} seconds"
        causes.append(invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, detail))
    audiences: set[str] = set()
    for index, request in enumerate(spec.tokenRequests):
        path = f"spec.tokenRequests[{index}]"
        if request.audience in audiences:
            causes.append(duplicate(f"{path}.audience", request.audience))
            continue
        audiences.add(request.audience)
        seconds = request.expirationSeconds
        if request.HasField("expirationSeconds") and seconds < 600:
            detail = "may not specify a duration less than 10 minutes"
            causes.append(invalid(f"{path}.expirationSeconds", seconds, detail))
        elif seconds > 1 << 32:
            detail = "may not specify a duration larger than 2^32 seconds"
            causes.append(invalid(f"{path}.expirationSeconds", seconds, detail))
    return causes


def _update_driver(new: Any, old: Any) -> list[Cause]:
    causes = immutable("spec.attachedRequired", new.spec.attachRequired, old.spec.attachRequired)
    after, before = list(new.spec.volumeLifecycleModes), list(old.spec.volumeLifecycleModes)
    return causes + immutable("spec.volumeLifecycleModes", after, before)


def _validate_csi_node(node: Any) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, driver in enumerate(node.spec.drivers):
        path = f"spec.drivers[{index}]"
        causes += csi_driver_name(f"{path}.name", driver.name)
        if not driver.nodeID:
            causes.append(required(f"{path}.nodeID"))
        elif len(driver.nodeID) > 256:
            causes.append(invalid(f"{path}.nodeID", driver.nodeID, "must be 256 characters or less"))
        if driver.name in names:
            causes.append(duplicate(f"{path}.name", driver.name))
        names.add(driver.name)
        keys: set[str] = set()
        for key in driver.topologyKeys:
            if not key:
                causes.append(required(path, driver.name))
            if key in keys:
                causes.append(duplicate(path, key))
            keys.add(key)
            causes += invalid_all(path, key, qualified_name(key))
        if driver.HasField("allocatable") and driver.allocatable.HasField("count") and driver.allocatable.count < 0:
            detail = "must be greater than or equal to 0"
            causes.append(invalid(f"{path}.allocatable.count", driver.allocatable.count, detail))
    return causes


def _update_csi_node(new: Any, old: Any) -> list[Cause]:
    """A driver's entry is put there and removed whole; only how many volumes it can hold may change."""
    before = {driver.name: _without_allocatable(driver) for driver in old.spec.drivers}
    return [
        invalid("CSINodeDriver", driver, "field is immutable")
        for driver in new.spec.drivers
        if driver.name in before and not semantically_equal(_without_allocatable(driver), before[driver.name])
    ]


def _without_allocatable(driver: Any) -> Any:
    bare = type(driver)()
    bare.CopyFrom(driver)
    bare.ClearField("allocatable")
    return bare


def _validate_attachment(attachment: Any) -> list[Cause]:
    """Kubernetes checks the driver's and the volume's names twice, and tells both times."""
    spec, source = attachment.spec, attachment.spec.source
    causes = [] if spec.attacher else [required("spec.attacher")]
    causes += _attachment_source("spec.source", source)
    causes += invalid_all("spec.nodeName", spec.nodeName, dns_subdomain(spec.nodeName))
    causes += csi_driver_name("spec.attacher", spec.attacher)
    if source.HasField("persistentVolumeName"):
        name = source.persistentVolumeName
        causes += invalid_all("spec.source.persistentVolumeName", name, dns_subdomain(name))
    return causes


def _attachment_source(path: str, source: Any) -> list[Cause]:
    named, inline = source.HasField("persistentVolumeName"), source.HasField("inlineVolumeSpec")
    if not named and not inline:
        return [required(path, _ONE_SOURCE)]
    if named and inline:
        return [forbidden(path, _ONE_SOURCE)]
    if inline:
        return inline_volume_spec(f"{path}.inlineVolumeSpec", source.inlineVolumeSpec)
    if not source.persistentVolumeName:
        return [required(f"{path}.persistentVolumeName", "must specify non empty persistentVolumeName")]
    return []


def _attachment_status(new: Any, old: Any) -> list[Cause]:
    causes: list[Cause] = []
    size = sum(len(k.encode()) + len(v.encode()) for k, v in new.status.attachmentMetadata.items())
    if size > _PARAMETERS_LIMIT:
        causes.append(too_long("status.attachmentMetadata", _PARAMETERS_LIMIT))
    return causes + [
        too_long(f"status.{field}.message", _ERROR_LIMIT)
        for field in ("attachError", "detachError")
        if len(getattr(new.status, field).message) > _ERROR_LIMIT
    ]


def _update_attachment(new: Any, old: Any) -> list[Cause]:
    return immutable("spec", new.spec, old.spec)


KINDS = {
    storage.StorageClass: Kind(namespaced=False, validate=_validate_class, validate_update=_update_class),
    storage.CSIDriver: Kind(
        namespaced=False, unconditional_update=False, validate=_validate_driver, validate_update=_update_driver
    ),
    storage.CSINode: Kind(
        namespaced=False, unconditional_update=False, validate=_validate_csi_node, validate_update=_update_csi_node
    ),
    storage.VolumeAttachment: Kind(
        namespaced=False,
        status=True,
        unconditional_update=False,
        update_status=keep_metadata,
        validate=_validate_attachment,
        validate_update=_update_attachment,
        validate_status=_attachment_status,
    ),
}
