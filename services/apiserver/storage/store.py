"""The store that the apiserver runs on: conditional writes, linearizable revision checks, reads of the past, the
feed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from services.apiserver.storage.commit import GroupCommitter, Outcome, Write
from services.apiserver.storage.errors import LeaseNotFound, RequestTooLarge
from services.apiserver.storage.etcd import EtcdClient
from services.apiserver.storage.feed import history, range_end
from services.apiserver.storage.leases import SharedLeases
from tillerman.pb.etcd import kv_pb2, rpc_pb2

DEFAULT_MAX_BYTES = 1_500_000
# Seconds between the starts of two revision checks; a single client's reads are further apart.
CONFIRM_SPACING = 0.0005


@dataclass(frozen=True, slots=True)
class Page:
    """Key-value pairs at one revision; ``count``: all pairs of the range that was asked for."""

    revision: int
    pairs: list[kv_pb2.KeyValue]
    more: bool
    count: int


class Store:
    """All methods raise StorageError (see storage.errors) when etcd refuses or is unreachable."""

    def __init__(self, client: EtcdClient, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.client = client
        self.leases = SharedLeases(client.lease_grant)
        self._committer = GroupCommitter(client)
        self._max_bytes = max_bytes
        self._confirming: asyncio.Task[int] | None = None
        self._confirm_at = 0.0
        self._next_confirm: asyncio.Future[int] | None = None

    async def close(self) -> None:
        await self._committer.close()
        await self.client.close()

    async def put(self, key: str, value: bytes, *, expected: int, ttl_seconds: int = 0) -> Outcome:
        """Writes if the key's mod_revision is ``expected`` (0: absent)."""
        if len(value) > self._max_bytes:
            raise RequestTooLarge(f"the object takes {len(value)} bytes; the limit is {self._max_bytes}")
        lease = await self.leases.lease(ttl_seconds) if ttl_seconds else 0
        try:
            return await self._committer.write(Write(key.encode(), value, expected, lease))
        except LeaseNotFound:
            self.leases.forget()
            lease = await self.leases.lease(ttl_seconds)
            return await self._committer.write(Write(key.encode(), value, expected, lease))

    async def delete(self, key: str, *, expected: int) -> Outcome:
        """Deletes if the key's mod_revision is ``expected``."""
        return await self._committer.write(Write(key.encode(), None, expected))

    async def get(self, key: str, *, revision: int = 0) -> kv_pb2.KeyValue | None:
        """The pair, linearizable; at ``revision`` if that is not 0."""
        response = await self.client.range(rpc_pb2.RangeRequest(key=key.encode(), revision=revision))
        return response.kvs[0] if response.kvs else None

    async def page(self, prefix: str, *, start: str = "", revision: int = 0, limit: int = 0) -> Page:
        """The pairs under ``prefix`` from the key ``start`` on, at ``revision`` (0: now), at most ``limit``."""
        first = (start or prefix).encode()
        request = rpc_pb2.RangeRequest(key=first, range_end=range_end(prefix.encode()), revision=revision, limit=limit)
        response = await self.client.range(request)
        return Page(revision or response.header.revision, list(response.kvs), response.more, response.count)

    async def history(self, prefix: str, *, after: int, upto: int) -> list[kv_pb2.Event]:
        """Events under ``prefix`` of revisions after+1 .. upto, with prev_kv. Raises Compacted."""
        return await history(self.client, prefix.encode(), after, upto)

    async def current_revision(self) -> int:
        """A revision that etcd had reached at some moment after this call began (linearizable).

        Callers share reads: those that come while one read is under way wait for the one that starts after it.
        """
        if self._next_confirm is None:
            loop = asyncio.get_running_loop()
            self._next_confirm = loop.create_future()
            if self._confirming is None:
                loop.call_at(self._confirm_at, self._confirm)
        return await asyncio.shield(self._next_confirm)

    def _confirm(self) -> None:
        """Starts the read that everybody who waits now shares."""
        waiting, self._next_confirm = self._next_confirm, None
        if waiting is None:
            return
        loop = asyncio.get_running_loop()
        self._confirm_at = loop.time() + CONFIRM_SPACING
        self._confirming = loop.create_task(self._read_revision(), name="confirm-revision")
        self._confirming.add_done_callback(partial(self._confirmed, waiting))

    def _confirmed(self, waiting: asyncio.Future[int], done: asyncio.Task[int]) -> None:
        self._confirming = None
        _copy(done, waiting)
        if self._next_confirm is not None:
            asyncio.get_running_loop().call_at(self._confirm_at, self._confirm)

    async def _read_revision(self) -> int:
        response = await self.client.range(rpc_pb2.RangeRequest(key=b"\0", limit=1, keys_only=True))
        return response.header.revision


def _copy(done: asyncio.Task[int], waiting: asyncio.Future[int]) -> None:
    if waiting.done():
        if not done.cancelled():
            done.exception()
        return
    if done.cancelled():
        waiting.cancel()
    elif (error := done.exception()) is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(done.result())


@contextlib.asynccontextmanager
async def opened(client: EtcdClient, *, max_bytes: int = DEFAULT_MAX_BYTES) -> AsyncIterator[Store]:
    """A store that is closed at the end, with its writes joined."""
    store = Store(client, max_bytes=max_bytes)
    try:
        yield store
    finally:
        await store.close()
