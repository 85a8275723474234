"""A patched object's JSON form as a message again."""

from __future__ import annotations

from typing import Any

import orjson

from services.apiserver.registry.context import Context
from tillerman.api import codec
from tillerman.api.status import invalid, invalid_value


def decode(message: Any, content: dict[str, Any], context: Context) -> Any:
    """The patched object as a message. Raises Invalid with the decoder's words.

    What was patched was an object before, so the patch is what does not fit.
    """
    unknown: list[str] | None = [] if context.field_validation == "Warn" else None
    try:
        decoded = codec.from_dict(content, message, strict=context.field_validation == "Strict", unknown=unknown)
    except codec.DecodeError as error:
        shown = orjson.dumps({name: content[name] for name in sorted(content)}).decode()
        raise invalid("", "", [invalid_value("patch", shown, str(error))]) from error
    if unknown:
        context.warnings.extend(unknown)
    return decoded
