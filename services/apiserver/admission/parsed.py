"""What plugins work out from rules that are stored: decoded once, until one of them changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from services.apiserver.cache.entry import Entry
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.resource import Resource

T = TypeVar("T")

KEPT = 1024


class Parsed(Generic[T]):
    """``work`` of all objects of a resource; nobody may change what it is given or returns."""

    def __init__(self, catalog: Catalog, api_version: str, resource: str, work: Callable[[list[Any]], T]) -> None:
        self._catalog = catalog
        self._named = (api_version, resource)
        self._resource: Resource | None = None
        self._changed = -1
        self._work = work
        self._value: T

    def value(self) -> T:
        if self._resource is None:
            self._resource = self._catalog.get(*self._named)
        cache = self._resource.cache
        if cache.changed != self._changed:
            self._value = self._work([entry.message() for entry in cache.entries.values()])
            self._changed = cache.changed
        return self._value


class Decoded:
    """Single objects that are asked for again and again; nobody may change them."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Entry, Any]] = {}

    def of(self, entry: Entry) -> Any:
        known = self._kept.get(entry.key)
        if known is not None and known[0] is entry:
            return known[1]
        if len(self._kept) >= KEPT:
            self._kept.clear()
        obj = entry.message()
        self._kept[entry.key] = (entry, obj)
        return obj
