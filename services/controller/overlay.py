"""The newest version of an object that this process knows: the informer's, or the one a write has just returned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from tillerman.api.meta import key_of

T = TypeVar("T", bound=Any)


def revision_of(obj: Any) -> int:
    """metadata.resourceVersion as a number; 0 when it has none."""
    text = obj.metadata.resourceVersion
    return int(text) if text.isdigit() else 0


class Overlay(Generic[T]):
    """Objects written here that the informer has not shown yet. An entry leaves once the informer has it."""

    def __init__(self) -> None:
        self._written: dict[str, T] = {}

    def wrote(self, obj: T) -> None:
        key = key_of(obj)
        known = self._written.get(key)
        if known is None or revision_of(known) < revision_of(obj):
            self._written[key] = obj

    def forget(self, obj: T) -> None:
        self._written.pop(key_of(obj), None)

    def seen(self, obj: T) -> None:
        """The informer shows this version; drop what is not newer."""
        known = self._written.get(key_of(obj))
        if known is not None and revision_of(known) <= revision_of(obj):
            del self._written[key_of(obj)]

    def newest(self, obj: T) -> T:
        known = self._written.get(key_of(obj))
        if known is not None and known.metadata.uid == obj.metadata.uid and revision_of(known) > revision_of(obj):
            return known
        return obj

    def merge(self, cached: Iterable[T], *, extra: Any = None) -> list[T]:
        """The cached objects in their newest version, and written ones the cache lacks for which `extra(obj)` holds."""
        result = [self.newest(obj) for obj in cached]
        if extra is not None and self._written:
            present = {obj.metadata.uid for obj in result}
            result += [obj for obj in self._written.values() if obj.metadata.uid not in present and extra(obj)]
        return result
