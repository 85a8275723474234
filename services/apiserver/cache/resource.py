"""The cache of one resource: its objects in key order, a bounded history of changes, and its watchers.

Everything here is synchronous and runs on the event loop between awaits: a snapshot and a registration made in one
turn have no gap and no overlap.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable

from services.apiserver.cache.changes import Change
from services.apiserver.cache.delivery import Delivery
from services.apiserver.cache.entry import Entry, Framer
from services.apiserver.cache.undecodable import Broken, Report, Undecodable, unreported
from services.apiserver.cache.watcher import IndexKey, Predicate, Watcher

HISTORY = 20_000
HISTORY_BYTES = 16_000_000
NodeOf = Callable[[Entry], str]


class ResourceCache:
    """``prefix``: the etcd prefix. ``node_of`` (pods): spec.nodeName of an entry, for the index of watchers by node.

    A value that cannot be decoded is in ``broken`` instead of ``entries``; watchers see its object go.
    """

    def __init__(
        self, prefix: str, framer: Framer, *, node_of: NodeOf | None = None, report: Report = unreported
    ) -> None:
        self.prefix = prefix
        self.framer = framer
        self.entries: dict[str, Entry] = {}
        self.broken: dict[str, Broken] = {}
        self.keys: list[str] = []
        self.history_from = 0
        # Moves with every change and every reset.
        self.changed = 0
        # What this server has written and not yet heard of.
        self._written: dict[str, Entry] = {}
        self._node_of = node_of
        self._report = report
        self._history: deque[Change] = deque()
        self._history_bytes = 0
        self._watchers: dict[IndexKey, set[Watcher]] = {}
        self._delivery = Delivery()
        self._by_node = 0

    # -- fed by the hub --------------------------------------------------------------------------------------------

    def reset(self, revision: int, pairs: Iterable[tuple[str, bytes, int]]) -> None:
        """Exactly these (key, value, mod_revision), in key order. Watchers are dropped: what they missed is not
        known.
        """
        known, self.broken = self.broken, {}
        self.entries = {}
        self._written.clear()
        for key, value, mod_revision in pairs:
            entry = self._decoded(key, value, mod_revision, known)
            if entry is not None:
                self.entries[key] = entry
        self.keys = sorted(self.entries)
        self.history_from = revision
        self.changed += 1
        self._history.clear()
        self._history_bytes = 0
        self.drop_watchers("the history since the last event is gone; list again")

    def apply(self, key: str, value: bytes | None, revision: int) -> Change | None:
        """One change; None when there was nothing to delete."""
        old = self.entries.get(key)
        if self.broken:
            self.broken.pop(key, None)
        new = self._written.pop(key, None)
        if new is None or new.revision != revision:
            new = None if value is None else self._decoded(key, value, revision, {})
        if new is None:
            if old is None:
                return None
            del self.entries[key]
            del self.keys[bisect_left(self.keys, key)]
            change = Change(key, revision, old, None)
        else:
            self.entries[key] = new
            if old is None:
                insort(self.keys, key)
            change = Change(key, revision, old, new)
        self.changed += 1
        self._remember(change)
        if self._watchers:
            self._offer(change)
        return change

    def written(self, key: str, raw: bytes, revision: int) -> Entry:
        """The entry of an object that has just been written with these bytes, the one that the cache will have too."""
        found = self.entries.get(key)
        if found is not None and found.revision == revision:
            return found
        entry = Entry(self.framer, key, raw, revision)
        if found is None or found.revision < revision:
            self._written[key] = entry
        return entry

    def _decoded(self, key: str, value: bytes, revision: int, known: dict[str, Broken]) -> Entry | None:
        """None for a value that is put aside; one that is among the ``known`` is not reported again."""
        try:
            return Entry(self.framer, key, self.framer.raw(value), revision)
        except Undecodable as error:
            self.broken[key] = broken = Broken(value, revision, str(error))
            if known.get(key) != broken:
                self._report(self.prefix, key, broken.cause)
            return None

    def _remember(self, change: Change) -> None:
        self._history.append(change)
        self._history_bytes += _weight(change)
        # A revision is dropped whole: half of one would look like a complete history.
        while len(self._history) > HISTORY or self._history_bytes > HISTORY_BYTES:
            oldest = self._history[0].revision
            if oldest == change.revision:
                break
            while self._history and self._history[0].revision == oldest:
                self._history_bytes -= _weight(self._history.popleft())
            self.history_from = oldest

    def _offer(self, change: Change) -> None:
        watchers = self._watchers
        rest = change.key[len(self.prefix) :]
        namespace, _, name = rest.rpartition("/")
        for index in (("", ""), ("namespace", namespace), ("name", name)):
            for watcher in watchers.get(index, ()):
                watcher.offer(change)
        if self._by_node and self._node_of is not None:
            nodes = {self._node_of(entry) for entry in (change.old, change.new) if entry is not None}
            for node in nodes:
                for watcher in watchers.get(("node", node), ()):
                    watcher.offer(change)

    # -- read ------------------------------------------------------------------------------------------------------

    def select(self, prefix: str, start: str = "") -> list[Entry]:
        """The entries under ``prefix`` in key order, from the key ``start`` on."""
        keys = self.keys
        if prefix == self.prefix and not start:
            first, last = 0, len(keys)
        else:
            first = bisect_left(keys, start or prefix)
            last = bisect_left(keys, prefix[:-1] + chr(ord(prefix[-1]) + 1))
        entries = self.entries
        return [entries[key] for key in (keys if last - first == len(keys) else keys[first:last])]

    def broken_under(self, prefix: str) -> list[str]:
        """The keys under ``prefix`` whose values cannot be decoded."""
        return [key for key in self.broken if key.startswith(prefix)] if self.broken else []

    def since(self, revision: int, prefix: str) -> list[Change] | None:
        """The changes after ``revision``; None when the history does not go back that far."""
        if revision < self.history_from:
            return None
        found: list[Change] = []
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            if change.key.startswith(prefix):
                found.append(change)
        found.reverse()
        return found

    # -- watchers --------------------------------------------------------------------------------------------------

    def watch(self, *, prefix: str, predicate: Predicate | None, index: IndexKey) -> Watcher:
        watcher = Watcher(prefix=prefix, predicate=predicate, index=index, delivery=self._delivery)
        self._watchers.setdefault(index, set()).add(watcher)
        self._by_node += index[0] == "node"
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        watchers = self._watchers.get(watcher.index)
        if watchers and watcher in watchers:
            watchers.discard(watcher)
            self._by_node -= watcher.index[0] == "node"
            if not watchers:
                del self._watchers[watcher.index]

    def drop_watchers(self, reason: str) -> None:
        """Ends all watches: what they were promised no longer holds."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.drop(reason)

    @property
    def watcher_count(self) -> int:
        return sum(len(watchers) for watchers in self._watchers.values())


def _weight(change: Change) -> int:
    # The newest version is in the store anyway; what history holds on to is the older one.
    return 200 + (len(change.old.frame) if change.old is not None else 0)
