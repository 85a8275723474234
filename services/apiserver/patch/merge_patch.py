"""RFC 7386 merge patch: maps merge, null deletes, everything else replaces.

As in Kubernetes' library, nulls go out of lists and their items too.
"""

from __future__ import annotations

from typing import Any

from services.apiserver.patch.errors import bad_patch
from tillerman.api.json_syntax import no_type_meta
from tillerman.api.json_text import compact


def apply(current: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The merged object. Raises Invalid (field "patch") for a patch that is not an object."""
    if not isinstance(patch, dict):
        kind = "array" if isinstance(patch, list) else "string" if isinstance(patch, str) else "number"
        raise bad_patch(compact(patch), no_type_meta(kind))
    return merge(current, patch)


def merge(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    """A new map; neither argument changes."""
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge(merged.get(key), value)
        else:
            merged[key] = _without_nulls(value)
    return merged


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value if part is not None]
    return value
