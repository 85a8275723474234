"""Refusals: Kubernetes' Status as an exception, made with Kubernetes' own reasons, codes and texts."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tillerman.pb.k8s import meta_v1_pb2 as meta


@dataclass(frozen=True, slots=True)
class Cause:
    """One fault of one field. `type` is the machine-readable reason such as FieldValueInvalid."""

    field: str
    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class StatusError(Exception):
    """A refused request. The Status says reason, code and which object and fields."""

    def __init__(self, status: meta.Status) -> None:
        super().__init__(status.message)
        self.status = status

    @property
    def code(self) -> int:
        """The HTTP status code."""
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
    retry_after_seconds: int = 0,
    causes: Iterable[Cause] = (),
    details: bool = True,
) -> StatusError:
    """A StatusError of any kind; the makers below know the texts."""
    status = meta.Status(status="Failure", message=message, reason=reason, code=code)
    if details:
        found = status.details
        found.SetInParent()
        for field, value in (("name", name), ("group", group), ("kind", kind), ("uid", uid)):
            if value:
                setattr(found, field, value)
        if retry_after_seconds:
            found.retryAfterSeconds = retry_after_seconds
        for cause in causes:
            entry = found.causes.add(message=cause.message)
            if cause.type:
                entry.reason = cause.type
            if cause.field:
                entry.field = cause.field
    return StatusError(status)


def qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def not_found(resource: str, name: str, group: str = "") -> StatusError:
    message = f'{qualified(resource, group)} "{name}" not found'
    return make(404, "NotFound", message, name=name, group=group, kind=resource)


def no_such_path() -> StatusError:
    """No such resource or path at all."""
    return make(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: str, name: str, group: str = "") -> StatusError:
    message = f'{qualified(resource, group)} "{name}" already exists'
    return make(409, "AlreadyExists", message, name=name, group=group, kind=resource)


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(
    resource: str, name: str, group: str = "", detail: str = MODIFIED, causes: Iterable[Cause] = ()
) -> StatusError:
    message = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {detail}'
    return make(409, "Conflict", message, name=name, group=group, kind=resource, causes=causes)


def apply_conflict(message: str, causes: Iterable[Cause]) -> StatusError:
    """Server-side apply met fields that other managers own."""
    return make(409, "Conflict", message, causes=causes)


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> StatusError:
    """`kind` as "Deployment" with its group, or "Deployment.apps"."""
    if not group:
        kind, _, group = kind.partition(".")
    texts = list(dict.fromkeys(str(cause) for cause in causes))
    detail = "" if not texts else f": {texts[0]}" if len(texts) == 1 else f": [{', '.join(texts)}]"
    message = f'{qualified(kind, group)} "{name}" is invalid{detail}'
    return make(422, "Invalid", message, name=name, group=group, kind=kind, causes=causes)


def bad_request(message: str) -> StatusError:
    return make(400, "BadRequest", message, details=False)


def forbidden(resource: str, name: str, detail: str, group: str = "", *, causes: Iterable[Cause] = ()) -> StatusError:
    """Empty name: the refusal is about the collection. Empty resource: about the request as a whole."""
    target = qualified(resource, group) if resource else ""
    prefix = f'{target} "{name}" is forbidden' if name else f"{target} is forbidden" if target else "forbidden"
    return make(403, "Forbidden", f"{prefix}: {detail}", name=name, group=group, kind=resource, causes=causes)


def unauthorized(message: str = "Unauthorized") -> StatusError:
    return make(401, "Unauthorized", message, details=False)


def expired(message: str) -> StatusError:
    """The revision or continue token is gone: list again."""
    return make(410, "Expired", message, details=False)


def gone(message: str) -> StatusError:
    return make(410, "Gone", message, details=False)


def too_many_requests(message: str, retry_after_seconds: int = 1, *, causes: Iterable[Cause] = ()) -> StatusError:
    return make(429, "TooManyRequests", message, retry_after_seconds=retry_after_seconds, causes=causes)


def internal(detail: str) -> StatusError:
    return make(500, "InternalError", f"Internal error occurred: {detail}", causes=[Cause("", "", detail)])


def method_not_supported(resource: str, verb: str, group: str = "") -> StatusError:
    message = f'{verb} is not supported on resources of kind "{qualified(resource, group)}"'
    return make(405, "MethodNotAllowed", message, group=group, kind=resource)


def unsupported_media_type(accepted: Iterable[str]) -> StatusError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return make(415, "UnsupportedMediaType", message)


def not_acceptable(accepted: Iterable[str]) -> StatusError:
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return make(406, "NotAcceptable", message)


def request_entity_too_large(message: str) -> StatusError:
    return make(413, "RequestEntityTooLarge", message, details=False)


def timeout(detail: str, retry_after_seconds: int = 0) -> StatusError:
    return make(504, "Timeout", f"Timeout: {detail}", retry_after_seconds=retry_after_seconds)


def server_timeout(resource: str, verb: str, retry_after_seconds: int = 0, group: str = "") -> StatusError:
    message = (
        f"The {verb} operation against {qualified(resource, group)} could not be completed at this time, "
        "please try again."
    )
    return make(
        500, "ServerTimeout", message, name=verb, group=group, kind=resource, retry_after_seconds=retry_after_seconds
    )


def service_unavailable(message: str) -> StatusError:
    return make(503, "ServiceUnavailable", message, details=False)


# --- field errors -------------------------------------------------------------------------------------------------


class Printed(str):
    """A value that is already in the form in which it is shown."""

    __slots__ = ()


def shown(value: Any) -> str:
    """A value as Kubernetes prints it: text quoted, lists of texts as Go writes them, the rest as JSON."""
    if isinstance(value, Printed):
        return str(value)
    if value is None:
        return '"null"'
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return f"[]string{{{', '.join(map(shown, value))}}}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def required(path: str, detail: str = "") -> Cause:
    return Cause(path, "FieldValueRequired", "Required value" + (f": {detail}" if detail else ""))


def invalid_value(path: str, value: Any, detail: str = "") -> Cause:
    message = f"Invalid value: {shown(value)}" + (f": {detail}" if detail else "")
    return Cause(path, "FieldValueInvalid", message)


def type_invalid(path: str, value: Any, detail: str) -> Cause:
    return Cause(path, "FieldValueTypeInvalid", f"Invalid value: {shown(value)}: {detail}")


def not_supported(path: str, value: Any, allowed: Iterable[str]) -> Cause:
    """`allowed` is shown in the order given."""
    names = ", ".join(f'"{name}"' for name in allowed)
    message = f"Unsupported value: {shown(value)}" + (f": supported values: {names}" if names else "")
    return Cause(path, "FieldValueNotSupported", message)


def duplicate(path: str, value: Any) -> Cause:
    return Cause(path, "FieldValueDuplicate", f"Duplicate value: {shown(value)}")


def forbidden_field(path: str, detail: str = "") -> Cause:
    return Cause(path, "FieldValueForbidden", "Forbidden" + (f": {detail}" if detail else ""))


def too_long(path: str, maximum: int) -> Cause:
    return Cause(path, "FieldValueTooLong", f"Too long: must have at most {maximum} bytes")


def too_many(path: str, actual: int, max_quantity: int) -> Cause:
    return Cause(path, "FieldValueTooMany", f"Too many: {actual}: must have at most {max_quantity} items")


def not_found_value(path: str, value: Any) -> Cause:
    return Cause(path, "FieldValueNotFound", f"Not found: {shown(value)}")


def internal_cause(path: str, detail: str) -> Cause:
    return Cause(path, "InternalError", f"Internal error: {detail}")


# --- predicates ---------------------------------------------------------------------------------------------------


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


def is_forbidden(error: BaseException) -> bool:
    return has_reason(error, "Forbidden")


def is_too_many_requests(error: BaseException) -> bool:
    return has_reason(error, "TooManyRequests")


def is_unavailable(error: BaseException) -> bool:
    """The server could not be reached or asked to come back: worth a retry."""
    return has_reason(error, "ServiceUnavailable", "ServerTimeout", "Timeout", "TooManyRequests")
