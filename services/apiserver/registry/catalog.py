"""The resources that are served: those of the scheme, and custom ones as they come and go."""

from __future__ import annotations

from collections.abc import Iterator

from services.apiserver.cache.hub import CacheHub
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.versions import views
from tillerman.api.scheme import SCHEME, ResourceInfo
from tillerman.api.status import no_such_path


class Catalog:
    """Resources are made when they are first asked for, so that a start imports no API group that nobody uses."""

    def __init__(self, hub: CacheHub) -> None:
        self._views = views()
        self.hub = hub
        self._infos: dict[tuple[str, str], ResourceInfo] = {
            (info.api_version, info.resource): info for info in SCHEME.resources(also_served=True)
        }
        self._made: dict[tuple[str, str], Resource] = {}
        self._custom: dict[tuple[str, str], Resource] = {}

    def info(self, api_version: str, resource: str) -> ResourceInfo | None:
        """The scheme's row, for resources without storage too (reviews)."""
        return self._infos.get((api_version, resource))

    def get(self, api_version: str, resource: str) -> Resource:
        """Raises NotFound, as for a path that does not exist."""
        found = self._made.get((api_version, resource)) or self._custom.get((api_version, resource))
        if found is not None:
            return found
        info = self._infos.get((api_version, resource))
        if info is None or info.etcd_prefix is None or (api_version, resource) in self._views:
            raise no_such_path()
        found = self._made[api_version, resource] = Resource(info, self.hub)
        return found

    def stores(self, info: ResourceInfo) -> bool:
        """Whether objects of a row of the scheme are stored, be it in another version; makes nothing."""
        return bool(info.etcd_prefix)

    def add_custom(self, resource: Resource) -> None:
        self._custom[resource.info.api_version, resource.name] = resource

    def remove_custom(self, api_version: str, resource: str) -> None:
        self._custom.pop((api_version, resource), None)

    def infos(self) -> Iterator[ResourceInfo]:
        yield from self._infos.values()

    def customs(self) -> Iterator[Resource]:
        yield from self._custom.values()

    def stored(self) -> Iterator[Resource]:
        """Every resource with storage, made now if need be."""
        for info in SCHEME.resources():
            if info.etcd_prefix and not info.same_storage_as:
                yield self.get(info.api_version, info.resource)
        yield from self._custom.values()
