"""How many requests are served at the same time; more are refused with 429, so that a flood ends early and cheaply.

One user may hold at most three quarters of the places of its kind: a client that floods the server leaves room for
the rest.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from services.apiserver.registry.context import User
from tillerman.api.status import too_many_requests

RETRY_AFTER_SECONDS = 1


class Limit:
    """The places of one kind of request (reads, or writes)."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._per_user = max(1, places * 3 // 4)
        self._taken = 0
        self._users: Counter[str] = Counter()

    def place(self, user: User) -> Place:
        """Raises TooManyRequests."""
        if self._taken >= self._places or self._users[user.name] >= self._per_user:
            raise too_many_requests("Too many requests, please try again later.", RETRY_AFTER_SECONDS)
        return Place(self, user.name)

    def enter(self, user: str) -> None:
        self._taken += 1
        self._users[user] += 1

    def leave(self, user: str) -> None:
        self._taken -= 1
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]


class Place:
    """A request's place, while it is served."""

    __slots__ = ("_limit", "_user")

    def __init__(self, limit: Limit, user: str) -> None:
        self._limit = limit
        self._user = user

    def __enter__(self) -> None:
        self._limit.enter(self._user)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.leave(self._user)
