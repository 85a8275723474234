"""The annotation of kubectl's client-side apply, while kubectl goes over to server-side apply.

Fields that the annotation names, and that still have its values, are kubectl's: applying them again is no conflict. An
annotation that is there is kept equal to what kubectl applied last.
"""

from __future__ import annotations

from typing import Any

import orjson

from services.apiserver.patch.field_paths import EMPTY, FieldSet
from services.apiserver.patch.field_types import FieldType
from services.apiserver.patch.typed import compare, fields_of
from tillerman.api.json_text import compact

MANAGER = "kubectl"
ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"


def owned(live: dict[str, Any], api_version: str, types: FieldType) -> FieldSet:
    """What client-side apply owns of an object; nothing without a readable annotation in this version."""
    try:
        applied = orjson.loads(_annotations(live).get(ANNOTATION) or "null")
    except orjson.JSONDecodeError:
        return EMPTY
    if not isinstance(applied, dict) or applied.get("apiVersion") != api_version:
        return EMPTY
    difference = compare(applied, live, types)
    return fields_of(applied, types) - difference.set - difference.removed


def brought_up_to_date(obj: dict[str, Any], applied: dict[str, Any]) -> dict[str, Any]:
    """The object with its annotation, if it has one, telling of this apply."""
    if ANNOTATION not in _annotations(obj):
        return obj
    told = {**applied, "metadata": dict(applied.get("metadata") or {})}
    kept = {name: text for name, text in _annotations(applied).items() if name != ANNOTATION}
    told["metadata"].pop("annotations", None)
    if kept:
        told["metadata"]["annotations"] = kept
    text = compact(told, sort=True) + "\n"
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**_annotations(obj), ANNOTATION: text}}}


def _annotations(obj: dict[str, Any]) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}
