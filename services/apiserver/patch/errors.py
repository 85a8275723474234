"""The refusals of patches, in Kubernetes' words. Where 1.20 answered 500, a 400 with its text."""

from __future__ import annotations

from tillerman.api.status import StatusError, bad_request, invalid, invalid_value, make

_GENERIC = "the server rejected our request due to an error in our request"


def cannot_apply() -> StatusError:
    """A JSON patch that does not fit the object: a test that fails, a path that leads nowhere."""
    return make(422, "Invalid", _GENERIC)


def bad_patch(shown: str, detail: str) -> StatusError:
    """A patch of the wrong shape; the cause names the field "patch"."""
    return invalid("", "", [invalid_value("patch", shown, detail)])


def malformed(detail: str) -> StatusError:
    return bad_request(detail)
