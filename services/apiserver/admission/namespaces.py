"""NamespaceLifecycle: objects live in namespaces that exist and are not being deleted; some namespaces stay."""

from __future__ import annotations

from services.apiserver.admission.chain import CREATE, DELETE, UPDATE, Attributes, BasePlugin, refused
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.reading import Reader
from services.apiserver.registry.resource import Resource
from tillerman.api.status import Cause, StatusError, not_found

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle(BasePlugin):
    reads = frozenset({("v1", "namespaces")})

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        if (resource.group, resource.name) == ("", "namespaces"):
            return operation == DELETE
        return resource.namespaced and operation in (CREATE, UPDATE)

    async def admit(self, attributes: Attributes) -> None:
        """Raises NotFound for a namespace that does not exist, Forbidden for a new object in one that is terminating
        and for the deletion of a namespace that the system needs.
        """
        if attributes.operation == DELETE:
            if attributes.name in IMMORTAL:
                raise refused(attributes, "this namespace may not be deleted")
            return
        namespaces = self._catalog.get("v1", "namespaces")
        name = attributes.namespace
        entry = namespaces.cache.entries.get(namespaces.key("", name))
        if entry is None:
            entry = await self._reader.fresh(namespaces, namespaces.key("", name))
            if entry is None:
                raise not_found("namespaces", name)
        if attributes.operation == CREATE and entry.fields(namespaces.extract)["status.phase"] == "Terminating":
            raise terminating(attributes, name)


def terminating(attributes: Attributes, namespace: str) -> StatusError:
    detail = f"unable to create new content in namespace {namespace} because it is being terminated"
    cause = Cause("metadata.namespace", "NamespaceTerminating", f"namespace {namespace} is being terminated")
    return refused(attributes, detail, cause)
