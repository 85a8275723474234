"""Keeps a new pod out of rotation for the moment in which it is Ready but nothing listens in it yet.

A container without a readiness probe counts as ready when its process runs, some milliseconds before that listens.
Elsewhere slow machinery hides that; here rules follow within milliseconds, and clients would be refused in the middle
of a rolling update. So the first time that an endpoint on this machine turns up, it is connected to once: as soon as
that succeeds, or after SECONDS at the latest, it takes its turn. Until then Services use their other endpoints; one
that has no other uses it at once. One short-lived task per new endpoint, all cancelled by `stop`.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable

from services.proxy.model import Target

SECONDS = 1.0
# An address that does not even refuse is no pod that is about to listen.
SILENT_SECONDS = 0.15
PAUSE_SECONDS = (0.005, 0.04)
# With so many under way somebody simulates pods: they get no trial.
MOST = 256


class Warmup:
    """`on_ready(service_key)` is called for every Service that waited for an endpoint."""

    def __init__(self, *, on_ready: Callable[[str], object], seconds: float = SECONDS) -> None:
        self._on_ready = on_ready
        self._seconds = seconds
        self._known: dict[Target, set[str]] = {}
        self._waiting: dict[Target, asyncio.Task[None]] = {}
        self._open = True

    def begin(self) -> None:
        """From now on new endpoints are tried first; those seen before were in rotation before this process was."""
        self._open = False

    def is_held(self, service_key: str, target: Target) -> bool:
        """True while the endpoint should not be used. The first question about an endpoint starts its trial."""
        services = self._known.setdefault(target, set())
        is_new = not services and target not in self._waiting
        services.add(service_key)
        if is_new and not self._open and len(self._waiting) < MOST and self._seconds > 0:
            task = asyncio.get_running_loop().create_task(self._try(target), name="proxy-warm-up")
            self._waiting[target] = task
        return target in self._waiting

    def keep(self, service_key: str, targets: Iterable[Target], before: Iterable[Target]) -> None:
        """Forgets those of the Service's earlier endpoints that are not among the present ones."""
        for target in set(before) - set(targets):
            services = self._known.get(target)
            if services is None:
                continue
            services.discard(service_key)
            if not services:
                del self._known[target]
                if (task := self._waiting.pop(target, None)) is not None:
                    task.cancel()

    async def _try(self, target: Target) -> None:
        try:
            await listens(target, self._seconds)
        finally:
            if self._waiting.get(target) is asyncio.current_task():
                del self._waiting[target]
        for key in list(self._known.get(target, ())):
            self._on_ready(key)

    async def stop(self) -> None:
        tasks = list(self._waiting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def listens(target: Target, seconds: float) -> bool:
    """Waits until a TCP connection to the target succeeds; False when time is up."""
    loop = asyncio.get_running_loop()
    pause, until = PAUSE_SECONDS[0], loop.time() + seconds
    while loop.time() < until:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    await loop.sock_connect(probe, target)
                return True
            except ConnectionRefusedError:
                pass
            except (OSError, TimeoutError):
                return False
        await asyncio.sleep(pause)
        pause = min(2 * pause, PAUSE_SECONDS[1])
    return False
