"""The store that the apiserver runs on: conditional writes, linearizable revision checks, reads of the past, the
feed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.apiserver.storage.commit import GroupCommitter, Outcome, Write
from services.apiserver.storage.errors import LeaseNotFound, NoSpace, RequestTooLarge, StorageError
from services.apiserver.storage.etcd import EtcdClient
from services.apiserver.storage.feed import history, range_end
from services.apiserver.storage.leases import SharedLeases
from services.apiserver.storage.pace import Pace
from tillerman.pb.etcd import kv_pb2, rpc_pb2

DEFAULT_MAX_BYTES = 1_500_000


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
        # The newest revision that a write of this server has led to.
        self.written = 0
        # Set when etcd has refused a write because its quota is used up; maintenance makes room and clears it.
        self.out_of_space = asyncio.Event()
        self._confirming: asyncio.Task[None] | None = None
        self._confirm_pace = Pace()
        self._unconfirmed: list[asyncio.Future[int]] = []

    async def close(self) -> None:
        await self._committer.close()
        await self.client.close()

    async def put(self, key: str, value: bytes, *, expected: int, ttl_seconds: int = 0) -> Outcome:
        """Writes if the key's mod_revision is ``expected`` (0: absent)."""
        if len(value) > self._max_bytes:
            raise RequestTooLarge(f"the object takes {len(value)} bytes; the limit is {self._max_bytes}")
        lease = await self._lease(ttl_seconds) if ttl_seconds else 0
        try:
            return await self._write(Write(key.encode(), value, expected, lease))
        except NoSpace:
            self.out_of_space.set()
            raise
        except LeaseNotFound:
            self.leases.forget()
            lease = await self.leases.lease(ttl_seconds)
            return await self._write(Write(key.encode(), value, expected, lease))

    async def _lease(self, ttl_seconds: int) -> int:
        try:
            return await self.leases.lease(ttl_seconds)
        except NoSpace:
            self.out_of_space.set()
            raise

    async def delete(self, key: str, *, expected: int) -> Outcome:
        """Deletes if the key's mod_revision is ``expected``."""
        return await self._write(Write(key.encode(), None, expected))

    async def _write(self, write: Write) -> Outcome:
        outcome = await self._committer.write(write)
        if outcome.succeeded and outcome.revision > self.written:
            self.written = outcome.revision
        return outcome

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
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._unconfirmed.append(future)
        if self._confirming is None and len(self._unconfirmed) == 1:
            loop.call_at(self._confirm_pace.earliest, self._confirm)
        return await future

    def _confirm(self) -> None:
        """Starts the read that everybody who waits now shares."""
        waiting = [future for future in self._unconfirmed if not future.done()]
        self._unconfirmed.clear()
        if not waiting:
            return
        loop = asyncio.get_running_loop()
        self._confirm_pace.started(loop.time(), len(waiting))
        self._confirming = loop.create_task(self._read_revision(waiting), name="confirm-revision")
        self._confirming.add_done_callback(self._confirmed)

    def _confirmed(self, _task: asyncio.Task[None]) -> None:
        self._confirming = None
        if self._unconfirmed:
            asyncio.get_running_loop().call_at(self._confirm_pace.earliest, self._confirm)

    async def _read_revision(self, waiting: list[asyncio.Future[int]]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            response = await self.client.range(rpc_pb2.RangeRequest(key=b"\0", limit=1, keys_only=True))
        except BaseException as error:
            for future in waiting:
                if not future.done():
                    future.set_exception(error) if isinstance(error, StorageError) else future.cancel()
            if not isinstance(error, StorageError):
                raise
            return
        self._confirm_pace.ended(loop.time() - began)
        revision = response.header.revision
        for future in waiting:
            if not future.done():
                future.set_result(revision)


@contextlib.asynccontextmanager
async def opened(client: EtcdClient, *, max_bytes: int = DEFAULT_MAX_BYTES) -> AsyncIterator[Store]:
    """A store that is closed at the end, with its writes joined."""
    store = Store(client, max_bytes=max_bytes)
    try:
        yield store
    finally:
        await store.close()
