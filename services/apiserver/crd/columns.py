"""The table of a custom resource: the columns that its definition adds, and their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tillerman.api import jsonpath, times
from tillerman.api.printers.ages import age
from tillerman.api.printers.descriptions import CREATED, NAME

DEFAULT = ({"name": "Age", "type": "date", "description": CREATED, "jsonPath": ".metadata.creationTimestamp"},)

Columns = Sequence[Mapping[str, Any]]


def columns_of(declared: Columns) -> Columns:
    """additionalPrinterColumns, or what is shown without any."""
    return declared or DEFAULT


def definitions(columns: Columns) -> list[dict[str, Any]]:
    """columnDefinitions, the name first."""
    found = [{"name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0}]
    for column in columns:
        path = column["jsonPath"]
        described = column.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
        found.append(
            {
                "name": column["name"],
                "type": column["type"],
                "format": column.get("format", ""),
                "description": described,
                "priority": column.get("priority", 0),
            }
        )
    return found


def cells(obj: Mapping[str, Any], columns: Columns, now: float) -> list[Any]:
    """One cell per definition; null where the object has nothing to show. ``now`` in epoch seconds."""
    meta = obj.get("metadata") or {}
    return [meta.get("name", ""), *(_cell(obj, column, now) for column in columns)]


def _cell(obj: Mapping[str, Any], column: Mapping[str, Any], now: float) -> Any:
    try:
        found = jsonpath.find(column["jsonPath"], obj)
    except jsonpath.PathError:
        return None
    if not found:
        return None
    value, kind = found[0], column["type"]
    if kind == "string":
        return _text(value)
    if kind == "date":
        return _age(value, now) if isinstance(value, str) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if kind == "integer" else float(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _age(value: str, now: float) -> str:
    try:
        return age(times.parse_rfc3339(value), now)
    except ValueError:
        return "<invalid>"
