"""All caches, fed by the one watch on etcd. Keys of no known resource are kept aside until a resource claims them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from services.apiserver.cache.entry import Framer
from services.apiserver.cache.resource import NodeOf, ResourceCache
from services.apiserver.cache.undecodable import Report, unreported
from tillerman.pb.etcd import kv_pb2

ROOT = "/registry/"
DELETE = kv_pb2.Event.DELETE
# What is not UTF-8 in a key, which no object's is: kept in a form that can be shown.
UNREADABLE = "backslashreplace"


class CacheHub:
    """A storage.feed.Sink. ``revision``: up to where all caches have come. ``report`` is told of values that cannot be
    decoded.
    """

    def __init__(self, report: Report = unreported) -> None:
        self.revision = 0
        self._report = report
        self._caches: dict[str, ResourceCache] = {}
        self._unclaimed: dict[str, dict[str, tuple[bytes, int]]] = defaultdict(dict)
        self.events_total = 0

    def add(self, prefix: str, framer: Framer, *, node_of: NodeOf | None = None) -> ResourceCache:
        """The cache of the resource stored under ``prefix``, filled with what is known of it already."""
        cache = self._caches.get(prefix)
        if cache is None:
            cache = ResourceCache(prefix, framer, node_of=node_of, report=self._report)
            cache.reset(self.revision, self._claim(prefix))
            self._caches[prefix] = cache
        return cache

    def remove(self, prefix: str) -> None:
        """Ends a resource's cache and its watches. What is still stored is kept aside."""
        cache = self._caches.pop(prefix, None)
        if cache is None:
            return
        aside = self._unclaimed[_prefix_of(prefix)[0]]
        for key, entry in cache.entries.items():
            aside[key] = (cache.framer.stored(entry), entry.revision)
        for key, broken in cache.broken.items():
            aside[key] = (broken.value, broken.revision)
        cache.reset(self.revision, [])

    def count(self, prefix: str) -> int:
        """Objects under a prefix, claimed or not."""
        cache = self._caches.get(prefix)
        if cache is not None:
            return len(cache.entries) + len(cache.broken)
        return sum(key.startswith(prefix) for key in self._unclaimed[_prefix_of(prefix)[0]])

    # -- storage.feed.Sink -----------------------------------------------------------------------------------------

    def reset(self, revision: int, pairs: Sequence[kv_pb2.KeyValue]) -> None:
        groups: dict[str, list[tuple[str, bytes, int]]] = defaultdict(list)
        self._unclaimed.clear()
        for pair in pairs:
            key = pair.key.decode(errors=UNREADABLE)
            prefix = self._claimed_prefix(key)
            if prefix is not None:
                groups[prefix].append((key, pair.value, pair.mod_revision))
            else:
                self._unclaimed[_prefix_of(key)[0]][key] = (pair.value, pair.mod_revision)
        self.revision = revision
        for prefix, cache in self._caches.items():
            cache.reset(revision, groups.get(prefix, []))

    def apply(self, revision: int, events: Sequence[kv_pb2.Event]) -> None:
        for event in events:
            raw_key = event.kv.key
            if not raw_key.startswith(b"/registry/"):
                continue
            key = raw_key.decode(errors=UNREADABLE)
            value = None if event.type == DELETE else event.kv.value
            prefix = self._claimed_prefix(key)
            if prefix is not None:
                self._caches[prefix].apply(key, value, revision)
            elif value is None:
                self._unclaimed[_prefix_of(key)[0]].pop(key, None)
            else:
                self._unclaimed[_prefix_of(key)[0]][key] = (value, revision)
        self.events_total += len(events)
        self.revision = revision

    def _claim(self, prefix: str) -> list[tuple[str, bytes, int]]:
        """Takes what is known under a prefix out of the unclaimed, which are grouped by the first level."""
        group = self._unclaimed[_prefix_of(prefix)[0]]
        found = [key for key in group if key.startswith(prefix)]
        return [(key, *group.pop(key)) for key in found]

    def _claimed_prefix(self, key: str) -> str | None:
        one, two = _prefix_of(key)
        if two in self._caches:
            return two
        return one if one in self._caches else None


def _prefix_of(key: str) -> tuple[str, str]:
    """The key's first level and first two levels: "/registry/pods/", "/registry/services/specs/"."""
    first = key.find("/", len(ROOT)) + 1
    second = key.find("/", first) + 1
    return key[:first], key[:second] if second else key[:first]
