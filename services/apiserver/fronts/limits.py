"""How many requests are served at the same time, and whose turn it is.

A user alone may use nearly all of the server. As soon as another asks too, nobody has more than a share of requests
served at the same time: further ones of the same user wait for their own, and whoever has waited longest without a turn
is next. So a client that floods the server waits behind itself, while a light one is served as if it were alone. What
waits or is served counts against bounds beyond which requests are refused with 429: three quarters of the places for
one user, all of them together.

Runs on the event loop; every change happens between awaits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from services.apiserver.registry.context import User
from tillerman.api.status import too_many_requests

RETRY_AFTER_SECONDS = 1
# Seconds for which a user counts as present after a request.
PRESENT_SECONDS = 1.0
# Few enough to be served in a blink. Writes end together, as one transaction: when many more end at once than gRPC
# takes in a turn of the loop, new calls pile up before the limits, where everybody waits behind everybody.
SHARE_OF_READS, SHARE_OF_WRITES = 16, 8


class _Turns:
    """One user's requests. ``until``: present until this time."""

    __slots__ = ("running", "until", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.until = 0.0
        self.waiting: deque[asyncio.Future[None]] = deque()

    @property
    def held(self) -> int:
        return self.running + len(self.waiting)


class Limit:
    """The places of one kind of request (reads, or writes). ``share``: how many of one user's are served at the same
    time while others are present.
    """

    def __init__(self, places: int, *, share: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._per_user = max(1, places * 3 // 4)
        self._share = min(share, self._per_user)
        self._monotonic = monotonic
        self._taken = 0
        self._queued = 0
        self._forget_at = 0.0
        # In the order in which they had their last turn from the queue.
        self._users: dict[str, _Turns] = {}

    def place(self, user: User) -> Place:
        """Raises TooManyRequests. Enter it to be served."""
        turns = self._users.get(user.name)
        if self._taken >= self._places or (turns is not None and turns.held >= self._per_user):
            raise too_many_requests("Too many requests, please try again later.", RETRY_AFTER_SECONDS)
        return Place(self, user.name)

    def enter(self, user: str) -> asyncio.Future[None] | None:
        """None when the request may be served now, else what to wait for."""
        now = self._monotonic()
        if now >= self._forget_at:
            self._forget_absent(now)
        turns = self._users.get(user)
        if turns is None:
            turns = self._users[user] = _Turns()
        turns.until = now + PRESENT_SECONDS
        self._taken += 1
        if turns.running < self._allowed(now):
            turns.running += 1
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turns.waiting.append(future)
        self._queued += 1
        return future

    def leave(self, user: str, waiting: asyncio.Future[None] | None) -> None:
        """The request is over; ``waiting`` if it has not had its turn."""
        turns = self._users[user]
        self._taken -= 1
        if waiting is not None and not (waiting.done() and not waiting.cancelled()):
            if waiting in turns.waiting:
                turns.waiting.remove(waiting)
                self._queued -= 1
            return
        turns.running -= 1
        if self._queued:
            self._next()

    def _next(self) -> None:
        """Gives turns to those who wait, whose own are free, the one first whose last is longest ago."""
        allowed = self._allowed(self._monotonic())
        for name in list(self._users):
            turns = self._users[name]
            served = False
            while turns.waiting and turns.running < allowed:
                future = turns.waiting.popleft()
                self._queued -= 1
                if not future.done():
                    turns.running += 1
                    future.set_result(None)
                    served = True
            if served:
                self._users[name] = self._users.pop(name)

    def _allowed(self, now: float) -> int:
        """Requests of one user that are served at the same time."""
        present = 0
        for turns in self._users.values():
            if turns.until > now or turns.held:
                present += 1
                if present > 1:
                    return self._share
        return self._per_user

    def _forget_absent(self, now: float) -> None:
        for name in [n for n, turns in self._users.items() if turns.until <= now and not turns.held]:
            del self._users[name]
        self._forget_at = now + PRESENT_SECONDS


class Limits:
    """Of one server, whichever front a request comes through."""

    def __init__(self, *, max_reads: int, max_writes: int) -> None:
        self.reads = Limit(max_reads, share=SHARE_OF_READS)
        self.writes = Limit(max_writes, share=SHARE_OF_WRITES)


class Place:
    """A request's place, from when it is let in until it is answered."""

    __slots__ = ("_limit", "_user", "_waiting")

    def __init__(self, limit: Limit, user: str) -> None:
        self._limit = limit
        self._user = user

    async def __aenter__(self) -> None:
        self._waiting = self._limit.enter(self._user)
        if self._waiting is not None:
            try:
                await self._waiting
            except asyncio.CancelledError:
                self._limit.leave(self._user, self._waiting)
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.leave(self._user, None)
