"""A structural schema at work: what is not declared is dropped, what is missing is filled in.

Everything works in place on the JSON form of objects, with the JSON form of the schema.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tillerman.api import codec
from tillerman.pb.k8s import meta_v1_pb2

Schema = Mapping[str, Any]

_NOTHING: Schema = {}
_QUOTE = '"'
_TYPE_META = frozenset({"apiVersion", "kind", "metadata"})


def properties(schema: Schema) -> Mapping[str, Schema]:
    return schema.get("properties") or _NOTHING


def additional(schema: Schema) -> Schema | bool | None:
    """additionalProperties: a schema, true, false (no such field is valid), or None where undeclared fields are
    unknown.
    """
    found: Schema | bool | None = schema.get("additionalProperties")
    return found


def keeps_unknown(schema: Schema) -> bool:
    return bool(schema.get("x-kubernetes-preserve-unknown-fields"))


def embedded(schema: Schema) -> bool:
    return bool(schema.get("x-kubernetes-embedded-resource"))


def child_of(schema: Schema, name: str) -> Schema | None:
    """The schema of a field or map value; None where nothing is said of it."""
    found = properties(schema).get(name)
    if found is None:
        rest = additional(schema)
        return rest if isinstance(rest, Mapping) else None
    return found


# -- pruning -----------------------------------------------------------------------------------------------------------


def prune(obj: dict[str, Any], schema: Schema) -> list[str]:
    """Drops the fields that the schema does not know from a whole object; returns their paths, as
    `spec.parts[0].colour`.
    """
    dropped: list[str] = []
    _prune(obj, {**schema, "x-kubernetes-embedded-resource": True}, "", dropped)
    return dropped


def prune_value(value: Any, schema: Schema) -> list[str]:
    """The same for a value within an object, such as a default."""
    dropped: list[str] = []
    _prune(value, schema, "", dropped)
    return dropped


def _prune(value: Any, schema: Schema | None, path: str, dropped: list[str]) -> None:
    if type(value) is list:
        items = None if schema is None else schema.get("items")
        keeping = schema is not None and keeps_unknown(schema)
        for index, item in enumerate(value):
            if items is not None or not keeping:
                _prune(item, items, f"{path}[{index}]", dropped)
        return
    if type(value) is not dict:
        return
    known = _NOTHING if schema is None else properties(schema)
    rest = None if schema is None else additional(schema)
    keeping = schema is not None and keeps_unknown(schema)
    own_meta = schema is not None and embedded(schema)
    for name in list(value):
        where = f"{path}.{name}" if path else name
        if own_meta and name in _TYPE_META:
            # The whole object's metadata has been read before.
            if name == "metadata" and path:
                value[name] = _plain_metadata(value[name], where, dropped)
            continue
        if name in known:
            _prune(value[name], known[name], where, dropped)
        elif rest is not None:
            _prune(value[name], rest if isinstance(rest, Mapping) else None, where, dropped)
        elif not keeping:
            del value[name]
            dropped.append(where)


def _plain_metadata(value: Any, path: str, dropped: list[str]) -> Any:
    """An embedded object's metadata without what metadata does not have; what is none stays, to be refused."""
    unknown: list[str] = []
    try:
        found = codec.to_dict(codec.from_dict(value, meta_v1_pb2.ObjectMeta, unknown=unknown))
    except codec.DecodeError:
        return value
    if found.get("creationTimestamp") is None:
        found.pop("creationTimestamp", None)
    dropped += [f"{path}.{fault.partition(_QUOTE)[2].rpartition(_QUOTE)[0]}" for fault in unknown]
    return found


# -- defaults ----------------------------------------------------------------------------------------------------------


def fill(value: Any, schema: Schema) -> None:
    """Sets the defaults of what is missing; a null that may not be null counts as missing."""
    _drop_nulls(value, schema)
    _default(value, schema)


def _misplaced_null(value: Any, schema: Schema | None) -> bool:
    return value is None and schema is not None and not schema.get("nullable")


def _drop_nulls(value: Any, schema: Schema) -> None:
    if type(value) is dict:
        for name in list(value):
            child = child_of(schema, name)
            if child is None:
                continue
            if _misplaced_null(value[name], child) and "default" not in child:
                del value[name]
            else:
                _drop_nulls(value[name], child)
    elif type(value) is list and (items := schema.get("items")) is not None:
        for item in value:
            _drop_nulls(item, items)


def _default(value: Any, schema: Schema) -> None:
    if type(value) is dict:
        for name, child in properties(schema).items():
            if "default" in child and (name not in value or _misplaced_null(value[name], child)):
                value[name] = copy.deepcopy(child["default"])
        for name in value:
            found = child_of(schema, name)
            if found is None:
                continue
            if _misplaced_null(value[name], found) and "default" in found:
                value[name] = copy.deepcopy(found["default"])
            _default(value[name], found)
    elif type(value) is list and (items := schema.get("items")) is not None:
        for index, item in enumerate(value):
            if _misplaced_null(item, items) and "default" in items:
                value[index] = copy.deepcopy(items["default"])
            _default(value[index], items)


def fills(schema: Schema) -> bool:
    """Whether the schema has a default anywhere."""
    if "default" in schema:
        return True
    parts = [*properties(schema).values(), schema.get("items"), additional(schema)]
    return any(fills(part) for part in parts if isinstance(part, Mapping))
