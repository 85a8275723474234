"""Group commit: writes that wait at the same moment go to etcd as one transaction of nested transactions.

Each write keeps its own compare and its own outcome. At most ``MAX_OPERATIONS`` writes and ``MAX_BYTES`` travel in one
transaction, never two of one key (etcd refuses that; writes of one key also keep their order), and at most
``MAX_IN_FLIGHT`` transactions are under way; a write that is alone goes at once and alone. The price is that the
writes of one batch share one revision: the watch side hands on all events of one revision together (see
``storage.feed``).

Runs on the callers' event loop; the tasks it starts belong to it and are joined by ``close``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from services.apiserver.storage.errors import OutcomeUnknown, StorageUnavailable
from services.apiserver.storage.etcd import EtcdClient
from services.apiserver.storage.pace import Pace
from services.apiserver.storage.requests import together, transaction
from tillerman.pb.etcd import kv_pb2, rpc_pb2

MAX_OPERATIONS = 120
MAX_BYTES = 1_000_000
MAX_IN_FLIGHT = 1
# Of one batch: each lets a request be answered, and others want to be served in between.
ANSWERS_PER_TURN = 4


@dataclass(slots=True, eq=False)
class Write:
    """One conditional write. ``value`` None deletes. ``expected`` is the key's mod_revision, 0 when it must not
    exist.
    """

    key: bytes
    value: bytes | None
    expected: int
    lease: int = 0


class Outcome(NamedTuple):
    """``revision``: of the write when it succeeded. ``current``: what the key holds when it did not (None: nothing)."""

    succeeded: bool
    revision: int
    current: kv_pb2.KeyValue | None = None


@dataclass(slots=True, eq=False)
class _Pending:
    write: Write
    future: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GroupCommitter:
    """``await write(...)`` returns the write's own outcome. Raises StorageError when etcd refused or is unreachable."""

    def __init__(self, client: EtcdClient, *, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._client = client
        self._max_in_flight = max_in_flight
        self._waiting: deque[_Pending] = deque()
        self._in_flight = 0
        self._pace = Pace()
        self._keys_in_flight: set[bytes] = set()
        self._pump_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def write(self, write: Write) -> Outcome:
        if self._closed:
            raise StorageUnavailable("the apiserver is shutting down")
        pending = _Pending(write)
        self._waiting.append(pending)
        if not self._pump_scheduled:
            # One turn of the loop later, so that requests decoded in this turn travel together.
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)
        return await pending.future

    async def close(self) -> None:
        """Waits for the writes under way."""
        self._closed = True
        while self._tasks or self._waiting:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)

    def _pump(self) -> None:
        self._pump_scheduled = False
        loop = asyncio.get_running_loop()
        while self._waiting and self._in_flight < self._max_in_flight:
            now = loop.time()
            if now < self._pace.earliest and len(self._waiting) < MAX_OPERATIONS:
                self._pump_scheduled = True
                loop.call_at(self._pace.earliest, self._pump)
                return
            batch = self._take_batch()
            if not batch:
                return
            self._in_flight += 1
            self._pace.started(now, len(batch))
            keys = {pending.write.key for pending in batch}
            self._keys_in_flight |= keys
            task = loop.create_task(self._commit(batch), name="group-commit")
            self._tasks.add(task)
            task.add_done_callback(partial(self._committed, keys))

    def _committed(self, keys: set[bytes], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._keys_in_flight -= keys
        self._in_flight -= 1
        if not self._pump_scheduled:
            self._pump()

    def _take_batch(self) -> list[_Pending]:
        batch: list[_Pending] = []
        keys: set[bytes] = set()
        size = 0
        later: list[_Pending] = []
        while self._waiting and len(batch) < MAX_OPERATIONS:
            pending = self._waiting.popleft()
            if pending.future.cancelled():
                continue
            write = pending.write
            length = len(write.key) + (len(write.value) if write.value is not None else 0)
            if batch and size + length > MAX_BYTES:
                self._waiting.appendleft(pending)
                break
            if write.key in keys or write.key in self._keys_in_flight:
                later.append(pending)
                continue
            keys.add(write.key)
            size += length
            batch.append(pending)
        self._waiting.extendleft(reversed(later))
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        if len(batch) == 1:
            request = transaction(batch[0].write)
        else:
            request = together([transaction(pending.write) for pending in batch])
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            reply = await self._client.txn(request)
        except Exception as error:
            for pending in batch:
                if not pending.future.done():
                    pending.future.set_exception(error)
            return
        self._pace.ended(loop.time() - began)
        response = reply.response
        revision = response.header.revision
        answers = [response] if len(batch) == 1 else [op.response_txn for op in response.responses]
        for number, (pending, answer) in enumerate(zip(batch, answers, strict=True)):
            if number and number % ANSWERS_PER_TURN == 0:
                await asyncio.sleep(0)
            if pending.future.done():
                continue
            try:
                pending.future.set_result(outcome_of(pending.write, answer, revision, retried=reply.retried))
            except OutcomeUnknown as error:
                pending.future.set_exception(error)


def outcome_of(write: Write, response: rpc_pb2.TxnResponse, revision: int, *, retried: bool) -> Outcome:
    """What became of one write.

    When the call was retried, an earlier attempt may have been applied and made the compare fail: the write has
    succeeded if the key holds exactly what it wrote (object bytes carry a uid, so nobody else writes the same). Raises
    OutcomeUnknown when somebody may have written over it: neither success nor conflict could be told for sure.
    """
    if response.succeeded:
        return Outcome(True, revision)
    found = response.responses[0].response_range.kvs
    current = found[0] if found else None
    if retried:
        if write.value is None and current is None and write.expected:
            return Outcome(True, revision)
        if current is not None and write.value is not None and current.value == write.value:
            return Outcome(True, current.mod_revision)
        if not _untouched(write, current):
            raise OutcomeUnknown("the answer to a write was lost, and the object has been written by others since")
    return Outcome(False, revision, current)


def _untouched(write: Write, current: kv_pb2.KeyValue | None) -> bool:
    """Whether what a key holds shows that the write was not carried out."""
    if current is None:
        return False
    if write.value is None:
        # A key that was deleted and made again would be younger than what was to be deleted.
        return current.create_revision <= write.expected
    # The first version of an object that was to be created is somebody else's.
    return not write.expected and current.version == 1
