"""A queue of keys to reconcile, and the workers that do.

A key is in work at most once at any moment: adding one that waits changes nothing, adding one that is in work queues it
again when its worker is done. Different keys are worked on at once. Single event loop, no locks: every method but
`get` is synchronous. `shut_down` lets the workers finish the key they hold and then ends `run_workers`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tillerman.client.clock import Clock, RealClock, Timer
from tillerman.client.workqueue_metrics import QueueMetrics

log = logging.getLogger(__name__)


class QueueShutDown(Exception):
    """The queue is shut down and empty."""


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Delay before attempt n+1 of a key that failed n times: base * 2**n seconds, at most `maximum`."""

    base: float = 0.005
    maximum: float = 1000.0

    def delay(self, failures: int) -> float:
        return min(self.base * 2.0 ** min(failures, 60), self.maximum)


@dataclass(frozen=True, slots=True)
class QueueItem:
    """A key as `snapshot` shows it. state: "active" (waits), "processing", "delayed"; seconds so far, or until due."""

    key: str
    state: str
    retries: int
    seconds: float


class WorkQueue:
    def __init__(self, name: str, *, clock: Clock | None = None, backoff: ExponentialBackoff | None = None) -> None:
        self.name = name
        self._clock = clock or RealClock()
        self._backoff = backoff or ExponentialBackoff()
        self._order: deque[str] = deque()
        self._added_at: dict[str, float] = {}
        self._again: set[str] = set()
        self._processing: dict[str, float] = {}
        self._delayed: dict[str, tuple[float, Timer]] = {}
        self._failures: dict[str, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._shut_down = False
        self._metrics = QueueMetrics(name, self._work_times)

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._order)

    def add(self, key: str) -> None:
        if self._shut_down or key in self._added_at or key in self._again:
            return
        self._metrics.adds.inc()
        if key in self._processing:
            self._again.add(key)
            return
        self._enqueue(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Adds the key when the time has passed; of several pending times of one key the earliest counts."""
        if self._shut_down:
            return
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        pending = self._delayed.get(key)
        if pending is not None:
            if pending[0] <= due:
                return
            pending[1].cancel()
        self._delayed[key] = (due, self._clock.call_later(seconds, lambda: self._due(key)))

    def add_rate_limited(self, key: str) -> None:
        """Adds the key after its back-off, and counts a failure."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._metrics.retries.inc()
        self.add_after(key, self._backoff.delay(failures))

    def forget(self, key: str) -> None:
        """The key succeeded: its next failure backs off from the start."""
        self._failures.pop(key, None)

    def retries(self, key: str) -> int:
        return self._failures.get(key, 0)

    async def get(self) -> str:
        """The next key; the caller owns it until it calls `done`. Raises QueueShutDown."""
        while not self._order:
            if self._shut_down:
                raise QueueShutDown(self.name)
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise
        key = self._order.popleft()
        now = self._clock.monotonic()
        self._metrics.queue_duration.observe(now - self._added_at.pop(key))
        self._metrics.depth.set(len(self._order))
        self._processing[key] = now
        return key

    def done(self, key: str) -> None:
        self._metrics.work_duration.observe(self._clock.monotonic() - self._processing.pop(key))
        if key in self._again:
            self._again.discard(key)
            self._enqueue(key)

    def shut_down(self) -> None:
        """Takes no more keys, drops delayed ones; `get` hands out what waits, then raises QueueShutDown."""
        self._shut_down = True
        for _, timer in self._delayed.values():
            timer.cancel()
        self._delayed.clear()
        while self._waiters:
            self._wake()

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is in work; delayed keys don't count."""
        return not self._order and not self._processing

    def snapshot(self) -> list[QueueItem]:
        now = self._clock.monotonic()
        items = [QueueItem(k, "active", self.retries(k), now - self._added_at[k]) for k in self._order]
        items += [QueueItem(k, "processing", self.retries(k), now - since) for k, since in self._processing.items()]
        items += [QueueItem(k, "delayed", self.retries(k), due - now) for k, (due, _) in self._delayed.items()]
        return items

    def _enqueue(self, key: str) -> None:
        self._added_at[key] = self._clock.monotonic()
        self._order.append(key)
        self._metrics.depth.set(len(self._order))
        self._wake()

    def _due(self, key: str) -> None:
        self._delayed.pop(key, None)
        self.add(key)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _work_times(self) -> list[float]:
        now = self._clock.monotonic()
        return [now - since for since in self._processing.values()]


Reconcile = Callable[[str], Awaitable[float | None]]


async def run_workers(queue: WorkQueue, reconcile: Reconcile, *, workers: int = 4) -> None:
    """Reconciles keys until the queue is shut down.

    A reconcile that returns seconds is run again after them; one that raises is run again after the key's back-off.
    Cancelling ends at once; `queue.shut_down()` ends after the keys in work and those that wait.
    """
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(_work(queue, reconcile), name=f"{queue.name}-worker-{number}")


async def _work(queue: WorkQueue, reconcile: Reconcile) -> None:
    while True:
        try:
            key = await queue.get()
        except QueueShutDown:
            return
        try:
            again_after = await reconcile(key)
        except Exception as error:
            _log_failure(queue, key, error)
            queue.add_rate_limited(key)
        else:
            queue.forget(key)
            if again_after is not None:
                queue.add_after(key, again_after)
        finally:
            queue.done(key)


def _log_failure(queue: WorkQueue, key: str, error: Exception) -> None:
    """Refusals by the API server (a conflict, say) are part of life; anything else deserves its traceback."""
    from tillerman.api.status import StatusError

    attempt = queue.retries(key) + 1
    if isinstance(error, StatusError):
        level = logging.INFO if error.reason == "Conflict" else logging.WARNING
        log.log(level, "reconcile of %s %s refused (attempt %d): %s", queue.name, key, attempt, error)
    else:
        log.error("reconcile of %s %s failed (attempt %d)", queue.name, key, attempt, exc_info=error)
