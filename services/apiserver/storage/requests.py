"""A conditional write as the bytes of an etcd transaction.

Written out by hand, since a transaction is nine small messages around one key and value: making them as objects costs
more CPU time than everything else the storage does for a write. The field numbers are etcd's (rpc.proto); the tests
compare with what the generated classes make of the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tillerman.api.envelope import length_delimited, varint

if TYPE_CHECKING:
    from services.apiserver.storage.commit import Write

# TxnRequest: compare, success, failure. RequestOp: range, put, delete_range, txn. Compare: target, key, mod_revision.
_COMPARE, _SUCCESS, _FAILURE = 1, 2, 3
_RANGE, _PUT, _DELETE, _TXN = 1, 2, 3, 4
_TARGET_IS_MOD = b"\x10\x02"
_MOD_REVISION, _LEASE = b"\x30", b"\x18"


def transaction(write: Write) -> bytes:
    """TxnRequest: the write if the key's mod_revision is as expected, else a read of the key."""
    key = length_delimited(1, write.key)
    compare = b"".join((_TARGET_IS_MOD, length_delimited(3, write.key), _MOD_REVISION, varint(write.expected)))
    if write.value is None:
        change = length_delimited(_DELETE, key)
    else:
        lease = _LEASE + varint(write.lease) if write.lease else b""
        change = length_delimited(_PUT, b"".join((key, length_delimited(2, write.value), lease)))
    read = length_delimited(_RANGE, key)
    return b"".join(
        (length_delimited(_COMPARE, compare), length_delimited(_SUCCESS, change), length_delimited(_FAILURE, read))
    )


def together(transactions: list[bytes]) -> bytes:
    """TxnRequest: all of them, each with its own outcome."""
    return b"".join([length_delimited(_SUCCESS, length_delimited(_TXN, one)) for one in transactions])
