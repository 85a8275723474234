"""Refusals: texts, codes, and their way over gRPC."""

from typing import Any

import grpc
import pytest

from tillerman.api import rpcstatus, status
from tillerman.api.status import StatusError


@pytest.mark.parametrize(
    ("error", "code", "reason", "message"),
    [
        (status.not_found("pods", "x"), 404, "NotFound", 'pods "x" not found'),
        (status.not_found("deployments", "x", "apps"), 404, "NotFound", 'deployments.apps "x" not found'),
        (status.already_exists("pods", "x"), 409, "AlreadyExists", 'pods "x" already exists'),
        (
            status.conflict("pods", "x"),
            409,
            "Conflict",
            'Operation cannot be fulfilled on pods "x": the object has been modified; please apply your changes to the '
            "latest version and try again",
        ),
        (
            status.invalid("Deployment.apps", "d", [status.required("spec.selector", "why")]),
            422,
            "Invalid",
            'Deployment.apps "d" is invalid: spec.selector: Required value: why',
        ),
        (
            status.invalid("Pod", "p", [status.required("a"), status.invalid_value("b", -1, "must be positive")]),
            422,
            "Invalid",
            'Pod "p" is invalid: [a: Required value, b: Invalid value: -1: must be positive]',
        ),
        (status.forbidden("pods", "x", "no"), 403, "Forbidden", 'pods "x" is forbidden: no'),
        (status.forbidden("pods", "", "no"), 403, "Forbidden", "pods is forbidden: no"),
        (status.bad_request("m"), 400, "BadRequest", "m"),
        (status.expired("m"), 410, "Expired", "m"),
        (status.too_many_requests("m", 3), 429, "TooManyRequests", "m"),
        (status.internal("m"), 500, "InternalError", "Internal error occurred: m"),
        (status.timeout("m"), 504, "Timeout", "Timeout: m"),
        (status.service_unavailable("m"), 503, "ServiceUnavailable", "m"),
        (
            status.method_not_supported("pods", "create"),
            405,
            "MethodNotAllowed",
            'create is not supported on resources of kind "pods"',
        ),
        (status.request_entity_too_large("m"), 413, "RequestEntityTooLarge", "m"),
        (status.unauthorized(), 401, "Unauthorized", "Unauthorized"),
    ],
)
def test_texts_and_the_way_over_grpc(error: StatusError, code: int, reason: str, message: str) -> None:
    assert (error.code, error.reason, error.message) == (code, reason, message)
    rpc_code, text, metadata = rpcstatus.to_rpc(error)
    assert rpc_code is not grpc.StatusCode.UNKNOWN
    assert rpcstatus.from_rpc(Answer(rpc_code, text, metadata)).status == error.status


class Answer:
    """What a failed call tells."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Any = ()) -> None:
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._metadata


def test_transport_errors_become_statuses() -> None:
    error = rpcstatus.from_rpc(Answer(grpc.StatusCode.UNAVAILABLE, "connection refused"))
    assert (error.code, error.reason, error.message) == (503, "ServiceUnavailable", "connection refused")
    assert status.is_unavailable(error)
    assert rpcstatus.from_rpc(Answer(grpc.StatusCode.DEADLINE_EXCEEDED, "")).reason == "Timeout"


def test_a_status_too_large_for_a_header_loses_causes_not_itself() -> None:
    causes = [status.required(f"spec.containers[{i}].image") for i in range(2000)]
    code, _, metadata = rpcstatus.to_rpc(status.invalid("Pod", "p", causes))
    assert len(metadata[0][1]) < 8192
    arrived = rpcstatus.from_rpc(Answer(code, "", metadata))
    assert arrived.reason == "Invalid"
    assert arrived.message.startswith('Pod "p" is invalid: [spec.containers[0].image: Required value')


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (status.invalid_value("f", "x y", "bad"), 'Invalid value: "x y": bad'),
        (status.invalid_value("f", True, ""), "Invalid value: true"),
        (status.invalid_value("f", None, "bad"), 'Invalid value: "null": bad'),
        (status.invalid_value("f", {"a": 1}, "bad"), 'Invalid value: {"a":1}: bad'),
        (status.not_supported("f", "x", ["B", "A"]), 'Unsupported value: "x": supported values: "B", "A"'),
        (status.duplicate("f", "x"), 'Duplicate value: "x"'),
        (status.forbidden_field("f", "why"), "Forbidden: why"),
        (status.too_long("f", 63), "Too long: must have at most 63 bytes"),
        (status.too_many("f", 5, 3), "Too many: 5: must have at most 3 items"),
        (status.not_found_value("f", "x"), 'Not found: "x"'),
    ],
)
def test_field_errors(cause: status.Cause, message: str) -> None:
    assert cause.message == message
    assert str(cause) == f"f: {message}"


def test_predicates() -> None:
    assert status.is_not_found(status.not_found("pods", "x"))
    assert not status.is_not_found(ValueError())
    assert status.is_expired(status.gone("m"))
    assert status.is_conflict(status.conflict("pods", "x"))
