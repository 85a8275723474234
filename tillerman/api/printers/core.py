"""Core kinds without a module of their own: nodes, namespaces, events, configuration, volumes' claims."""

from typing import Any

from tillerman.api import times
from tillerman.api.meta import get_condition
from tillerman.api.printers.ages import UNKNOWN, age, human_duration
from tillerman.api.printers.labels import NONE, container_images, container_names, label_text

ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def node(obj: Any, now: float) -> list[Any]:
    info = obj.status.nodeInfo
    return [
        obj.metadata.name,
        node_state(obj),
        ",".join(sorted(_roles(obj.metadata.labels))) or NONE,
        age(obj.metadata.creationTimestamp, now),
        info.kubeletVersion,
        _address(obj, "InternalIP"),
        _address(obj, "ExternalIP"),
        info.osImage or UNKNOWN,
        info.kernelVersion or UNKNOWN,
        info.containerRuntimeVersion or UNKNOWN,
    ]


def node_state(obj: Any) -> str:
    """`Ready`, `NotReady`, `Unknown`, with `,SchedulingDisabled` when cordoned."""
    ready = get_condition(obj.status.conditions, "Ready")
    state = "Unknown" if ready is None else "Ready" if ready.status == "True" else "NotReady"
    return f"{state},SchedulingDisabled" if obj.spec.unschedulable else state


def _roles(labels: Any) -> set[str]:
    prefix = "node-role.kubernetes.io/"
    roles = {key.removeprefix(prefix) for key in labels if key.startswith(prefix) and key != prefix}
    if labels.get("kubernetes.io/role"):
        roles.add(labels["kubernetes.io/role"])
    return roles


def _address(obj: Any, kind: str) -> str:
    return next((a.address for a in obj.status.addresses if a.type == kind), NONE)


def namespace(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, obj.status.phase, age(obj.metadata.creationTimestamp, now)]


def config_map(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, len(obj.data) + len(obj.binaryData), age(obj.metadata.creationTimestamp, now)]


def secret(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, obj.type, len(obj.data), age(obj.metadata.creationTimestamp, now)]


def service_account(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, len(obj.secrets), age(obj.metadata.creationTimestamp, now)]


def resource_quota(obj: Any, now: float) -> list[Any]:
    requests: list[str] = []
    limits: list[str] = []
    for name, hard in sorted(obj.status.hard.items()):
        used = obj.status.used[name].string if name in obj.status.used else "0"
        (limits if name.startswith("limits.") else requests).append(f"{name}: {used}/{hard.string}")
    return [obj.metadata.name, age(obj.metadata.creationTimestamp, now), ", ".join(requests), ", ".join(limits)]


def replication_controller(obj: Any, now: float) -> list[Any]:
    containers = obj.spec.template.spec.containers
    return [
        obj.metadata.name,
        obj.spec.replicas,
        obj.status.replicas,
        obj.status.readyReplicas,
        age(obj.metadata.creationTimestamp, now),
        container_names(containers),
        container_images(containers),
        label_text(obj.spec.selector),
    ]


def last_seen_seconds(obj: Any) -> float:
    """When a core/v1 event happened last, 0 when nothing says so."""
    if obj.HasField("series") and not times.is_zero(obj.series.lastObservedTime):
        return times.to_seconds(obj.series.lastObservedTime)
    for time in (obj.lastTimestamp, obj.eventTime, obj.firstTimestamp):
        if not times.is_zero(time):
            return times.to_seconds(time)
    return 0.0


def event(obj: Any, now: float) -> list[Any]:
    if "regarding" in obj.DESCRIPTOR.fields_by_name:
        return _new_event(obj, now)
    seen = last_seen_seconds(obj)
    first = obj.firstTimestamp if not times.is_zero(obj.firstTimestamp) else obj.eventTime
    source = ", ".join(p for p in (obj.source.component or obj.reportingComponent, obj.source.host) if p)
    count = obj.series.count if obj.HasField("series") else obj.count
    return [
        human_duration(now - seen) if seen else UNKNOWN,
        obj.type,
        obj.reason,
        f"{obj.involvedObject.kind.lower()}/{obj.involvedObject.name}",
        obj.involvedObject.fieldPath,
        source,
        obj.message.strip(),
        age(first, now),
        count or 1,
        obj.metadata.name,
    ]


def _new_event(obj: Any, now: float) -> list[Any]:
    last = obj.series.lastObservedTime if obj.HasField("series") else obj.deprecatedLastTimestamp
    if times.is_zero(last):
        last = obj.eventTime
    first = obj.deprecatedFirstTimestamp if not times.is_zero(obj.deprecatedFirstTimestamp) else obj.eventTime
    source = ", ".join(
        p for p in (obj.deprecatedSource.component or obj.reportingController, obj.deprecatedSource.host) if p
    )
    return [
        age(last, now),
        obj.type,
        obj.reason,
        f"{obj.regarding.kind.lower()}/{obj.regarding.name}",
        obj.regarding.fieldPath,
        source,
        obj.note.strip(),
        age(first, now),
        (obj.series.count if obj.HasField("series") else obj.deprecatedCount) or 1,
        obj.metadata.name,
    ]


def _modes(modes: Any) -> str:
    return ",".join(short for mode, short in ACCESS_MODES.items() if mode in modes)


def _volume_state(obj: Any) -> str:
    return "Terminating" if obj.metadata.HasField("deletionTimestamp") else obj.status.phase or "Pending"


def persistent_volume(obj: Any, now: float) -> list[Any]:
    claim = obj.spec.claimRef
    return [
        obj.metadata.name,
        obj.spec.capacity["storage"].string if "storage" in obj.spec.capacity else "0",
        _modes(obj.spec.accessModes),
        obj.spec.persistentVolumeReclaimPolicy,
        _volume_state(obj),
        f"{claim.namespace}/{claim.name}" if obj.spec.HasField("claimRef") else "",
        obj.spec.storageClassName,
        obj.status.reason,
        age(obj.metadata.creationTimestamp, now),
        obj.spec.volumeMode or "<unset>",
    ]


def persistent_volume_claim(obj: Any, now: float) -> list[Any]:
    bound = bool(obj.spec.volumeName)
    capacity = obj.status.capacity["storage"].string if bound and "storage" in obj.status.capacity else ""
    return [
        obj.metadata.name,
        _volume_state(obj),
        obj.spec.volumeName,
        capacity,
        _modes(obj.status.accessModes) if bound else "",
        obj.spec.storageClassName,
        age(obj.metadata.creationTimestamp, now),
        obj.spec.volumeMode or "<unset>",
    ]


def component_status(obj: Any, now: float) -> list[Any]:
    for condition in obj.conditions:
        if condition.type == "Healthy":
            status = "Healthy" if condition.status == "True" else "Unhealthy"
            return [obj.metadata.name, status, condition.message, condition.error]
    return [obj.metadata.name, "Unknown", "", ""]


PRINTERS = {
    "Node": node,
    "Namespace": namespace,
    "ConfigMap": config_map,
    "Secret": secret,
    "ServiceAccount": service_account,
    "ResourceQuota": resource_quota,
    "ReplicationController": replication_controller,
    "Event": event,
    "PersistentVolume": persistent_volume,
    "PersistentVolumeClaim": persistent_volume_claim,
    "ComponentStatus": component_status,
}
