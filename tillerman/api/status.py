"""Errors as Kubernetes tells them: one meta/v1 Status with a reason, a code and causes that name fields.

Made where they arise, carried as StatusError, mapped once to gRPC (rpcstatus.py) and once to HTTP.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tillerman.pb.k8s import meta_v1_pb2 as meta


@dataclass(frozen=True, slots=True)
class Cause:
    """What is wrong with one field. type is Kubernetes' error type ("FieldValueRequired"), field a path."""

    field: str
    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def shown(value: Any) -> str:
    """A value as Kubernetes quotes it in messages: strings in double quotes, the rest as JSON."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def required(path: str, detail: str = "") -> Cause:
    return Cause(path, "FieldValueRequired", "Required value" + (f": {detail}" if detail else ""))


def invalid_value(path: str, value: Any, detail: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {shown(value)}" + (f": {detail}" if detail else ""))


def type_invalid(path: str, value: Any, detail: str) -> Cause:
    return Cause(path, "FieldValueTypeInvalid", f"Invalid value: {shown(value)}: {detail}")


def not_supported(path: str, value: Any, allowed: Iterable[str]) -> Cause:
    choices = ", ".join(shown(a) for a in sorted(allowed))
    return Cause(path, "FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {choices}")


def duplicate(path: str, value: Any) -> Cause:
    return Cause(path, "FieldValueDuplicate", f"Duplicate value: {shown(value)}")


def forbidden_field(path: str, detail: str) -> Cause:
    return Cause(path, "FieldValueForbidden", "Forbidden" + (f": {detail}" if detail else ""))


def not_found_value(path: str, value: Any) -> Cause:
    return Cause(path, "FieldValueNotFound", f"Not found: {shown(value)}")


def too_long(path: str, maximum: int) -> Cause:
    return Cause(path, "FieldValueTooLong", f"Too long: must have at most {maximum} bytes")


def too_many(path: str, actual: int, maximum: int) -> Cause:
    return Cause(path, "FieldValueTooMany", f"Too many: {actual}: must have at most {maximum} items")


class StatusError(Exception):
    """A refused or failed request; status is what the caller is told."""

    def __init__(self, status: meta.Status) -> None:
        super().__init__(status.message)
        self.status = status

    @property
    def code(self) -> int:
        return self.status.code

    @property
    def reason(self) -> str:
        return self.status.reason

    @property
    def message(self) -> str:
        return self.status.message

    @property
    def retry_after_seconds(self) -> int:
        return self.status.details.retryAfterSeconds


def make(
    code: int,
    reason: str,
    message: str,
    *,
    name: str = "",
    group: str = "",
    kind: str = "",
    uid: str = "",
    causes: Sequence[Cause] = (),
    retry_after_seconds: int = 0,
) -> StatusError:
    status = meta.Status(status="Failure", message=message, reason=reason, code=code)
    status.metadata.SetInParent()
    details = meta.StatusDetails()
    for field, value in (("name", name), ("group", group), ("kind", kind), ("uid", uid)):
        if value:
            setattr(details, field, value)
    if retry_after_seconds:
        details.retryAfterSeconds = retry_after_seconds
    for cause in causes:
        details.causes.add(reason=cause.type, message=cause.message, field=cause.field)
    if details.ByteSize():
        status.details.CopyFrom(details)
    return StatusError(status)


def qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def not_found(resource: str, name: str, group: str = "") -> StatusError:
    text = f'{qualified(resource, group)} "{name}" not found'
    return make(404, "NotFound", text, name=name, group=group, kind=resource)


def no_such_path() -> StatusError:
    return make(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: str, name: str, group: str = "") -> StatusError:
    text = f'{qualified(resource, group)} "{name}" already exists'
    return make(409, "AlreadyExists", text, name=name, group=group, kind=resource)


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: str, name: str, group: str = "", detail: str = MODIFIED, causes: Sequence[Cause] = ()) -> StatusError:
    text = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {detail}'
    return make(409, "Conflict", text, name=name, group=group, kind=resource, causes=causes)


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> StatusError:
    """kind as "Deployment", or "Deployment.apps" with its group."""
    if not group and "." in kind:
        kind, _, group = kind.partition(".")
    texts = [str(c) for c in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    text = f'{qualified(kind, group)} "{name}" is invalid: {listed}'
    return make(422, "Invalid", text, name=name, group=group, kind=kind, causes=causes)


def bad_request(message: str) -> StatusError:
    return make(400, "BadRequest", message)


def forbidden(resource: str, name: str, detail: str, group: str = "") -> StatusError:
    who = f'{qualified(resource, group)} "{name}" is forbidden: ' if name else f"{qualified(resource, group)} is forbidden: "
    return make(403, "Forbidden", (who if resource else "forbidden: ") + detail, name=name, group=group, kind=resource)


def unauthorized(message: str = "Unauthorized") -> StatusError:
    return make(401, "Unauthorized", message)


def expired(message: str) -> StatusError:
    return make(410, "Expired", message)


def gone(message: str) -> StatusError:
    return make(410, "Gone", message)


def too_many_requests(message: str, retry_after_seconds: int = 1, causes: Sequence[Cause] = ()) -> StatusError:
    return make(429, "TooManyRequests", message, retry_after_seconds=retry_after_seconds, causes=causes)


def internal(message: str) -> StatusError:
    return make(500, "InternalError", f"Internal error occurred: {message}")


def timeout(message: str, retry_after_seconds: int = 0) -> StatusError:
    return make(504, "Timeout", f"Timeout: {message}", retry_after_seconds=retry_after_seconds)


def service_unavailable(message: str) -> StatusError:
    return make(503, "ServiceUnavailable", message)


def method_not_supported(resource: str, verb: str, group: str = "") -> StatusError:
    text = f'{verb} is not supported on resources of kind "{qualified(resource, group)}"'
    return make(405, "MethodNotAllowed", text, group=group, kind=resource)


def unsupported_media_type(supported: Sequence[str]) -> StatusError:
    text = f"the body of the request was in an unknown format - accepted media types include: {', '.join(supported)}"
    return make(415, "UnsupportedMediaType", text)


def not_acceptable(supported: Sequence[str]) -> StatusError:
    return make(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(supported)}")


def request_entity_too_large(message: str) -> StatusError:
    return make(413, "RequestEntityTooLarge", message)


def has_reason(error: BaseException, *reasons: str) -> bool:
    return isinstance(error, StatusError) and error.reason in reasons


def is_not_found(error: BaseException) -> bool:
    return has_reason(error, "NotFound")


def is_conflict(error: BaseException) -> bool:
    return has_reason(error, "Conflict")


def is_already_exists(error: BaseException) -> bool:
    return has_reason(error, "AlreadyExists")


def is_expired(error: BaseException) -> bool:
    return has_reason(error, "Expired", "Gone")


def is_invalid(error: BaseException) -> bool:
    return has_reason(error, "Invalid")
