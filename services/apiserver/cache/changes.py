"""Changes of a resource and the watch events that they make, encoded once and shared by all watchers."""

from __future__ import annotations

from services.apiserver.cache.entry import Entry
from tillerman.api.envelope import varint

ADDED, MODIFIED, DELETED, BOOKMARK = 0, 1, 2, 3


class WatchEvent:
    """``type``: ADDED… as in objects.proto. ``encoded``: the field ``events`` of WatchResponse, tag and length
    included.
    """

    __slots__ = ("_encoded", "entry", "type")

    def __init__(self, type: int, entry: Entry) -> None:
        self.type = type
        self.entry = entry
        self._encoded: bytes | None = None

    @property
    def encoded(self) -> bytes:
        if self._encoded is None:
            kind = bytes((0x08, self.type)) if self.type else b""
            frame = self.entry.frame
            self._encoded = b"".join((b"\x0a", varint(len(kind) + 1 + len(frame)), kind, b"\x12", frame))
        return self._encoded


class Change:
    """One object's change at one revision: ``new`` None when it was deleted, ``old`` None when it was created."""

    __slots__ = ("_events", "key", "new", "old", "revision")

    def __init__(self, key: str, revision: int, old: Entry | None, new: Entry | None) -> None:
        self.key = key
        self.revision = revision
        self.old = old
        self.new = new
        self._events: list[WatchEvent | None] = [None, None, None]

    def event(self, was_in: bool, is_in: bool) -> WatchEvent | None:
        """What a watcher sees whose selection held the object before (``was_in``) and holds it now (``is_in``)."""
        if is_in:
            return self._event(MODIFIED if was_in else ADDED)
        return self._event(DELETED) if was_in else None

    def _event(self, type: int) -> WatchEvent:
        event = self._events[type]
        if event is None:
            if type == DELETED:
                assert self.old is not None
                entry = self.old.at(self.revision)
            else:
                assert self.new is not None
                entry = self.new
            event = self._events[type] = WatchEvent(type, entry)
        return event
