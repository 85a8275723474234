"""The bytes of a write's transaction are those that etcd's generated classes make."""

from __future__ import annotations

import pytest

from services.apiserver.storage.commit import Write
from services.apiserver.storage.requests import together, transaction
from tillerman.pb.etcd import rpc_pb2 as rpc

WRITES = [
    Write(b"/registry/pods/default/a", b"v" * 20_000, 0),
    Write(b"/registry/pods/default/a", b"", 1),
    Write(b"/registry/events/default/" + b"e" * 200, b"value", 2**40, lease=7_587_000_000_000_000_001),
    Write(b"/registry/pods/default/a", None, 17),
]


def generated(write: Write) -> rpc.TxnRequest:
    request = rpc.TxnRequest()
    compare = request.compare.add(result=rpc.Compare.EQUAL, target=rpc.Compare.MOD, key=write.key)
    compare.mod_revision = write.expected
    if write.value is None:
        request.success.add().request_delete_range.key = write.key
    else:
        put = request.success.add().request_put
        put.key, put.value, put.lease = write.key, write.value, write.lease
    request.failure.add().request_range.key = write.key
    return request


@pytest.mark.parametrize("write", WRITES)
def test_one_write(write: Write) -> None:
    assert rpc.TxnRequest.FromString(transaction(write)) == generated(write)


def test_writes_together() -> None:
    wanted = rpc.TxnRequest()
    for write in WRITES:
        wanted.success.add().request_txn.CopyFrom(generated(write))
    assert rpc.TxnRequest.FromString(together([transaction(write) for write in WRITES])) == wanted
