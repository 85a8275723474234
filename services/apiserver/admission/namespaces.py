"""NamespaceLifecycle: objects live in namespaces that exist and are not being deleted; some namespaces stay."""

from __future__ import annotations

from services.apiserver.admission.chain import CREATE, DELETE, Attributes, BasePlugin
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.reading import Reader
from tillerman.api.status import Cause, StatusError, forbidden, not_found

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle(BasePlugin):
    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader

    async def admit(self, attributes: Attributes) -> None:
        """Raises NotFound for a namespace that does not exist, Forbidden for one that is terminating."""
        if attributes.operation != CREATE or not attributes.resource.namespaced:
            return
        namespaces = self._catalog.get("v1", "namespaces")
        name = attributes.namespace
        entry = namespaces.cache.entries.get(namespaces.key("", name))
        if entry is None:
            entry = await self._reader.fresh(namespaces, namespaces.key("", name))
            if entry is None:
                raise not_found("namespaces", name)
        if entry.fields(namespaces.extract)["status.phase"] == "Terminating":
            raise terminating(attributes, name)

    async def validate(self, attributes: Attributes) -> None:
        """Raises Forbidden for the deletion of a namespace that the system needs."""
        resource = attributes.resource
        if attributes.operation == DELETE and resource.name == "namespaces" and attributes.name in IMMORTAL:
            raise forbidden("namespaces", attributes.name, "this namespace may not be deleted")


def terminating(attributes: Attributes, namespace: str) -> StatusError:
    resource = attributes.resource
    name = attributes.obj.metadata.name or attributes.obj.metadata.generateName
    error = forbidden(
        resource.name,
        name,
        f"unable to create new content in namespace {namespace} because it is being terminated",
        resource.group,
    )
    cause = Cause("metadata.namespace", "NamespaceTerminating", f"namespace {namespace} is being terminated")
    error.status.details.causes.add(reason=cause.type, message=cause.message, field=cause.field)
    return error
