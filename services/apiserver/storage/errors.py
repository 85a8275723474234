"""What can go wrong with the store, translated once from etcd's gRPC errors."""

from __future__ import annotations

import grpc


class StorageError(Exception):
    """The store refused or failed; the message says what to look at."""


class StorageUnavailable(StorageError):
    """No etcd endpoint answered in time."""


class OutcomeUnknown(StorageError):
    """The answer to a write was lost, and others have written since: it may have been carried out or not."""


class Compacted(StorageError):
    """The revision asked for has been compacted away."""


class FutureRevision(StorageError):
    """The revision asked for has not been reached yet."""


class RequestTooLarge(StorageError):
    """The transaction is larger than etcd takes (1.5 MB unless etcd is told otherwise)."""


class NoSpace(StorageError):
    """etcd's quota is used up; it refuses writes until its alarm is disarmed."""


class LeaseNotFound(StorageError):
    """The lease has expired or was revoked."""


RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


def translate(error: grpc.aio.AioRpcError) -> StorageError:
    """The StorageError for one of etcd's gRPC errors."""
    details = error.details() or ""
    if "required revision has been compacted" in details:
        return Compacted(details)
    if "future revision" in details:
        return FutureRevision(details)
    if "request is too large" in details or "larger than max" in details:
        return RequestTooLarge(details)
    if "database space exceeded" in details:
        return NoSpace(
            f"{details}: the apiserver compacts and defragments etcd now, so try again in a moment; if that does not "
            "help, delete objects or give etcd a larger --quota-backend-bytes"
        )
    if "requested lease not found" in details:
        return LeaseNotFound(details)
    if error.code() in RETRYABLE:
        return StorageUnavailable(f"etcd is not reachable: {details}")
    return StorageError(f"etcd: {error.code().name}: {details}")
