"""RuntimeClass: what the class of a pod costs beside its containers, and where such pods can run."""

from __future__ import annotations

from typing import Any

from services.apiserver.admission.chain import CREATE, Attributes, BasePlugin, refused
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.reading import Reader
from tillerman.api.quantity import parse_quantity


class RuntimeClasses(BasePlugin):
    operations = frozenset({CREATE})
    resources = frozenset({("", "pods")})
    reads = frozenset({("node.k8s.io/v1", "runtimeclasses")})

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader

    async def admit(self, attributes: Attributes) -> None:
        """Raises Forbidden."""
        spec = attributes.obj.spec
        if not spec.runtimeClassName:
            return
        found = await self._class(attributes)
        if found.overhead.podFixed:
            if spec.overhead and not _same(spec.overhead, found.overhead.podFixed):
                detail = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
                raise refused(attributes, detail)
            for name, amount in found.overhead.podFixed.items():
                spec.overhead[name].CopyFrom(amount)
        for key, value in sorted(found.scheduling.nodeSelector.items()):
            if spec.nodeSelector.get(key, value) != value:
                raise refused(
                    attributes,
                    f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                    f"pod.spec.nodeSelector[{key}] = {spec.nodeSelector[key]}",
                )
            spec.nodeSelector[key] = value
        spec.tolerations.extend(t for t in found.scheduling.tolerations if t not in spec.tolerations)

    async def validate(self, attributes: Attributes) -> None:
        """Raises Forbidden for an overhead that no class accounts for."""
        spec = attributes.obj.spec
        if not spec.overhead:
            return
        found = await self._class(attributes) if spec.runtimeClassName else None
        if found is None or not found.overhead.podFixed:
            detail = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise refused(attributes, detail)

    async def _class(self, attributes: Attributes) -> Any:
        name = attributes.obj.spec.runtimeClassName
        classes = self._catalog.get("node.k8s.io/v1", "runtimeclasses")
        key = classes.key("", name)
        entry = classes.cache.entries.get(key) or await self._reader.fresh(classes, key)
        if entry is None:
            raise refused(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        return entry.message()


def _same(one: Any, other: Any) -> bool:
    return {n: parse_quantity(q) for n, q in one.items()} == {n: parse_quantity(q) for n, q in other.items()}
