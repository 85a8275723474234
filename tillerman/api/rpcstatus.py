"""StatusError over gRPC: the code that callers of any language understand, and the whole Status in the details."""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import status_pb2

from tillerman.api import status
from tillerman.api.scheme import TYPE_URL_PREFIX
from tillerman.api.status import StatusError
from tillerman.pb.k8s import meta_v1_pb2 as meta

DETAILS_KEY: Final = "grpc-status-details-bin"
# HTTP/2 peers refuse headers beyond 8 KiB. A Status that is larger loses its causes, then the end of its message, then
# its details; grpc's own message, which travels percent-encoded, loses its end.
MAX_DETAILS_BYTES: Final = 4 * 1024
MAX_MESSAGE_BYTES: Final = 1024
_TYPE_URL: Final = TYPE_URL_PREFIX + meta.Status.DESCRIPTOR.full_name

Code = grpc.StatusCode
_BY_REASON: Final = {
    "NotFound": Code.NOT_FOUND,
    "AlreadyExists": Code.ALREADY_EXISTS,
    "Conflict": Code.ABORTED,
    "Invalid": Code.INVALID_ARGUMENT,
    "BadRequest": Code.INVALID_ARGUMENT,
    "UnsupportedMediaType": Code.INVALID_ARGUMENT,
    "NotAcceptable": Code.INVALID_ARGUMENT,
    "Forbidden": Code.PERMISSION_DENIED,
    "Unauthorized": Code.UNAUTHENTICATED,
    "Expired": Code.OUT_OF_RANGE,
    "Gone": Code.OUT_OF_RANGE,
    "TooManyRequests": Code.RESOURCE_EXHAUSTED,
    "InternalError": Code.INTERNAL,
    "Timeout": Code.DEADLINE_EXCEEDED,
    "ServerTimeout": Code.UNAVAILABLE,
    "ServiceUnavailable": Code.UNAVAILABLE,
    "MethodNotAllowed": Code.UNIMPLEMENTED,
    "RequestEntityTooLarge": Code.FAILED_PRECONDITION,
}
# What a bare gRPC error (no Status attached: the transport's own, or another server's) is taken for.
_BARE: Final = {
    Code.NOT_FOUND: (404, "NotFound"),
    Code.ALREADY_EXISTS: (409, "AlreadyExists"),
    Code.ABORTED: (409, "Conflict"),
    Code.INVALID_ARGUMENT: (400, "BadRequest"),
    Code.PERMISSION_DENIED: (403, "Forbidden"),
    Code.UNAUTHENTICATED: (401, "Unauthorized"),
    Code.OUT_OF_RANGE: (410, "Expired"),
    Code.RESOURCE_EXHAUSTED: (429, "TooManyRequests"),
    Code.DEADLINE_EXCEEDED: (504, "Timeout"),
    Code.UNAVAILABLE: (503, "ServiceUnavailable"),
    Code.UNIMPLEMENTED: (405, "MethodNotAllowed"),
    Code.FAILED_PRECONDITION: (400, "BadRequest"),
}


def to_rpc(error: StatusError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """(gRPC code, message, trailing metadata) for `await context.abort(...)`."""
    code = _BY_REASON.get(error.reason, Code.UNKNOWN)
    return code, _shortened(error.message, MAX_MESSAGE_BYTES), ((DETAILS_KEY, _pack(error.status, code)),)


def _pack(found: meta.Status, code: grpc.StatusCode) -> bytes:
    raw = found.SerializeToString()
    if len(raw) > MAX_DETAILS_BYTES:
        cut = meta.Status()
        cut.CopyFrom(found)
        while cut.details.causes and cut.ByteSize() > MAX_DETAILS_BYTES:
            del cut.details.causes[len(cut.details.causes) // 2 :]
        if cut.ByteSize() > MAX_DETAILS_BYTES:
            cut.message = _shortened(cut.message, MAX_DETAILS_BYTES // 2)
        if cut.ByteSize() > MAX_DETAILS_BYTES:
            cut.ClearField("details")
        raw = cut.SerializeToString()
    packed = status_pb2.Status(code=code.value[0])
    packed.details.append(AnyMessage(type_url=_TYPE_URL, value=raw))
    encoded: bytes = packed.SerializeToString()
    return encoded


def _shortened(text: str, size: int) -> str:
    """The text, or as much of its beginning as makes ``size`` bytes."""
    encoded = text.encode()
    return text if len(encoded) <= size else encoded[:size].decode(errors="ignore")


def from_rpc(error: Any) -> StatusError:
    """The StatusError behind a grpc.RpcError or grpc.aio.AioRpcError; transport errors become their nearest kin."""
    for key, value in _metadata(error):
        if key == DETAILS_KEY:
            packed = status_pb2.Status.FromString(value)
            for detail in packed.details:
                if detail.type_url == _TYPE_URL:
                    return StatusError(meta.Status.FromString(detail.value))
    code, reason = _BARE.get(error.code(), (500, "InternalError"))
    return status.make(code, reason, error.details() or error.code().name, details=False)


def _metadata(error: Any) -> Iterable[tuple[str, Any]]:
    return error.trailing_metadata() or ()
