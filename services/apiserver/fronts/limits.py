"""How many requests are served at the same time, and whose turn it is.

A user alone may use nearly all of the server. As soon as another asks too, nobody has more than a share of requests
served at the same time: further ones of the same user wait for their own, and whoever has waited longest without a turn
is next. So a client that floods the server waits behind itself, while a light one is served as if it were alone; and it
waits here, not where gRPC takes new calls one after the other: beside others, who asks often gets no second turn before
the event loop has taken in what else has come.

What waits or is served counts against bounds beyond which requests are refused with 429: three quarters of the places
for one user, all of them together.

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
# Turns of the event loop between two turns of a user who has had so many in a second, beside others. gRPC needs several
# to take one new call per server.
OFTEN, LOOP_TURNS = 200, 8


class _Turns:
    """One user's requests. ``until``: present until this time. ``had``: turns since ``since``, half of the older."""

    __slots__ = ("had", "running", "since", "until", "waiting")

    def __init__(self) -> None:
        self.had = 0
        self.since = 0.0
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
        # Whose next turn comes later, and after how many turns of the event loop.
        self._paced: set[_Turns] = set()
        self._paced_for = 0
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
        if now >= turns.since + 1.0:
            turns.since, turns.had = now, turns.had // 2
        self._taken += 1
        if self._may_start(turns, crowded=self._crowded(now)):
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
        crowded = self._crowded(self._monotonic())
        for name in list(self._users):
            turns = self._users[name]
            served = False
            while turns.waiting:
                if turns.waiting[0].done():
                    turns.waiting.popleft()
                elif self._may_start(turns, crowded=crowded):
                    turns.waiting.popleft().set_result(None)
                    served = True
                else:
                    break
                self._queued -= 1
            if served:
                self._users[name] = self._users.pop(name)

    def _may_start(self, turns: _Turns, *, crowded: bool) -> bool:
        """Whether one more request of the user may be served now; it is then."""
        if turns.running >= (self._share if crowded else self._per_user) or (crowded and turns in self._paced):
            return False
        turns.running += 1
        turns.had += 1
        if crowded and turns.had > OFTEN:
            if not self._paced:
                self._paced_for = LOOP_TURNS
                asyncio.get_running_loop().call_soon(self._loop_turned)
            self._paced.add(turns)
        return True

    def _loop_turned(self) -> None:
        self._paced_for -= 1
        if self._paced_for:
            asyncio.get_running_loop().call_soon(self._loop_turned)
            return
        self._paced.clear()
        if self._queued:
            self._next()

    def _crowded(self, now: float) -> bool:
        """Whether more than one user is present."""
        present = 0
        for turns in self._users.values():
            if turns.until > now or turns.held:
                present += 1
                if present > 1:
                    return True
        return False

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
