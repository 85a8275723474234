"""Rules for a pod's volumes. The sources they share with PersistentVolumes are volume_sources'."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    one_of,
    required,
)
from services.apiserver.strategy.environment import VOLUME_FIELDS, field_reference, resource_reference
from services.apiserver.strategy.names import dns_label, dns_subdomain
from services.apiserver.strategy.volume_sources import descending_path, source_rules
from tillerman.api.quantity import parse_quantity

_MORE_THAN_ONE = "may not specify more than 1 volume type"
_ISCSI_LIMIT = 64
_ISCSI_TOO_LONG = (
    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters "
    "if iscsi.initiatorName is specified."
)
# The order in which Kubernetes looks for sources, where it is not that of their declaration.
_FOUND_FIRST = (
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
)
_PROJECTED_FIRST = (
    "secret",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
)
# How Kubernetes itself spells the paths of sources that are too many.
_MISSPELT = {"downwardAPI": "downwarAPI", "cephfs": "cephFS"}
_MODE_DETAIL = "must be a number between 0 and 0777 (octal), both inclusive"


def volumes(path: str, entries: Iterable[Any]) -> tuple[dict[str, Any], list[Cause]]:
    """A pod's volumes by name, and what is wrong with them."""
    causes: list[Cause] = []
    known: dict[str, Any] = {}
    for index, volume in enumerate(entries):
        where = f"{path}[{index}]"
        problems = _pod_source(where, volume.volumeSource, volume.name)
        if not volume.name:
            problems.append(required(f"{where}.name"))
        else:
            problems += invalid_all(f"{where}.name", volume.name, dns_label(volume.name))
        if volume.name in known:
            problems.append(duplicate(f"{where}.name", volume.name))
        causes += problems
        # What is wrong cannot be mounted either.
        if not problems:
            known[volume.name] = volume
    return known, causes


def _pod_source(path: str, source: Any, volume: str) -> list[Cause]:
    given = [field.name for field, _ in source.ListFields()]
    if not given:
        return [required(path, "must specify a volume type")]
    # The first that is found is the one that may be there.
    given.sort(key=lambda name: _FOUND_FIRST.index(name) if name in _FOUND_FIRST else len(_FOUND_FIRST))
    name = given[0]
    causes = source_rules(f"{path}.{name}", name, getattr(source, name))
    if name in _POD_ONLY:
        causes += _POD_ONLY[name](f"{path}.{name}", getattr(source, name))
    causes += [forbidden(f"{path}.{_MISSPELT.get(other, other)}", _MORE_THAN_ONE) for other in given[1:]]
    portal = source.iscsi
    if portal.HasField("initiatorName") and len(f"{volume}:{portal.targetPortal}".encode()) > _ISCSI_LIMIT:
        causes.append(invalid(f"{path}.name", volume, _ISCSI_TOO_LONG))
    return causes


def _local_path(path: str, target: str) -> list[Cause]:
    """A file name in a volume that the kubelet keeps names of its own in: those start with two dots."""
    causes = descending_path(path, target)
    if target.startswith("..") and not target.startswith("../"):
        causes.append(invalid(path, target, "must not start with '..'"))
    return causes


def _empty_dir(path: str, source: Any) -> list[Cause]:
    if source.HasField("sizeLimit") and parse_quantity(source.sizeLimit) < 0:
        return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _mode(path: str, holder: Any, field: str) -> list[Cause]:
    if holder.HasField(field) and not 0 <= getattr(holder, field) <= 0o777:
        return [invalid(f"{path}.{field}", getattr(holder, field), _MODE_DETAIL)]
    return []


def _items(path: str, items: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        if not item.key:
            causes.append(required(f"{where}.key"))
        causes += _local_path(f"{where}.path", item.path) if item.path else [required(f"{where}.path")]
        causes += _mode(where, item, "mode")
    return causes


def _secret(path: str, source: Any) -> list[Cause]:
    return _mode(path, source, "defaultMode") + _items(f"{path}.items", source.items)


def _config_map(path: str, source: Any) -> list[Cause]:
    named = [] if source.localObjectReference.name else [required(f"{path}.name")]
    return named + _secret(path, source)


def _downward_files(path: str, items: Any) -> list[Cause]:
    causes: list[Cause] = []
    for item in items:
        # Kubernetes leaves "items" and the index out of these paths.
        causes += _local_path(f"{path}.path", item.path) if item.path else [required(f"{path}.path")]
        field, resource = item.HasField("fieldRef"), item.HasField("resourceFieldRef")
        if field:
            causes += field_reference(f"{path}.fieldRef", item.fieldRef, VOLUME_FIELDS)
            if resource:
                detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
                causes.append(invalid(path, "resource", detail))
        elif resource:
            causes += resource_reference(f"{path}.resourceFieldRef", item.resourceFieldRef, volume=True)
        else:
            causes.append(required(path, "one of fieldRef and resourceFieldRef is required"))
        causes += _mode(path, item, "mode")
    return causes


def _downward_api(path: str, source: Any) -> list[Cause]:
    return _mode(path, source, "defaultMode") + _downward_files(path, source.items)


def _projected(path: str, source: Any) -> list[Cause]:
    causes = _mode(path, source, "defaultMode")
    taken: set[str] = set()

    def claim(target: str, shown: str) -> None:
        if target:
            if target in taken:
                causes.append(invalid(path, shown, "conflicting duplicate paths"))
            taken.add(target)

    for index, projection in enumerate(source.sources):
        where = f"{path}.sources[{index}]"
        given = [field.name for field, _ in projection.ListFields()]
        for name in sorted(given, key=_PROJECTED_FIRST.index):
            part, spot = getattr(projection, name), f"{where}.{name}"
            if name in ("secret", "configMap"):
                if not part.localObjectReference.name:
                    causes.append(required(f"{spot}.name"))
                causes += _items(f"{spot}.items", part.items)
                for item in part.items:
                    claim(item.path, part.localObjectReference.name)
            elif name == "downwardAPI":
                causes += _downward_files(spot, part.items)
                for item in part.items:
                    claim(item.path, item.path)
            elif name == "serviceAccountToken":
                # Kubernetes itself leaves the source out of the second path.
                causes += token_lifetime(f"{spot}.expirationSeconds", part.expirationSeconds)
                causes += _local_path(f"{path}.path", part.path) if part.path else [required(f"{path}.path")]
        if len(given) > 1:
            causes.append(forbidden(where, "may not specify more than 1 volume type per source"))
    return causes


def token_lifetime(path: str, seconds: int) -> list[Cause]:
    """A service account token lives ten minutes at least."""
    if seconds < 600:
        return [invalid(path, seconds, "may not specify a duration less than 10 minutes")]
    if seconds > 1 << 32:
        return [invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")]
    return []


def _ephemeral(path: str, source: Any) -> list[Cause]:
    from services.apiserver.strategy.persistent_volumes import claim_spec

    if not source.HasField("volumeClaimTemplate"):
        return [required(f"{path}.volumeClaimTemplate")]
    return claim_spec(f"{path}.volumeClaimTemplate.spec", source.volumeClaimTemplate.spec)


def _git_repo(path: str, source: Any) -> list[Cause]:
    return descending_path(f"{path}.directory", source.directory)


def _inline_csi(path: str, source: Any) -> list[Cause]:
    if not source.HasField("nodePublishSecretRef"):
        return []
    name = source.nodePublishSecretRef.name
    if not name:
        return [required(f"{path}.nodePublishSecretRef.name")]
    # Kubernetes itself leaves the reference out of this path.
    return invalid_all(f"{path}.name", name, dns_subdomain(name))


def _image(path: str, source: Any) -> list[Cause]:
    causes = [] if source.reference else [required(f"{path}.reference")]
    return causes + one_of(f"{path}.pullPolicy", source.pullPolicy, ("Always", "IfNotPresent", "Never"), needed=False)


_Check = Callable[[str, Any], list[Cause]]
_POD_ONLY: dict[str, _Check] = {
    "emptyDir": _empty_dir,
    "secret": _secret,
    "configMap": _config_map,
    "downwardAPI": _downward_api,
    "projected": _projected,
    "ephemeral": _ephemeral,
    "gitRepo": _git_repo,
    "csi": _inline_csi,
    "image": _image,
}
