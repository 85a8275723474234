"""A patched object's JSON form as a message again."""

from __future__ import annotations

import json
from typing import Any

from services.apiserver.registry.context import Context
from tillerman.api import codec
from tillerman.api.status import bad_request, invalid, invalid_value


def decode(message: Any, content: dict[str, Any], context: Context) -> Any:
    """The patched object as a message. Raises Invalid or (strict) BadRequest with the decoder's words."""
    unknown: list[str] | None = [] if context.field_validation == "Warn" else None
    try:
        decoded = codec.from_dict(content, message, strict=context.field_validation == "Strict", unknown=unknown)
    except codec.DecodeError as error:
        if error.strict:
            raise bad_request(str(error)) from error
        # What was patched was an object before, so the patch is what does not fit.
        raise invalid("", "", [invalid_value("patch", json.dumps(content), str(error))]) from error
    if unknown:
        context.warnings.extend(unknown)
    return decoded
