"""What admission does for storage: default classes, finalizers of what is in use, growing of claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, BasePlugin, refused
from services.apiserver.admission.parsed import Parsed
from services.apiserver.registry.catalog import Catalog
from tillerman.api.quantity import parse_quantity
from tillerman.api.quota import BETA_CLASS, claim_class
from tillerman.api.times import to_seconds

CLAIMS, VOLUMES = ("", "persistentvolumeclaims"), ("", "persistentvolumes")
FINALIZERS = {CLAIMS: "kubernetes.io/pvc-protection", VOLUMES: "kubernetes.io/pv-protection"}
DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def newest_default(objects: list[Any], is_default: Callable[[Mapping[str, str]], bool]) -> str:
    """Of the objects that their annotations mark as default the newest's name; of two as old the first by name."""
    marked = [obj.metadata for obj in objects if is_default(obj.metadata.annotations)]
    found = min(marked, key=lambda meta: (-to_seconds(meta.creationTimestamp), meta.name), default=None)
    return "" if found is None else str(found.name)


def _default_class(classes: list[Any]) -> str:
    return newest_default(classes, lambda annotations: any(annotations.get(key) == "true" for key in DEFAULT_CLASS))


class DefaultStorageClass(BasePlugin):
    """A claim that names no class (not even "") gets the default one."""

    operations = frozenset({CREATE})
    resources = frozenset({CLAIMS})

    def __init__(self, catalog: Catalog) -> None:
        self._default: Parsed[str] = Parsed(catalog, "storage.k8s.io/v1", "storageclasses", _default_class)

    async def admit(self, attributes: Attributes) -> None:
        claim = attributes.obj
        if claim.spec.HasField("storageClassName") or BETA_CLASS in claim.metadata.annotations:
            return
        if name := self._default.value():
            claim.spec.storageClassName = name


class StorageProtection(BasePlugin):
    """StorageObjectInUseProtection: claims and volumes stay until the controllers find them out of use."""

    operations = frozenset({CREATE})
    resources = frozenset({CLAIMS, VOLUMES})

    async def admit(self, attributes: Attributes) -> None:
        finalizer = FINALIZERS[attributes.resource.group, attributes.resource.name]
        finalizers = attributes.obj.metadata.finalizers
        if finalizer not in finalizers:
            finalizers.append(finalizer)


class ClaimResize(BasePlugin):
    """PersistentVolumeClaimResize: only bound claims grow, and only those of a class that allows it."""

    operations = frozenset({UPDATE})
    resources = frozenset({CLAIMS})

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def validate(self, attributes: Attributes) -> None:
        """Raises Forbidden."""
        new, old = attributes.obj, attributes.old
        if _size(new) <= _size(old):
            return
        if old.status.phase != "Bound":
            raise refused(attributes, "Only bound persistent volume claims can be expanded")
        if not self._allows(claim_class(new), claim_class(old)):
            raise refused(
                attributes,
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc "
                "must support resize",
            )

    def _allows(self, new: str, old: str) -> bool:
        classes = self._catalog.get("storage.k8s.io/v1", "storageclasses")
        entry = classes.cache.entries.get(classes.key("", new)) if new and new == old else None
        return entry is not None and bool(entry.message().allowVolumeExpansion)


def _size(claim: Any) -> Any:
    requests = claim.spec.resources.requests
    return parse_quantity(requests["storage"]) if "storage" in requests else 0
