"""The table of a custom resource: the columns that its definition adds, and their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tillerman.api.printers import Cell, custom_cells
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


def cells(obj: Mapping[str, Any], columns: Columns, now: float) -> list[Cell | None]:
    """One cell per definition; null where the object has nothing to show. ``now`` in epoch seconds."""
    meta = obj.get("metadata") or {}
    declared = [(column["name"], column["type"], column["jsonPath"]) for column in columns]
    return [meta.get("name", ""), *custom_cells(obj, declared, now)]
