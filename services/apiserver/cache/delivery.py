"""When watchers are woken: in slices, and, where there are many, no more often than pays.

A message to a watcher costs nearly the same however many events it carries. So where hundreds watch one resource,
events gather: after a delivery the next one waits as long again as that took. In between, and between the slices of one
delivery, other requests are served. A few watchers are woken at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

# Watchers that are woken in one turn of the event loop. A delivery to no more than these is followed by no rest.
SLICE = 32
LONGEST_REST = 0.1  # seconds

Wake = asyncio.Future[None]


class Delivery:
    """Of one resource. Runs on the event loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._due: list[Wake] = []
        self._batch: deque[Wake] = deque()
        self._scheduled = False
        self._large = False
        self._began = 0.0
        self._earliest = 0.0

    @property
    def resting(self) -> bool:
        """Whether who has something waiting should let more gather."""
        return self._large and (bool(self._batch) or self._monotonic() < self._earliest)

    def add(self, wake: Wake) -> None:
        """Its result is set when its turn has come."""
        self._due.append(wake)
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        loop = asyncio.get_running_loop()
        rest = self._earliest - self._monotonic() if self._large else 0.0
        if rest > 0:
            loop.call_later(rest, self._begin)
        else:
            loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._began = self._monotonic()
        self._batch.extend(self._due)
        self._due.clear()
        self._large = len(self._batch) > SLICE
        self._next()

    def _next(self) -> None:
        for _ in range(min(SLICE, len(self._batch))):
            wake = self._batch.popleft()
            if not wake.done():
                wake.set_result(None)
        # After those that have just been woken.
        asyncio.get_running_loop().call_soon(self._next if self._batch else self._end)

    def _end(self) -> None:
        now = self._monotonic()
        self._earliest = now + min(now - self._began, LONGEST_REST)
        self._scheduled = False
        if self._due:
            self._schedule()
