"""JSON of whatever was read from JSON."""

from __future__ import annotations

import json
from typing import Any

import orjson


def compact(value: Any, *, sort: bool = False) -> str:
    """Without spaces. Numbers beyond 64 bits too; halves of a surrogate pair become question marks."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort else 0).decode()
    except orjson.JSONEncodeError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort)
        return text.encode("utf-8", "replace").decode()
