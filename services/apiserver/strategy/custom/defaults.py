"""Rules for the defaults in a schema: they obey the schema that they stand in, and have no field that it would drop."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from services.apiserver.crd.schema import Schema, embedded, prune, prune_value
from services.apiserver.crd.values import validate
from services.apiserver.strategy.causes import Cause, invalid
from services.apiserver.strategy.custom.invariants import embedded_objects, repeated_items


def defaults(path: str, schema: Schema) -> list[Cause]:
    """What is wrong with the defaults anywhere in a structural schema."""
    causes: list[Cause] = []
    if "default" in schema:
        causes += _one(f"{path}.default", schema["default"], schema)
    if isinstance(schema.get("items"), Mapping):
        causes += defaults(f"{path}.items", schema["items"])
    for name in sorted(schema.get("properties") or {}):
        causes += defaults(f"{path}.properties[{name}]", schema["properties"][name])
    if isinstance(schema.get("additionalProperties"), Mapping):
        causes += defaults(f"{path}.additionalProperties", schema["additionalProperties"])
    return causes


def _one(path: str, value: Any, schema: Schema) -> list[Cause]:
    pruned = copy.deepcopy(value)
    whole = embedded(schema) and isinstance(pruned, dict)
    dropped = prune(pruned, schema) if whole else prune_value(pruned, schema)
    causes = [invalid(path, value, "must be pruned")] if dropped else []
    causes += validate(value, schema, path)
    causes += embedded_objects(value, schema, path, root=False)
    return causes + repeated_items(value, schema, path)
