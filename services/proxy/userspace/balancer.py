"""Chooses a backend: in turn, or by client address where the Service asks for affinity."""

from collections.abc import Callable, Iterator, Sequence

from services.proxy.model import Target


class Balancer:
    """The backends of one Service port. `now` is a monotonic clock in seconds."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._targets: tuple[Target, ...] = ()
        self._next = 0
        self._affinity_seconds = 0
        self._clients: dict[str, tuple[Target, float]] = {}

    def set(self, targets: Sequence[Target], affinity_seconds: int) -> None:
        self._targets = tuple(targets)
        self._affinity_seconds = affinity_seconds
        if not affinity_seconds:
            self._clients.clear()

    def __contains__(self, target: Target) -> bool:
        return target in self._targets

    def candidates(self, client: str) -> Iterator[Target]:
        """Every backend once, the one whose turn it is first. Whoever connects reports it with `connected`."""
        targets = self._targets
        known = self._known(client)
        if known is not None:
            yield known
        start, self._next = self._next, self._next + (known is None)
        for i in range(len(targets)):
            target = targets[(start + i) % len(targets)]
            if target != known:
                yield target

    def _known(self, client: str) -> Target | None:
        target, until = self._clients.get(client, (None, 0.0))
        return target if target in self._targets and self._now() < until else None

    def connected(self, client: str, target: Target) -> None:
        if self._affinity_seconds:
            self._clients[client] = (target, self._now() + self._affinity_seconds)

    def expire(self) -> None:
        """Forgets clients whose time is over."""
        now = self._now()
        self._clients = {client: held for client, held in self._clients.items() if now < held[1]}
