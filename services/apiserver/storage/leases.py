"""Shared leases: objects that expire (Events) created within one bucket of time share one etcd lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    lease: int
    until: float


class SharedLeases:
    """``await lease(ttl)`` gives a lease that lives ``ttl`` seconds at least and at most 5 % (or a minute) longer."""

    def __init__(
        self, grant: Callable[[int], Awaitable[int]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._grant = grant
        self._monotonic = monotonic
        self._buckets: dict[int, _Bucket] = {}
        self._lock = asyncio.Lock()

    async def lease(self, ttl_seconds: int) -> int:
        async with self._lock:
            now = self._monotonic()
            bucket = self._buckets.get(ttl_seconds)
            if bucket is None or now >= bucket.until:
                share = max(60, ttl_seconds // 20)
                bucket = _Bucket(await self._grant(ttl_seconds + share), now + share)
                self._buckets[ttl_seconds] = bucket
            return bucket.lease

    def forget(self) -> None:
        """Drops the known leases, when etcd says that one is gone."""
        self._buckets.clear()
