"""What a controller has written and its informer has not shown yet.

A ReplicaSet that created three pods must not create three more because its cache is a moment late. Names are chosen by
the controller before the call, so each creation is expected by name, and each deletion by uid: a lost answer or a
restart cannot make the count drift, as a plain counter would.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tillerman.client.clock import Clock

# How long a controller waits for its cache to show what it wrote, in seconds, before it trusts the cache again.
EXPECTATION_TIMEOUT = 300.0
# The same when the answer to the write was lost and it may never have happened.
UNKNOWN_OUTCOME_TIMEOUT = 10.0


@dataclass
class _Pending:
    creations: dict[str, float] = field(default_factory=dict)
    deletions: dict[str, float] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not self.creations and not self.deletions


class Expectations:
    """Per owner key: the child names being created and child uids being deleted, each with a deadline."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending: dict[str, _Pending] = {}

    def expect_creations(self, key: str, names: Iterable[str]) -> None:
        deadline = self._clock.monotonic() + EXPECTATION_TIMEOUT
        pending = self._pending.setdefault(key, _Pending())
        pending.creations.update((name, deadline) for name in names)

    def expect_deletions(self, key: str, uids: Iterable[str]) -> None:
        deadline = self._clock.monotonic() + EXPECTATION_TIMEOUT
        pending = self._pending.setdefault(key, _Pending())
        pending.deletions.update((uid, deadline) for uid in uids)

    def unknown_outcome(self, key: str, *, name: str = "", uid: str = "") -> None:
        """The answer was lost: wait only briefly for the cache to show the write."""
        pending = self._pending.get(key)
        if pending is None:
            return
        deadline = self._clock.monotonic() + UNKNOWN_OUTCOME_TIMEOUT
        if name in pending.creations:
            pending.creations[name] = deadline
        if uid in pending.deletions:
            pending.deletions[uid] = deadline

    def creation_settled(self, key: str, name: str) -> None:
        """The cache shows the child, or the call was refused."""
        self._settle(key, "creations", name)

    def deletion_settled(self, key: str, uid: str) -> None:
        """The cache shows the child as deleted or terminating, or the call was refused."""
        self._settle(key, "deletions", uid)

    def satisfied(self, key: str) -> bool:
        return self.wait_seconds(key) is None

    def wait_seconds(self, key: str) -> float | None:
        """None when the cache may be trusted, else the seconds until the last deadline."""
        pending = self._pending.get(key)
        if pending is None:
            return None
        now = self._clock.monotonic()
        for waiting in (pending.creations, pending.deletions):
            for item in [item for item, deadline in waiting.items() if deadline <= now]:
                del waiting[item]
        if pending.empty:
            del self._pending[key]
            return None
        return max([*pending.creations.values(), *pending.deletions.values()]) - now

    def pending_deletions(self, key: str) -> frozenset[str]:
        pending = self._pending.get(key)
        return frozenset(pending.deletions) if pending else frozenset()

    def forget(self, key: str) -> None:
        self._pending.pop(key, None)

    def _settle(self, key: str, what: str, item: str) -> None:
        pending = self._pending.get(key)
        if pending is None:
            return
        (pending.creations if what == "creations" else pending.deletions).pop(item, None)
        if pending.empty:
            del self._pending[key]
