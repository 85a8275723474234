"""What a schema demands of a value beyond JSON schema: lists without repetition, and whole objects within objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.apiserver.crd.schema import Schema, child_of, embedded
from services.apiserver.strategy import metadata
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns1035_label, path_segment
from tillerman.api import codec
from tillerman.api.status import Cause, invalid_value, required, shown
from tillerman.pb.k8s import meta_v1_pb2

_EMBEDDED = Kind(name=path_segment, namespaced=False)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def repeated_items(value: Any, schema: Schema, path: str = "") -> list[Cause]:
    """The items that a set or a map-list has twice."""
    causes: list[Cause] = []
    if isinstance(value, list):
        items = schema.get("items") or {}
        causes += _repeated(value, schema, path)
        for index, item in enumerate(value):
            causes += repeated_items(item, items, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            child = child_of(schema, name)
            if child is not None:
                where = _below(path, name) if name in (schema.get("properties") or {}) else f"{path}[{name}]"
                causes += repeated_items(item, child, where)
    return causes


def _repeated(value: list[Any], schema: Schema, path: str) -> list[Cause]:
    list_type = schema.get("x-kubernetes-list-type")
    if list_type not in ("set", "map"):
        return []
    causes = []
    seen: set[bytes] = set()
    reported: set[bytes] = set()
    for index, item in enumerate(value):
        key: Any = item
        if list_type == "map":
            if not isinstance(item, dict):
                continue
            key = {name: item[name] for name in schema.get("x-kubernetes-list-map-keys") or () if name in item}
        encoded = orjson.dumps(key, option=orjson.OPT_SORT_KEYS)
        if encoded in seen and encoded not in reported:
            reported.add(encoded)
            causes.append(Cause(f"{path}[{index}]", "FieldValueDuplicate", f"Duplicate value: {_go(key)}"))
        seen.add(encoded)
    return causes


def _go(value: Any) -> str:
    """As Go prints a value with %#v."""
    if isinstance(value, Mapping):
        return "map[string]interface {}{" + ", ".join(f"{shown(k)}:{_go(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(map(_go, value)) + "}"
    return "interface {}(nil)" if value is None else shown(value)


def embedded_objects(value: Any, schema: Schema, path: str = "", *, root: bool = True) -> list[Cause]:
    """What is wrong with the apiVersion, kind and metadata of objects within the object."""
    causes: list[Cause] = []
    if isinstance(value, dict):
        if embedded(schema) and not root:
            causes += _type_and_metadata(value, path)
        for name, item in value.items():
            if (child := child_of(schema, name)) is not None:
                where = _below(path, name) if name in (schema.get("properties") or {}) else f"{path}[{name}]"
                causes += embedded_objects(item, child, where, root=False)
    elif isinstance(value, list) and (items := schema.get("items")) is not None:
        for index, item in enumerate(value):
            causes += embedded_objects(item, items, f"{path}[{index}]", root=False)
    return causes


def _type_and_metadata(value: dict[str, Any], path: str) -> list[Cause]:
    causes = []
    for name in ("apiVersion", "kind"):
        where = _below(path, name)
        if name not in value:
            causes.append(required(where, "must not be empty"))
        elif not isinstance(value[name], str):
            causes.append(invalid_value(where, value[name], "must be a string"))
        elif not value[name]:
            causes.append(invalid_value(where, value[name], "must not be empty"))
        elif name == "kind" and (problems := dns1035_label(value[name].lower())):
            detail = "may have mixed case, but should otherwise match: " + ",".join(problems)
            causes.append(invalid_value(where, value[name], detail))
        elif name == "apiVersion" and value[name].count("/") > 1:
            causes.append(invalid_value(where, value[name], f"unexpected GroupVersion string: {value[name]}"))
    if "metadata" in value:
        causes += _metadata(value["metadata"], _below(path, "metadata"))
    return causes


def _metadata(value: Any, path: str) -> list[Cause]:
    try:
        meta = codec.from_dict(value, meta_v1_pb2.ObjectMeta)
    except codec.DecodeError as error:
        return [invalid_value(path, value, str(error))]
    assert isinstance(meta, meta_v1_pb2.ObjectMeta)
    # A template has no name of its own, and may belong anywhere.
    meta.name = meta.name or "fakename"
    meta.ClearField("namespace")
    return metadata.validate(meta, _EMBEDDED, path=path)
