"""StatusError to a gRPC status and back: the Status itself travels in grpc-status-details-bin."""

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import status_pb2

from tillerman.api import status as st
from tillerman.api.status import StatusError
from tillerman.pb.k8s import meta_v1_pb2 as meta

DETAILS_KEY = "grpc-status-details-bin"
TYPE_URL = "type.googleapis.com/k8s.io.apimachinery.pkg.apis.meta.v1.Status"
Code = grpc.StatusCode

BY_REASON = {
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
    "ServerTimeout": Code.DEADLINE_EXCEEDED,
    "ServiceUnavailable": Code.UNAVAILABLE,
    "MethodNotAllowed": Code.UNIMPLEMENTED,
    "RequestEntityTooLarge": Code.FAILED_PRECONDITION,
}


def to_rpc(error: StatusError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """(code, message, trailing metadata) for context.abort. Long messages are cut: trailers have a size limit."""
    code = BY_REASON.get(error.reason, Code.UNKNOWN)
    number: int = code.value[0]
    packed = Any(type_url=TYPE_URL, value=error.status.SerializeToString())
    details = status_pb2.Status(code=number, message=error.message[:1000], details=[packed]).SerializeToString()
    if len(details) > 6000:
        short = meta.Status()
        short.CopyFrom(error.status)
        short.message = short.message[:1500]
        del short.details.causes[10:]
        packed.value = short.SerializeToString()[:6000] if short.ByteSize() <= 5000 else b""
        details = status_pb2.Status(code=number, message=error.message[:1000], details=[packed]).SerializeToString()
    return code, error.message[:2000], ((DETAILS_KEY, details),)


def from_rpc(error: grpc.RpcError) -> StatusError:
    """The Status that the server attached; for failures below it (unreachable, deadline) one made from the code."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            for packed in status_pb2.Status.FromString(value).details:
                if packed.type_url == TYPE_URL and packed.value:
                    return StatusError(meta.Status.FromString(packed.value))
    text = f"{error.details()}"
    code = error.code()
    if code is Code.UNAVAILABLE:
        return st.service_unavailable(text)
    if code is Code.DEADLINE_EXCEEDED:
        return st.timeout(text)
    if code is Code.UNAUTHENTICATED:
        return st.unauthorized(text)
    if code is Code.PERMISSION_DENIED:
        return st.make(403, "Forbidden", text)
    if code is Code.RESOURCE_EXHAUSTED:
        return st.too_many_requests(text)
    if code is Code.NOT_FOUND:
        return st.make(404, "NotFound", text)
    if code is Code.UNIMPLEMENTED:
        return st.make(405, "MethodNotAllowed", text)
    if code is Code.INVALID_ARGUMENT:
        return st.bad_request(text)
    return st.internal(f"{code.name}: {text}")
