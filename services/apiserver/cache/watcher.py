"""One watcher: what it selects and the events that wait for it. Bounded: a watcher that cannot keep up is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from services.apiserver.cache.changes import Change, WatchEvent
from services.apiserver.cache.delivery import Delivery
from services.apiserver.cache.entry import Entry

# What may wait for a watcher, of what has happened since it was last emptied.
MAX_WAITING = 20_000
MAX_WAITING_BYTES = 32_000_000
Predicate = Callable[[Entry], bool]
IndexKey = tuple[str, str]


class WatcherDropped(Exception):
    """The watcher fell too far behind, or the cache lost its history."""


class Watcher:
    """Filled synchronously by its ResourceCache, emptied by one consumer with ``take``."""

    __slots__ = (
        "_bytes",
        "_called",
        "_count",
        "_delivery",
        "_dropped",
        "_wake",
        "after",
        "index",
        "predicate",
        "prefix",
        "waiting",
    )

    def __init__(self, *, prefix: str, predicate: Predicate | None, index: IndexKey, delivery: Delivery) -> None:
        self.prefix = prefix
        self.predicate = predicate
        self.index = index
        # Changes up to this revision are none of its business, even if they are yet to come.
        self.after = 0
        self.waiting: list[WatchEvent] = []
        self._count = self._bytes = 0
        self._delivery = delivery
        # Set while the consumer waits, and whether it has been put down for a delivery then.
        self._wake: asyncio.Future[None] | None = None
        self._called = False
        self._dropped: str = ""

    def begin(self, changes: Iterable[Change]) -> None:
        """What happened before the watch; not bounded: a watcher that is far behind must be able to catch up."""
        self.waiting.extend(event for change in changes if (event := self._seen(change)) is not None)

    def offer(self, change: Change) -> None:
        event = self._seen(change)
        if event is not None:
            self.push(event)

    def _seen(self, change: Change) -> WatchEvent | None:
        """What this watcher sees of a change."""
        if change.revision <= self.after or not change.key.startswith(self.prefix):
            return None
        if self.predicate is None:
            return change.event(change.old is not None, change.new is not None)
        return change.event(
            change.old is not None and self.predicate(change.old),
            change.new is not None and self.predicate(change.new),
        )

    def push(self, event: WatchEvent) -> None:
        if self._dropped:
            return
        self.waiting.append(event)
        self._count += 1
        self._bytes += len(event.entry.frame)
        if self._count > MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
            self.drop("the watcher did not keep up; resume from the last resourceVersion seen, or list again")
        self._notify()

    def drop(self, reason: str) -> None:
        """Ends the watch after nothing more: what waits is thrown away."""
        self._dropped = reason
        self.waiting = []
        self._notify()

    async def take(self) -> list[WatchEvent]:
        """All events that wait, at least one; all events of a revision come together. Raises WatcherDropped."""
        if self._delivery.resting:
            await self._turn()
        while not self.waiting and not self._dropped:
            await self._turn()
        if self._dropped:
            raise WatcherDropped(self._dropped)
        events, self.waiting = self.waiting, []
        self._count = self._bytes = 0
        return events

    async def _turn(self) -> None:
        """Waits to be woken."""
        self._wake = asyncio.get_running_loop().create_future()
        if self.waiting or self._dropped:
            self._notify()
        try:
            await self._wake
        finally:
            self._wake = None
            self._called = False

    def _notify(self) -> None:
        if self._wake is not None and not self._called:
            self._called = True
            self._delivery.add(self._wake)
