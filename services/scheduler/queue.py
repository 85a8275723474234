"""Pods that wait: active (to be tried now, by priority, then time), backing off, unschedulable, or gated.

Single event loop, no locks; time comes from the clock passed in. A pod is in one place at a time, or in flight between
`pop` and what follows: `done`, `unschedulable` or `failed`. When there is nothing active, pods that wait out their
back-off after an event that may help are tried early: after a small part of it.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from services.scheduler.metrics import incoming, pending
from services.scheduler.snapshot import Change
from services.scheduler.template import PodInfo
from tillerman.client.clock import Clock

ACTIVE, BACKOFF, UNSCHEDULABLE, GATED, IN_FLIGHT = "active", "backoff", "unschedulable", "gated", "in flight"
INITIAL_BACKOFF = 1.0
MAX_BACKOFF = 10.0
# The part of the back-off that is waited for in any case, lest a stream of events keeps the scheduler trying in vain.
EARLY = 0.05
UNSCHEDULABLE_FOR = 300.0
FLUSH_PERIOD = 30.0


@dataclass(slots=True, eq=False)
class QueuedPod:
    """`added` is when the pod first came (monotonic seconds), `since` when it came to its present place."""

    info: PodInfo
    added: float
    since: float
    order: int
    place: str = ""
    attempts: int = 0
    refused_by: frozenset[str] = frozenset()
    message: str = ""
    nominated: str = ""
    ready_at: float = 0.0
    early_at: float = 0.0
    after_error: bool = False
    ticket: int = field(default=0)


class SchedulingQueue:
    """`may_help(plugins, changes)` tells whether changes are of use to a pod that plugins refused."""

    def __init__(self, clock: Clock, may_help: Callable[[Iterable[str], set[Change]], bool]) -> None:
        self._clock = clock
        self._may_help = may_help
        self._pods: dict[str, QueuedPod] = {}
        self._active: list[tuple[int, int, int, QueuedPod]] = []
        self._backoff: list[tuple[float, int, QueuedPod]] = []
        self._waiting: dict[str, QueuedPod] = {}
        self._counts = dict.fromkeys((ACTIVE, BACKOFF, UNSCHEDULABLE, GATED, IN_FLIGHT), 0)
        self._tickets = itertools.count(1)
        self._orders = itertools.count()
        self._wake = asyncio.Event()
        # Changes seen while a pod was in flight, so that none falls between the attempt and the waiting room.
        self._missed: dict[str, set[Change]] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def get(self, key: str) -> QueuedPod | None:
        return self._pods.get(key)

    def items(self) -> list[QueuedPod]:
        return list(self._pods.values())

    def count(self, place: str) -> int:
        return self._counts[place]

    def add(self, info: PodInfo) -> None:
        """A pod that has no node; also when it changed."""
        gated = bool(info.pod.spec.schedulingGates)
        queued = self._pods.get(info.key)
        if queued is not None and queued.info.uid != info.uid:
            self.remove(info.key)
            queued = None
        if queued is None:
            now = self._clock.monotonic()
            queued = QueuedPod(info, now, now, next(self._orders), nominated=info.pod.status.nominatedNodeName)
            self._pods[info.key] = queued
            self._put(queued, GATED if gated else ACTIVE, "PodAdd")
            return
        before, queued.info = queued.info, info
        if queued.place == GATED:
            if not gated:
                self._put(queued, ACTIVE, "GatesRemoved")
        elif queued.place == UNSCHEDULABLE and before.template is not info.template:
            self._retry(queued, "PodUpdate")
        elif queued.place == ACTIVE and before.priority != info.priority:
            self._put(queued, ACTIVE, "PodUpdate")

    def remove(self, key: str) -> QueuedPod | None:
        queued = self._pods.pop(key, None)
        if queued is not None:
            self._leave(queued)
            queued.place = ""
            queued.ticket = 0
            self._missed.pop(key, None)
        return queued

    async def wait(self) -> None:
        """Returns when there may be something to pop."""
        while not self._ready():
            self._wake.clear()
            timer = None
            due = self._next_backoff()
            if due is not None:
                timer = self._clock.call_later(max(due - self._clock.monotonic(), 0.0), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def pop(self, most: int) -> list[QueuedPod]:
        """Up to `most` pods, in the order in which to try them; they are in flight now."""
        self._expire_backoff()
        popped: list[QueuedPod] = []
        while self._active and len(popped) < most:
            _, _, ticket, queued = heapq.heappop(self._active)
            if ticket == queued.ticket:
                popped.append(queued)
        if not popped:
            now = self._clock.monotonic()
            early = [queued for queued in self._early() if queued.early_at <= now]
            popped = sorted(early, key=lambda queued: (-queued.info.priority, queued.order))[:most]
        for queued in popped:
            self._put(queued, IN_FLIGHT, "")
            queued.attempts += 1
            self._missed[queued.info.key] = set()
        return popped

    def done(self, key: str) -> None:
        """The pod is bound, or not ours any more."""
        self.remove(key)

    def unschedulable(self, queued: QueuedPod, plugins: frozenset[str], message: str) -> None:
        """No node will do; until something changes that may help."""
        queued.refused_by, queued.message, queued.after_error = plugins, message, False
        self._set_backoff(queued)
        missed = self._missed.pop(queued.info.key, None)
        if self._pods.get(queued.info.key) is not queued:
            return
        self._put(queued, UNSCHEDULABLE, "ScheduleAttemptFailure")
        if missed and self._may_help(plugins, missed):
            self._retry(queued, "MissedChange")

    def failed(self, queued: QueuedPod, message: str) -> None:
        """The attempt went wrong (a refused bind, an API server away): again after the back-off."""
        if self._pods.get(queued.info.key) is not queued:
            return
        self._missed.pop(queued.info.key, None)
        queued.message, queued.after_error = message, True
        self._set_backoff(queued)
        self._put(queued, BACKOFF, "ScheduleAttemptFailure")

    def changed(self, changes: set[Change]) -> None:
        """Tries again what the changes may help."""
        if not changes:
            return
        for missed in self._missed.values():
            missed |= changes
        for queued in list(self._waiting.values()):
            if self._may_help(queued.refused_by, changes):
                self._retry(queued, min(change.name for change in changes))

    def flush(self) -> None:
        """Tries again what has been unschedulable for long, whatever the reason."""
        latest = self._clock.monotonic() - UNSCHEDULABLE_FOR
        for queued in list(self._waiting.values()):
            if queued.since <= latest:
                self._retry(queued, "UnschedulableTimeout")

    def _retry(self, queued: QueuedPod, event: str) -> None:
        self._put(queued, BACKOFF if queued.ready_at > self._clock.monotonic() else ACTIVE, event)

    def _put(self, queued: QueuedPod, place: str, event: str) -> None:
        self._leave(queued)
        queued.place = place
        queued.since = self._clock.monotonic()
        queued.ticket = next(self._tickets)
        self._counts[place] += 1
        if place == ACTIVE:
            heapq.heappush(self._active, (-queued.info.priority, queued.order, queued.ticket, queued))
            self._wake.set()
        elif place == BACKOFF:
            heapq.heappush(self._backoff, (queued.ready_at, queued.ticket, queued))
            self._wake.set()
        elif place == UNSCHEDULABLE:
            self._waiting[queued.info.key] = queued
        if event:
            incoming(place, event).inc()
        self._publish(place)

    def _leave(self, queued: QueuedPod) -> None:
        if queued.place:
            self._counts[queued.place] -= 1
            self._publish(queued.place)
        if queued.place == UNSCHEDULABLE:
            self._waiting.pop(queued.info.key, None)

    def _publish(self, place: str) -> None:
        if place != IN_FLIGHT:
            pending(place).set(self._counts[place])

    def _ready(self) -> bool:
        self._expire_backoff()
        now = self._clock.monotonic()
        return self._counts[ACTIVE] > 0 or any(queued.early_at <= now for queued in self._early())

    def _early(self) -> Iterable[QueuedPod]:
        """Pods that need not wait out their back-off; not those whose last attempt went wrong."""
        return (queued for _, ticket, queued in self._backoff if ticket == queued.ticket and not queued.after_error)

    def _next_backoff(self) -> float | None:
        while self._backoff and self._backoff[0][1] != self._backoff[0][2].ticket:
            heapq.heappop(self._backoff)
        if not self._backoff:
            return None
        return min(self._backoff[0][0], min((queued.early_at for queued in self._early()), default=float("inf")))

    def _expire_backoff(self) -> None:
        now = self._clock.monotonic()
        while self._backoff and (self._backoff[0][0] <= now or self._backoff[0][1] != self._backoff[0][2].ticket):
            _, ticket, queued = heapq.heappop(self._backoff)
            if ticket == queued.ticket:
                self._put(queued, ACTIVE, "BackoffComplete")

    def _set_backoff(self, queued: QueuedPod) -> None:
        seconds = min(INITIAL_BACKOFF * 2.0 ** min(max(queued.attempts - 1, 0), 10), MAX_BACKOFF)
        now = self._clock.monotonic()
        queued.ready_at, queued.early_at = now + seconds, now + seconds * EARLY
