"""Rules for the schemas of definitions: what Kubernetes supports of OpenAPI v3, and its own extensions to it.

Works on the JSON form of schemas. The other halves: structural.py (every field has one place) and defaults.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.apiserver.crd.schema import Schema, embedded
from services.apiserver.crd.values import pattern
from services.apiserver.strategy.causes import Cause, forbidden, invalid, not_supported, required

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_LIST_TYPES = ("atomic", "set", "map")
_MAP_TYPES = ("atomic", "granular")
_REFUSED = ("definitions", "dependencies", "patternProperties", "additionalItems", "id")
_QUADRATIC = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
_META = ("apiVersion", "kind", "metadata")


@dataclass(frozen=True, slots=True)
class _Place:
    """What holds where a schema stands. ``no_default``: why there may be no default; empty where there may."""

    root: bool = False
    in_metadata: bool = False
    no_default: str = ""


def supported(path: str, schema: Schema) -> list[Cause]:
    """What is wrong with a version's schema as such; ``path`` ends in openAPIV3Schema."""
    return _schema(path, schema, _Place(root=True))


def patterns(path: str, schema: Schema) -> list[Cause]:
    """Regular expressions are looked at once the rest is fine."""
    causes: list[Cause] = []
    if text := schema.get("pattern"):
        try:
            pattern(text)
        except re.error as error:
            causes.append(invalid(f"{path}.pattern", text, f"must be a valid regular expression, but isn't: {error}"))
    for where, child in children(path, schema):
        causes += patterns(where, child)
    return causes


def children(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """All schemas that stand directly within a schema, with their paths."""
    for name in ("properties", "definitions", "patternProperties"):
        for key in sorted(schema.get(name) or {}):
            yield f"{path}.{name}[{key}]", schema[name][key]
    items = schema.get("items")
    if isinstance(items, Mapping):
        yield f"{path}.items", items
    elif isinstance(items, list):
        for index, child in enumerate(items):
            yield f"{path}.items[{index}]", child
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield f"{path}.additionalProperties", schema["additionalProperties"]
    for name in ("allOf", "oneOf", "anyOf"):
        for index, child in enumerate(schema.get(name) or ()):
            yield f"{path}.{name}[{index}]", child
    if "not" in schema:
        yield f"{path}.not", schema["not"]


def _schema(path: str, schema: Schema, place: _Place) -> list[Cause]:
    causes = _standard(path, schema, place)
    causes += _additional(path, schema)
    causes += _list_type(path, schema)
    causes += _map_type(path, schema)
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        causes.append(invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined"))
    own_meta = place.root or embedded(schema)
    inner = replace(place, root=False)
    for where, child in children(path, schema):
        name = where[len(path) :]
        below = inner
        if own_meta and name in [f".properties[{field}]" for field in _META]:
            below = replace(inner, in_metadata=True)
            if place.root:
                below = replace(below, no_default=f"in top-level {name[12:-1]}")
        elif name == ".additionalProperties" and place.in_metadata:
            below = replace(inner, no_default="inside additionalProperties applying to object metadata")
        causes += _schema(where, child, below)
    return causes


def _standard(path: str, schema: Schema, place: _Place) -> list[Cause]:
    causes: list[Cause] = []
    if "default" in schema and place.no_default:
        causes.append(forbidden(f"{path}.default", f"must not be set {place.no_default}"))
    if schema.get("uniqueItems"):
        causes.append(forbidden(f"{path}.uniqueItems", _QUADRATIC))
    if schema.get("$ref"):
        causes.append(forbidden(f"{path}.$ref", "$ref is not supported"))
    causes += [forbidden(f"{path}.{field}", f"{field} is not supported") for field in _REFUSED if schema.get(field)]
    kind = schema.get("type")
    if kind == "null":
        detail = "type cannot be set to null, use nullable as an alternative"
        causes.append(forbidden(f"{path}.type", detail))
    elif kind and kind not in TYPES:
        causes.append(not_supported(f"{path}.type", kind, TYPES))
    if isinstance(schema.get("items"), list):
        causes.append(forbidden(f"{path}.items", "items must be a schema object and not an array"))
    if place.in_metadata and embedded(schema):
        causes.append(forbidden(f"{path}.x-kubernetes-embedded-resource", "must not be used inside of resource meta"))
    return causes


def _additional(path: str, schema: Schema) -> list[Cause]:
    """With properties, additionalProperties may only say that there can be others."""
    if not schema.get("properties") or schema.get("additionalProperties", True) is True:
        return []
    detail = "additionalProperties and properties are mutual exclusive"
    return [forbidden(f"{path}.additionalProperties", detail)]


def _needs_type(path: str, schema: Schema, wanted: str, extension: str) -> list[Cause]:
    kind = schema.get("type")
    if kind == wanted:
        return []
    detail = f"must be {wanted} if {extension} is specified"
    return [invalid(f"{path}.type", kind, detail) if kind else required(f"{path}.type", detail)]


def _map_type(path: str, schema: Schema) -> list[Cause]:
    name = "x-kubernetes-map-type"
    if name not in schema:
        return []
    causes = _needs_type(path, schema, "object", name)
    if schema[name] not in _MAP_TYPES:
        causes.append(not_supported(f"{path}.{name}", schema[name], _MAP_TYPES))
    return causes


def _list_type(path: str, schema: Schema) -> list[Cause]:
    name, keys_name = "x-kubernetes-list-type", "x-kubernetes-list-map-keys"
    causes: list[Cause] = []
    kind, keys = schema.get(name), schema.get(keys_name) or []
    if kind is not None:
        causes += _needs_type(path, schema, "array", name)
        if kind not in _LIST_TYPES:
            causes.append(not_supported(f"{path}.{name}", kind, _LIST_TYPES))
    if keys and kind != "map":
        detail = f"must be map if {keys_name} is non-empty"
        causes.append(required(f"{path}.{name}", detail) if kind is None else invalid(f"{path}.{name}", kind, detail))
    if kind == "map" and not keys:
        causes.append(required(f"{path}.{keys_name}", f"must not be empty if {name} is map"))
    items = schema.get("items")
    if kind == "map":
        if items is None:
            causes.append(required(f"{path}.items", f"must have a schema if {name} is map"))
        elif not isinstance(items, Mapping):
            causes.append(invalid(f"{path}.items", items, f"must only have a single schema if {name} is map"))
        else:
            causes += _keys(path, items, keys) + _always_there(path, items, keys)
    elif kind == "set" and schema.get("type") == "array" and isinstance(items, Mapping):
        causes += _set_items(f"{path}.items", items)
    if kind in ("map", "set") and isinstance(items, Mapping) and items.get("nullable"):
        causes.append(forbidden(f"{path}.items.nullable", f"cannot be nullable when {name} is {kind}"))
    return causes


def _keys(path: str, items: Schema, keys: list[str]) -> list[Cause]:
    """The keys of a map-list's items are declared, and scalar."""
    if items.get("type") != "object":
        detail = "must be object if parent array's x-kubernetes-list-type is map"
        return [invalid(f"{path}.items.type", items.get("type") or "", detail)]
    causes: list[Cause] = []
    where = f"{path}.x-kubernetes-list-map-keys"
    known: Mapping[str, Any] = items.get("properties") or {}
    for index, key in enumerate(keys):
        if key in keys[:index]:
            causes.append(invalid(where, keys, "must not contain duplicate entries"))
        if key not in known:
            causes.append(invalid(where, keys, "entries must all be names of item properties"))
            continue
        place = f"{path}.items.properties[{key}]"
        if known[key].get("type") in ("array", "object"):
            detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            causes.append(invalid(f"{place}.type", known[key]["type"], detail))
    return causes


def _always_there(path: str, items: Schema, keys: list[str]) -> list[Cause]:
    """The keys of a map-list's items have a value in each."""
    causes: list[Cause] = []
    known: Mapping[str, Any] = items.get("properties") or {}
    listed = "this property is in x-kubernetes-list-map-keys, so it"
    for key in keys:
        if key not in known:
            continue
        place = f"{path}.items.properties[{key}]"
        if key not in (items.get("required") or ()) and "default" not in known[key]:
            causes.append(required(f"{place}.default", f"{listed} must have a default or be a required property"))
        if known[key].get("nullable"):
            causes.append(forbidden(f"{place}.nullable", f"{listed} cannot be nullable"))
    return causes


def _set_items(path: str, items: Schema) -> list[Cause]:
    detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
    map_type, list_type = items.get("x-kubernetes-map-type"), items.get("x-kubernetes-list-type")
    if items.get("type") == "object" and map_type != "atomic":
        return [invalid(f"{path}.x-kubernetes-map-type", map_type, detail)]
    if items.get("type") == "array" and list_type not in (None, "atomic"):
        return [invalid(f"{path}.x-kubernetes-list-type", list_type, detail)]
    return []
