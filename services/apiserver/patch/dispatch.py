"""One entry for the patch types that need nothing but the object and the patch."""

from __future__ import annotations

from typing import Any

import orjson

from services.apiserver.patch import json_patch, merge_patch
from services.apiserver.patch.errors import malformed
from services.apiserver.patch.strategic import strategic_merge
from tillerman.api.json_syntax import syntax_error
from tillerman.api.status import make, unsupported_media_type

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

# What is nested deeper is nobody's object; the walks over patches recurse, and Python's stack is not much deeper.
MAX_DEPTH = 200

_SHORT = {"json": JSON_PATCH, "merge": MERGE_PATCH, "strategic": STRATEGIC_MERGE_PATCH, "apply": APPLY_PATCH}


def apply_patch(patch_type: str, current: dict[str, Any], patch: bytes, types: Any) -> dict[str, Any]:
    """The patched object in JSON form; `current` is left alone.

    patch_type is a media type or its short name (json, merge, strategic). types is the descriptor of the object's
    message; None for custom resources, whose lists have no merge keys: they take no strategic patch.

    Raises StatusError.
    """
    kind = _SHORT.get(patch_type, patch_type.partition(";")[0].strip())
    if kind == JSON_PATCH:
        return json_patch.apply(current, parse(patch))
    if kind == MERGE_PATCH:
        return merge_patch.apply(current, parse(patch, whole="Invalid JSON Patch"))
    check_type(patch_type, custom=types is None)
    merged = strategic_merge(current, parse(patch), types)
    # The result is taken as what the object is, whatever the patch calls it.
    return {**merged, **{name: current[name] for name in ("apiVersion", "kind") if name in current}}


def check_type(patch_type: str, *, custom: bool) -> None:
    """Raises UnsupportedMediaType for what such a resource takes no patches of."""
    kind = _SHORT.get(patch_type, patch_type.partition(";")[0].strip())
    taken = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH, *(() if custom else (STRATEGIC_MERGE_PATCH,)))
    if kind in taken:
        return
    if custom:
        raise unsupported_media_type([JSON_PATCH, MERGE_PATCH, APPLY_PATCH])
    # Of the built-in kinds the router itself knows what they take.
    raise make(415, "UnsupportedMediaType", "415: Unsupported Media Type")


def parse(patch: bytes, *, whole: str = "") -> Any:
    """The patch's JSON. Raises BadRequest, with the text `whole` if given."""
    try:
        parsed = orjson.loads(patch)
    except orjson.JSONDecodeError as error:
        raise malformed(whole or syntax_error(patch) or str(error)) from error
    if patch.count(b"{") + patch.count(b"[") > MAX_DEPTH and _deeper(parsed, MAX_DEPTH):
        raise malformed("json: exceeded max depth")
    return parsed


def _deeper(value: Any, limit: int) -> bool:
    """Whether a value is nested more than ``limit`` levels."""
    level = [value]
    for _ in range(limit):
        level = [child for part in level for child in _parts(part)]
    return bool(level)


def _parts(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in children if isinstance(child, dict | list)]
