"""Questions about a field's declaration: its Kubernetes facts, whether presence matters, how it is spelled in JSON."""

from __future__ import annotations

from functools import cache

from google.protobuf.descriptor import FieldDescriptor

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
