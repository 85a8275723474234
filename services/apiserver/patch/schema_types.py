"""FieldTypes of custom resources, from the OpenAPI v3 schema of their definition (its JSON form)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.apiserver.patch.field_types import ANY, FieldType, Kind, Simple, message_type
from tillerman.pb.k8s import meta_v1_pb2

_SCALARS = {"string": "string", "boolean": "boolean", "integer": "number", "number": "number"}


class SchemaStruct:
    """An object of the schema. What it does not declare is refused, unless unknown fields are kept."""

    kind: Kind = "map"
    scalar = ""
    keys: tuple[str, ...] = ()
    key_defaults: Mapping[str, Any] = {}
    element: FieldType | None = None

    def __init__(self, schema: Mapping[str, Any], *, root: bool = False) -> None:
        self.atomic = schema.get("x-kubernetes-map-type") == "atomic"
        self._properties = schema.get("properties") or {}
        self._rest = _rest(schema)
        self._known: dict[str, FieldType | None] = {}
        if root or schema.get("x-kubernetes-embedded-resource"):
            self._known["apiVersion"] = self._known["kind"] = Simple("scalar", scalar="string")
            self._known["metadata"] = message_type(meta_v1_pb2.ObjectMeta.DESCRIPTOR)

    def child(self, name: str) -> FieldType | None:
        if name not in self._known:
            found = self._properties.get(name)
            self._known[name] = schema_type(found) if found is not None else self._rest
        return self._known[name]


def root_type(schema: Mapping[str, Any] | None) -> FieldType:
    """The type of a version's objects; without a schema everything is kept as it comes."""
    return SchemaStruct(schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}, root=True)


def schema_type(schema: Mapping[str, Any]) -> FieldType:
    kind = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        return ANY
    if kind == "object" or (kind is None and schema.get("x-kubernetes-preserve-unknown-fields")):
        return SchemaStruct(schema)
    if kind == "array":
        return _list(schema)
    return Simple("scalar", scalar=_SCALARS.get(kind or "", ""))


def _list(schema: Mapping[str, Any]) -> FieldType:
    item = schema.get("items") or {}
    element = schema_type(item)
    list_type = schema.get("x-kubernetes-list-type", "atomic")
    if list_type == "set":
        return Simple("list", element=element)
    if list_type != "map":
        return Simple("list", atomic=True, element=element)
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    properties = item.get("properties") or {}
    defaults = {key: properties[key]["default"] for key in keys if "default" in properties.get(key, {})}
    return Simple("list", keys=keys, key_defaults=defaults, element=element)


def _rest(schema: Mapping[str, Any]) -> FieldType | None:
    """The type of fields that are not declared; None refuses them."""
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        return schema_type(extra)
    # A kept field is one value: nothing is known of what is in it.
    return ANY if extra or schema.get("x-kubernetes-preserve-unknown-fields") else None
