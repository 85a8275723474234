"""Questions about a field's declaration: its Kubernetes facts, whether presence matters, how it is spelled in JSON."""

from __future__ import annotations

from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tillerman.pb import options_pb2


@cache
def facts(field: FieldDescriptor) -> options_pb2.FieldFacts:
    """What Kubernetes declares about the field beyond its number and type."""
    return field.GetOptions().Extensions[options_pb2.k8s]


@cache
def is_pointer(field: FieldDescriptor) -> bool:
    """Whether absent and zero differ."""
    return facts(field).pointer


@cache
def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def map_value(field: FieldDescriptor) -> FieldDescriptor:
    """The field that a map's values are declared by."""
    entry = field.message_type
    if entry is None:
        raise TypeError(f"{field.full_name} is not a map")
    return entry.fields_by_name["value"]


@cache
def json_fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """A message's fields by JSON name; those of inline messages count as its own."""
    found: dict[str, FieldDescriptor] = {}
    for part in descriptor.fields:
        if facts(part).inline and part.message_type is not None:
            found.update(json_fields(part.message_type))
        else:
            found[part.json_name] = part
    return found
