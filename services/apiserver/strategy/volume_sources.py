"""Rules for the sources of volumes, alike in pods and in PersistentVolumes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from services.apiserver.strategy.causes import Cause, invalid, invalid_all, not_supported, required, too_long
from services.apiserver.strategy.names import dns_label, dns_subdomain

HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
_BACKSTEP = "must not contain '..'"
_HOST_PORT = "must be a host:port pair or multiple pairs separated by commas"
_RESERVED = "kubernetes.io and k8s.io namespaces are reserved"
_INITIATOR_KINDS = ("iqn", "eui", "naa")
_INITIATORS = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$"),
    "eui": re.compile(r"^eui.[A-Za-z0-9]{16}$"),
    "naa": re.compile(r"^naa.[A-Za-z0-9]{32}$"),
}
_MANAGED_DISK = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB_DISK = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"

# Fields a source cannot do without.
_NEEDED: dict[str, tuple[str, ...]] = {
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "gitRepo": ("repository",),
    "nfs": ("server", "path"),
    "iscsi": ("targetPortal", "iqn"),
    "glusterfs": ("endpoints", "path"),
    "persistentVolumeClaim": ("claimName",),
    "rbd": ("monitors", "image"),
    "flexVolume": ("driver",),
    "cinder": ("volumeID",),
    "cephfs": ("monitors",),
    "azureFile": ("secretName", "shareName"),
    "vsphereVolume": ("volumePath",),
    "quobyte": ("registry", "volume"),
    "azureDisk": ("diskName", "diskURI"),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "scaleIO": ("gateway", "system", "volumeName"),
    "secret": ("secretName",),
}


def source_rules(path: str, name: str, source: Any) -> list[Cause]:
    """What a source obeys wherever it stands. `name` is its JSON name."""
    causes = [required(f"{path}.{field}") for field in _NEEDED.get(name, ()) if not getattr(source, field)]
    if name in _SHARED and not (name == "hostPath" and not source.path):
        causes += _SHARED[name](path, source)
    return causes + ([required(f"{path}.path")] if name == "hostPath" and not source.path else [])


def descending_path(path: str, target: str) -> list[Cause]:
    """A path that stays below where it starts."""
    causes = [invalid(path, target, "must be a relative path")] if target.startswith("/") else []
    return causes + no_backsteps(path, target)


def no_backsteps(path: str, target: str) -> list[Cause]:
    return [invalid(path, target, _BACKSTEP)] if ".." in target.split("/") else []


def _host_path(path: str, source: Any) -> list[Cause]:
    causes = no_backsteps(f"{path}.path", source.path)
    if source.HasField("type") and source.type not in HOST_PATH_TYPES:
        causes.append(not_supported(f"{path}.type", source.type, HOST_PATH_TYPES))
    return causes


def _partition(path: str, source: Any) -> list[Cause]:
    if 0 <= source.partition <= 255:
        return []
    # Kubernetes itself says 1.
    return [invalid(f"{path}.partition", source.partition, "must be between 1 and 255, inclusive")]


def _nfs(path: str, source: Any) -> list[Cause]:
    if not source.path.startswith("/"):
        return [invalid(f"{path}.path", source.path, "must be an absolute path")]
    return []


def _iscsi(path: str, source: Any) -> list[Cause]:
    causes: list[Cause] = []
    if source.iqn:
        causes += _initiator(f"{path}.iqn", source.iqn)
    if not 0 <= source.lun <= 255:
        causes.append(invalid(f"{path}.lun", source.lun, "must be between 0 and 255, inclusive"))
    if (source.chapAuthDiscovery or source.chapAuthSession) and not source.HasField("secretRef"):
        causes.append(required(f"{path}.secretRef"))
    if source.HasField("initiatorName"):
        # Kubernetes itself spells this path so.
        causes += _initiator(f"{path}.initiatorname", source.initiatorName)
    # Only a PersistentVolume's reference to a Secret can say a namespace; and only its name is looked at.
    if source.HasField("secretRef") and "namespace" in source.secretRef.DESCRIPTOR.fields_by_name:
        causes += [] if source.secretRef.name else [required(f"{path}.secretRef.name")]
    return causes


def _initiator(path: str, name: str) -> list[Cause]:
    kind = name[:3]
    if kind not in _INITIATOR_KINDS:
        return [invalid(path, name, "must be valid format starting with iqn, eui, or naa")]
    return [] if _INITIATORS[kind].search(name) else [invalid(path, name, "must be valid format")]


def _flocker(path: str, source: Any) -> list[Cause]:
    causes: list[Cause] = []
    if not source.datasetName and not source.datasetUUID:
        causes.append(required(path, "one of datasetName and datasetUUID is required"))
    if source.datasetName and source.datasetUUID:
        causes.append(invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
    if "/" in source.datasetName:
        causes.append(invalid(f"{path}.datasetName", source.datasetName, "must not contain '/'"))
    return causes


def _quobyte(path: str, source: Any) -> list[Cause]:
    if not source.registry:
        return []
    if len(source.tenant) >= 65:
        return [required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters")]
    pairs = [pair.rpartition(":") for pair in source.registry.split(",")]
    return [invalid(f"{path}.registry", source.registry, _HOST_PORT) for _, colon, _ in pairs if not colon]


def _flex(path: str, source: Any) -> list[Cause]:
    """Options of the user's own leave Kubernetes' names alone."""
    causes = []
    for key in source.options:
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            causes.append(invalid(f"{path}.options[{key}]", key, _RESERVED))
    return causes


def _cinder(path: str, source: Any) -> list[Cause]:
    """A pod's reference to a Secret has a name; a PersistentVolume's says the namespace too."""
    if not source.HasField("secretRef"):
        return []
    reference = source.secretRef
    fields = [name for name in ("name", "namespace") if name in reference.DESCRIPTOR.fields_by_name]
    return [required(f"{path}.secretRef.{name}") for name in fields if not getattr(reference, name)]


def _storage_os(path: str, source: Any) -> list[Cause]:
    name = source.volumeName
    causes = invalid_all(f"{path}.volumeName", name, dns_label(name)) if name else [required(f"{path}.volumeName")]
    if source.volumeNamespace:
        causes += invalid_all(f"{path}.volumeNamespace", source.volumeNamespace, dns_label(source.volumeNamespace))
    return causes + _cinder(path, source)


def _glusterfs(path: str, source: Any) -> list[Cause]:
    """A PersistentVolume may say the namespace of its endpoints."""
    if "endpointsNamespace" not in source.DESCRIPTOR.fields_by_name or not source.HasField("endpointsNamespace"):
        return []
    where, namespace = f"{path}.endpointsNamespace", source.endpointsNamespace
    if not namespace:
        return [required(where, "if the endpointnamespace is set, it must be a valid namespace name")]
    return invalid_all(where, namespace, dns_label(namespace))


def _azure_file(path: str, source: Any) -> list[Cause]:
    given = "secretNamespace" in source.DESCRIPTOR.fields_by_name and source.HasField("secretNamespace")
    return [required(f"{path}.secretNamespace")] if given and not source.secretNamespace else []


def _fibre_channel(path: str, source: Any) -> list[Cause]:
    where = f"{path}.targetWWNs"
    if not source.targetWWNs:
        neither = "must specify either targetWWNs or wwids, but not both"
        return [] if source.wwids else [required(where, neither)]
    causes: list[Cause] = []
    if source.wwids:
        both = "targetWWNs and wwids can not be specified simultaneously"
        causes.append(invalid(where, source.targetWWNs, both))
    if not source.HasField("lun"):
        causes.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
    elif not 0 <= source.lun <= 255:
        causes.append(invalid(f"{path}.lun", source.lun, "must be between 0 and 255, inclusive"))
    return causes


def _azure_disk(path: str, source: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field, allowed in (
        ("cachingMode", ("None", "ReadOnly", "ReadWrite")),
        ("kind", ("Dedicated", "Managed", "Shared")),
    ):
        value = getattr(source, field)
        if source.HasField(field) and value not in allowed:
            causes.append(not_supported(f"{path}.{field}", value, allowed))
    if source.HasField("kind"):
        managed = source.kind == "Managed"
        prefix, form = ("/subscriptions/", _MANAGED_DISK) if managed else ("https://", _BLOB_DISK)
        if not source.diskURI.startswith(prefix):
            causes.append(not_supported(f"{path}.diskURI", source.diskURI, [form]))
    return causes


def _csi(path: str, source: Any) -> list[Cause]:
    return csi_driver_name(f"{path}.driver", source.driver)


def csi_driver_name(path: str, name: str) -> list[Cause]:
    causes = [] if name else [required(path)]
    if len(name) > 63:
        causes.append(too_long(path, 63))
    return causes + invalid_all(path, name, dns_subdomain(name.lower()))


_Check = Callable[[str, Any], list[Cause]]
_SHARED: dict[str, _Check] = {
    "hostPath": _host_path,
    "gcePersistentDisk": _partition,
    "awsElasticBlockStore": _partition,
    "nfs": _nfs,
    "iscsi": _iscsi,
    "flocker": _flocker,
    "fc": _fibre_channel,
    "glusterfs": _glusterfs,
    "azureDisk": _azure_disk,
    "azureFile": _azure_file,
    "cinder": _cinder,
    "flexVolume": _flex,
    "quobyte": _quobyte,
    "storageos": _storage_os,
    "csi": _csi,
}
