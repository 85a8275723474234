"""The one watch on etcd: everything under the whole keyspace, in order, revision by revision.

Why one watch over all keys rather than one per resource: every revision of etcd is a change of some key, so a feed
that sees all keys knows exactly how far it has come. A reader that learnt etcd's current revision only waits until
the feed has passed it; no progress request is needed (their answers may overtake events in etcd before 3.4.31 and
3.5.13), and quiet resources keep up by themselves.

``run`` is one task. It resumes after any break from the last revision that it delivered; events of one revision are
always delivered in one call. When that revision has been compacted away, it says so and lists again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import structlog

from services.apiserver.storage.errors import Compacted, StorageError, translate
from services.apiserver.storage.etcd import EtcdClient
from tillerman.pb.etcd import kv_pb2, rpc_pb2

PAGE = 2_000
DELETE = kv_pb2.Event.DELETE

EOF: Any = vars(grpc.aio)["EOF"]

log = structlog.get_logger("apiserver.feed")


class Sink(Protocol):
    """Who is fed. The calls are synchronous and in order."""

    def reset(self, revision: int, pairs: Sequence[kv_pb2.KeyValue]) -> None:
        """Forget everything: the store holds exactly ``pairs`` at ``revision``."""

    def apply(self, revision: int, events: Sequence[kv_pb2.Event]) -> None:
        """All events of one revision."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    revision: int
    pairs: list[kv_pb2.KeyValue]


class Feed:
    """Keeps ``sink`` equal to etcd. ``prefix``: what to list (events of other keys only move the revision on)."""

    def __init__(self, client: EtcdClient, sink: Sink, *, prefix: bytes) -> None:
        self._client = client
        self._sink = sink
        self._prefix = prefix
        self.revision = 0
        self.synced = asyncio.Event()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    async def run(self) -> None:
        """Never returns; cancel it."""
        delay = 0.05
        while True:
            try:
                if not self.synced.is_set():
                    snapshot = await self._list()
                    self._sink.reset(snapshot.revision, snapshot.pairs)
                    self._advance(snapshot.revision)
                    self.synced.set()
                    delay = 0.05
                await self._follow()
                delay = 0.05
            except Compacted:
                log.warning("the watch on etcd fell behind compaction; listing again", revision=self.revision)
                self.synced.clear()
            except (StorageError, grpc.aio.AioRpcError) as error:
                cause = translate(error) if isinstance(error, grpc.aio.AioRpcError) else error
                log.warning("the watch on etcd broke; resuming", revision=self.revision, error=str(cause))
                self._client.fail_over()
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)

    async def wait_for(self, revision: int) -> None:
        """Until the sink has seen ``revision``."""
        if self.revision >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, future))
        await future

    async def _list(self) -> Snapshot:
        end = range_end(self._prefix)
        pairs: list[kv_pb2.KeyValue] = []
        request = rpc_pb2.RangeRequest(key=self._prefix, range_end=end, limit=PAGE)
        while True:
            response = await self._client.range(request)
            pairs.extend(response.kvs)
            if not request.revision:
                request.revision = response.header.revision
            if not response.more:
                return Snapshot(request.revision, pairs)
            request.key = response.kvs[-1].key + b"\0"

    async def _follow(self) -> None:
        call = self._client.open_watch()
        try:
            await call.write(
                rpc_pb2.WatchRequest(
                    create_request=rpc_pb2.WatchCreateRequest(
                        key=b"\0",
                        range_end=b"\0",
                        start_revision=self.revision + 1,
                        progress_notify=True,
                        prev_kv=False,
                    )
                )
            )
            while True:
                response = await call.read()
                if response is EOF:
                    return
                if response.canceled:
                    if response.compact_revision:
                        raise Compacted(f"compacted at {response.compact_revision}")
                    raise StorageError(f"etcd cancelled the watch: {response.cancel_reason}")
                self._deliver(response)
        finally:
            call.cancel()

    def _deliver(self, response: Any) -> None:
        events = response.events
        if events:
            for revision, group in by_revision(events):
                if revision > self.revision:
                    self._sink.apply(revision, group)
                    self.revision = revision
            self._advance(self.revision)

    def _advance(self, revision: int) -> None:
        self.revision = revision
        if self._waiters:
            rest = []
            for wanted, future in self._waiters:
                if future.done():
                    continue
                if wanted <= revision:
                    future.set_result(None)
                else:
                    rest.append((wanted, future))
            self._waiters = rest


def by_revision(events: Sequence[kv_pb2.Event]) -> list[tuple[int, list[kv_pb2.Event]]]:
    """The events grouped by their revision, in order."""
    groups: list[tuple[int, list[kv_pb2.Event]]] = []
    for event in events:
        revision = event.kv.mod_revision
        if groups and groups[-1][0] == revision:
            groups[-1][1].append(event)
        else:
            groups.append((revision, [event]))
    return groups


def range_end(prefix: bytes) -> bytes:
    """The first key after all keys that start with ``prefix``."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


OnExpired = Callable[[], None]


async def history(client: EtcdClient, prefix: bytes, after: int, upto: int) -> list[kv_pb2.Event]:
    """The events under ``prefix`` (with prev_kv) of the revisions after+1 .. upto. Raises Compacted, StorageError.

    Reads etcd's own history; used when a watcher resumes at a revision older than the cache's ring, as after a restart.
    """
    call = client.open_watch()
    found: list[kv_pb2.Event] = []
    try:
        create = rpc_pb2.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=after + 1, prev_kv=True)
        await call.write(rpc_pb2.WatchRequest(create_request=create))
        while True:
            response = await call.read()
            if response is EOF:
                raise StorageError("etcd ended the watch")
            if response.canceled:
                if response.compact_revision:
                    raise Compacted(f"compacted at {response.compact_revision}")
                raise StorageError(f"etcd cancelled the watch: {response.cancel_reason}")
            for event in response.events:
                if event.kv.mod_revision > upto:
                    return found
                if event.kv.key.startswith(prefix):
                    found.append(event)
            if response.events and response.events[-1].kv.mod_revision >= upto:
                return found
    except grpc.aio.AioRpcError as error:
        raise translate(error) from error
    finally:
        call.cancel()
