"""How server-side apply sees an object: which maps and lists merge, and by which keys.

`FieldType` is the interface; this module makes it from message descriptors. Custom resources bring their own, made from
their schema (schema_types) or deduced (`DEDUCED`: maps merge, lists are one value).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from services.apiserver.strategy.fields import facts, is_map, json_fields, map_value
from tillerman.api.plans import form_of
from tillerman.api.scheme import SCHEME

Kind = Literal["scalar", "map", "list"]


class FieldType(Protocol):
    """What is known of one place in an object."""

    @property
    def kind(self) -> Kind: ...
    @property
    def atomic(self) -> bool:
        """One value as a whole: never merged, owned by its own path."""

    @property
    def scalar(self) -> str:
        """The JSON type a scalar must have: string, number, boolean, or "" for any."""

    @property
    def keys(self) -> tuple[str, ...]:
        """A list's keys; empty for a set."""

    @property
    def key_defaults(self) -> Mapping[str, Any]:
        """Values for keys that an item may leave out."""

    @property
    def element(self) -> FieldType | None:
        """The type of a list's items."""

    def child(self, name: str) -> FieldType | None:
        """The type under a field or key of a map; None when there is no such field."""


@dataclass(frozen=True, slots=True)
class Simple:
    """A FieldType given by values; `fields` None means a map with free keys, all of type `element`."""

    kind: Kind
    atomic: bool = False
    scalar: str = ""
    keys: tuple[str, ...] = ()
    key_defaults: Mapping[str, Any] = field(default_factory=dict)
    element: FieldType | None = None
    fields: Mapping[str, FieldType] | None = None

    def child(self, name: str) -> FieldType | None:
        if self.fields is not None and name in self.fields:
            return self.fields[name]
        return self.element


ANY = Simple("scalar")
ATOMIC_LIST = Simple("list", atomic=True)


class Deduced:
    """Typing by looks: any map merges, anything else is one value."""

    kind: Kind = "map"
    atomic = False
    scalar = ""
    keys: tuple[str, ...] = ()
    key_defaults: Mapping[str, Any] = {}
    element: FieldType | None = None

    def child(self, name: str) -> FieldType | None:
        return DEDUCED


DEDUCED = Deduced()

# Structs that are one value wherever they stand; fields say so themselves (struct_type) where only they are.
_ATOMIC_STRUCTS = ("k8s.io.apimachinery.pkg.apis.meta.v1.LabelSelector",)
_RAW = "k8s.io.apimachinery.pkg.runtime.RawExtension"
_JSON = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON"
_STRING = Simple("scalar", scalar="string")


class Struct:
    """A message: its fields by JSON name, those of inline messages among them. Looked up when first asked for."""

    kind: Kind = "map"
    scalar = ""
    keys: tuple[str, ...] = ()
    key_defaults: Mapping[str, Any] = {}
    element: FieldType | None = None

    def __init__(self, descriptor: Descriptor, *, atomic: bool) -> None:
        self.atomic = atomic
        self._fields = json_fields(descriptor)
        self._typed = _has_kind(descriptor)
        self._known: dict[str, FieldType | None] = {}

    def child(self, name: str) -> FieldType | None:
        if name not in self._known:
            self._known[name] = self._lookup(name)
        return self._known[name]

    def _lookup(self, name: str) -> FieldType | None:
        found = self._fields.get(name)
        if found is not None:
            return _field_type(found)
        return _STRING if self._typed and name in ("apiVersion", "kind") else None


def message_type(descriptor: Any) -> FieldType:
    """The type of a kind's objects."""
    return _struct(descriptor, "")


def _has_kind(descriptor: Descriptor) -> bool:
    try:
        SCHEME.kind_of_name(descriptor.full_name)
    except LookupError:
        return False
    return True


@cache
def _struct(descriptor: Descriptor, struct_type: str) -> FieldType:
    if form_of(descriptor) is not None:
        raw = descriptor.full_name in (_RAW, _JSON)
        return Simple("map", atomic=True, element=ANY) if raw else ANY
    atomic = struct_type == "atomic" or (descriptor.full_name in _ATOMIC_STRUCTS and struct_type != "granular")
    return Struct(descriptor, atomic=atomic)


@cache
def _field_type(part: FieldDescriptor) -> FieldType:
    declared = facts(part)
    if is_map(part):
        value = map_value(part)
        return Simple("map", atomic=declared.map_type == "atomic", element=_single(value, ""))
    if not part.is_repeated:
        return _single(part, declared.struct_type or declared.map_type)
    element = _single(part, "")
    merges = "merge" in declared.patch_strategy
    list_type = declared.list_type or ("map" if merges and declared.merge_key else "set" if merges else "atomic")
    if list_type == "atomic":
        return Simple("list", atomic=True, element=element)
    keys = tuple(declared.list_map_key) or ((declared.merge_key,) if declared.merge_key else ())
    if list_type == "set" or not keys:
        return Simple("list", element=element)
    return Simple("list", keys=keys, key_defaults=_key_defaults(part.message_type, keys), element=element)


def _key_defaults(descriptor: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """A key that JSON always shows counts as its zero when left out."""
    defaults: dict[str, Any] = {}
    fields = json_fields(descriptor)
    for key in keys:
        declared = facts(fields[key])
        if declared.default and not declared.default.startswith("ref("):
            defaults[key] = orjson.loads(declared.default)
        elif declared.always and not declared.pointer:
            defaults[key] = fields[key].default_value
    return defaults


def _single(part: FieldDescriptor, struct_type: str) -> FieldType:
    if part.message_type is not None:
        return _struct(part.message_type, struct_type)
    if part.type == FieldDescriptor.TYPE_BOOL:
        return Simple("scalar", scalar="boolean")
    if part.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return _STRING
    return Simple("scalar", scalar="number")
