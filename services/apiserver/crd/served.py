"""The custom resources that are served, always as the cache of definitions has it.

There is nothing to be told of changes: whoever asks gets what the cache says at that moment, so a definition is served
by the time anybody can have read that it is established, on every API server and right after a start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from services.apiserver.cache.entry import Entry
from services.apiserver.cache.hub import CacheHub
from services.apiserver.crd.conversion import Converter
from services.apiserver.crd.definition import Definition
from services.apiserver.crd.resource import CustomResource
from services.apiserver.crd.versions import rank
from services.apiserver.registry.resource import Resource
from tillerman.api.scheme import ResourceInfo

MakeConverter = Callable[[Definition], Converter]


class ServedCustoms:
    """``definitions``: the resource of CustomResourceDefinitions."""

    def __init__(self, definitions: Resource, hub: CacheHub, make_converter: MakeConverter) -> None:
        self._definitions = definitions
        self._hub = hub
        self._make_converter = make_converter
        self._seen = -1
        self._revisions: dict[str, int] = {}
        self._known: dict[str, Definition] = {}
        self._resources: dict[str, list[CustomResource]] = {}
        self._by_path: dict[tuple[str, str], CustomResource] = {}

    def find(self, api_version: str, resource: str) -> CustomResource | None:
        self._refresh()
        return self._by_path.get((api_version, resource))

    def __iter__(self) -> Iterator[CustomResource]:
        """Every version of every resource, each resource's preferred version first."""
        self._refresh()
        for key in sorted(self._resources):
            yield from self._resources[key]

    def listed(self) -> list[ResourceInfo]:
        """What discovery shows: the established ones, a group's preferred version first."""
        found = [resource for resource in self if resource.definition.established]
        found.sort(key=lambda resource: rank(resource.version.name), reverse=True)
        return [replace(resource.info, verbs=resource.definition.listed_verbs) for resource in found]

    def as_stored(self, definition: str) -> CustomResource | None:
        """The resource in its storage version, which needs no conversion; None for one that is not served."""
        self._refresh()
        key = self._definitions.key("", definition)
        if not self._resources.get(key):
            return None
        known = self._known[key]
        return CustomResource(known, known.storage_version, self._hub, self._make_converter(known))

    def _refresh(self) -> None:
        cache = self._definitions.cache
        if cache.changed == self._seen:
            return
        self._seen = cache.changed
        for key in [key for key in self._known if key not in cache.entries]:
            self._forget(key)
        for key, entry in cache.entries.items():
            if self._revisions.get(key) != entry.revision:
                self._take(key, entry)
        self._by_path = {(r.info.api_version, r.name): r for resources in self._resources.values() for r in resources}

    def _take(self, key: str, entry: Entry) -> None:
        before, now = self._known.get(key), Definition.of(entry.message())
        self._revisions[key], self._known[key] = entry.revision, now
        if before is not None and before == now:
            return
        if before is not None and before.uid != now.uid:
            self._forget(key)
            self._revisions[key], self._known[key] = entry.revision, now
        converter = self._make_converter(now)
        self._resources[key] = [CustomResource(now, version, self._hub, converter) for version in now.served]
        if before is not None and before.spec != now.spec and self._resources[key]:
            reason = "the definition of the resource has changed; list again"
            self._resources[key][0].cache.drop_watchers(reason)

    def _forget(self, key: str) -> None:
        self._revisions.pop(key, None)
        definition = self._known.pop(key)
        if self._resources.pop(key, None):
            self._hub.remove(definition.prefix)
