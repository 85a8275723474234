"""Group commit: batches, order per key, outcomes, answers that got lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.apiserver.storage import commit, pace
from services.apiserver.storage.commit import GroupCommitter, Outcome, Write, outcome_of
from services.apiserver.storage.errors import OutcomeUnknown, StorageUnavailable
from services.apiserver.storage.etcd import Reply
from services.apiserver.storage.feed import by_revision, range_end
from tillerman.pb.etcd import kv_pb2, rpc_pb2


class FakeEtcd:
    """Carries transactions out in memory; ``lose`` loses the answers of that many."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, kv_pb2.KeyValue] = {}
        self.revision = 100
        self.sizes: list[int] = []
        self.fail: Exception | None = None

    async def txn(self, raw: bytes) -> Reply[rpc_pb2.TxnResponse]:
        request = rpc_pb2.TxnRequest.FromString(raw)
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        nested = [op.request_txn for op in request.success if op.WhichOneof("request") == "request_txn"]
        self.sizes.append(len(nested) or 1)
        self.revision += 1
        if nested:
            response = rpc_pb2.TxnResponse(succeeded=True)
            for one in nested:
                response.responses.add().response_txn.CopyFrom(self._one(one))
        else:
            response = self._one(request)
        response.header.revision = self.revision
        return Reply(response, False)

    def _one(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        compare = request.compare[0]
        current = self.pairs.get(compare.key)
        if (current.mod_revision if current else 0) != compare.mod_revision:
            response = rpc_pb2.TxnResponse(succeeded=False)
            found = response.responses.add().response_range
            if current:
                found.kvs.append(current)
            return response
        op = request.success[0]
        if op.WhichOneof("request") == "request_put":
            put = op.request_put
            self.pairs[put.key] = kv_pb2.KeyValue(key=put.key, value=put.value, mod_revision=self.revision)
        else:
            self.pairs.pop(op.request_delete_range.key, None)
        return rpc_pb2.TxnResponse(succeeded=True)


@pytest.fixture(autouse=True)
def no_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SPACING", 0.0)


def committer(etcd: FakeEtcd) -> GroupCommitter:
    client: Any = etcd
    return GroupCommitter(client)


async def test_writes_of_one_moment_travel_together() -> None:
    etcd = FakeEtcd()
    group = committer(etcd)
    outcomes = await asyncio.gather(*(group.write(Write(b"k%d" % i, b"v", 0)) for i in range(300)))
    assert all(outcome.succeeded for outcome in outcomes)
    assert etcd.sizes == [120, 120, 60] and len({outcome.revision for outcome in outcomes}) == 3


async def test_each_write_has_its_own_outcome() -> None:
    etcd = FakeEtcd()
    group = committer(etcd)
    await group.write(Write(b"a", b"1", 0))
    bad, good = await asyncio.gather(group.write(Write(b"a", b"2", 0)), group.write(Write(b"b", b"2", 0)))
    assert not bad.succeeded and bad.current is not None and bad.current.value == b"1"
    assert good.succeeded


async def test_writes_of_one_key_keep_their_order() -> None:
    etcd = FakeEtcd()
    group = committer(etcd)
    outcomes = await asyncio.gather(*(group.write(Write(b"same", b"%d" % i, 0)) for i in range(5)))
    assert [outcome.succeeded for outcome in outcomes] == [True, False, False, False, False]
    assert etcd.pairs[b"same"].value == b"0"


async def test_a_batch_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "MAX_BYTES", 1000)
    etcd = FakeEtcd()
    group = committer(etcd)
    await asyncio.gather(*(group.write(Write(b"k%d" % i, b"x" * 400, 0)) for i in range(5)))
    assert max(etcd.sizes) == 2


async def test_a_failure_reaches_every_caller_and_the_next_write_works() -> None:
    etcd = FakeEtcd()
    etcd.fail = StorageUnavailable("gone")
    group = committer(etcd)
    results = await asyncio.gather(*(group.write(Write(b"k%d" % i, b"v", 0)) for i in range(3)), return_exceptions=True)
    assert all(isinstance(result, StorageUnavailable) for result in results)
    etcd.fail = None
    assert (await group.write(Write(b"k", b"v", 0))).succeeded
    await group.close()
    with pytest.raises(StorageUnavailable):
        await group.write(Write(b"k", b"v", 0))


def lost(current: kv_pb2.KeyValue | None) -> rpc_pb2.TxnResponse:
    response = rpc_pb2.TxnResponse(succeeded=False)
    found = response.responses.add().response_range
    if current is not None:
        found.kvs.append(current)
    return response


@pytest.mark.parametrize(
    ("write", "current", "retried", "expected"),
    [
        (Write(b"k", b"mine", 0), kv_pb2.KeyValue(value=b"mine", mod_revision=7), True, Outcome(True, 7)),
        (Write(b"k", b"mine", 0), kv_pb2.KeyValue(value=b"mine", mod_revision=7), False, None),
        (Write(b"k", b"mine", 0), kv_pb2.KeyValue(value=b"other", mod_revision=7, version=1), True, None),
        (Write(b"k", None, 5), kv_pb2.KeyValue(value=b"x", mod_revision=7, create_revision=4), True, None),
        (Write(b"k", None, 5), None, True, Outcome(True, 9)),
        (Write(b"k", None, 5), None, False, None),
    ],
)
def test_a_write_whose_answer_was_lost_is_found_again(
    write: Write, current: kv_pb2.KeyValue | None, retried: bool, expected: Outcome | None
) -> None:
    outcome = outcome_of(write, lost(current), 9, retried=retried)
    assert outcome == expected if expected is not None else not outcome.succeeded


def test_events_are_grouped_by_revision() -> None:
    events = [kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"%d" % i, mod_revision=i // 2)) for i in range(5)]
    assert [(revision, len(group)) for revision, group in by_revision(events)] == [(0, 2), (1, 2), (2, 1)]


def test_range_end() -> None:
    assert range_end(b"/registry/") == b"/registry0"


@pytest.mark.parametrize(
    ("write", "current"),
    [
        (Write(b"k", b"mine", 0), kv_pb2.KeyValue(value=b"other", mod_revision=8, version=2)),
        (Write(b"k", b"mine", 5), kv_pb2.KeyValue(value=b"other", mod_revision=8, version=3)),
        (Write(b"k", b"mine", 5), None),
        (Write(b"k", None, 5), kv_pb2.KeyValue(value=b"x", mod_revision=8, create_revision=8)),
    ],
)
def test_a_write_that_others_may_have_written_over_is_neither_success_nor_conflict(
    write: Write, current: kv_pb2.KeyValue | None
) -> None:
    with pytest.raises(OutcomeUnknown):
        outcome_of(write, lost(current), 9, retried=True)
    assert not outcome_of(write, lost(current), 9, retried=False).succeeded
