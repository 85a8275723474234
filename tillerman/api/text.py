"""Strings of a message that are not UTF-8, which proto2's decoder lets pass and hands over as bytes.

Whether there is one is asked of protobuf's own decoder, with types that are the scheme's but for this check: a walk
over a message in Python would cost more than all else that is done with it.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

_pool: Final = DescriptorPool()
_checking: Final[dict[str, type[Message]]] = {}
_known: Final[set[str]] = set()


def is_text(raw: bytes, message_type: type[Message]) -> bool:
    """Whether all strings in a message's bytes are UTF-8."""
    if raw.isascii():
        return True
    name = message_type.DESCRIPTOR.full_name
    checking = _checking.get(name)
    if checking is None:
        _add(message_type.DESCRIPTOR.file)
        checking = _checking[name] = GetMessageClass(_pool.FindMessageTypeByName(name))
    try:
        checking.FromString(raw)
    except DecodeError:
        return False
    return True


def not_text(message: Any) -> str:
    """The path of the first string that is not UTF-8; empty when there is none."""
    for field, value in message.ListFields():
        name = field.json_name
        child = field.message_type
        if child is not None and child.GetOptions().map_entry:
            if _bad_map(value):
                return str(name)
        elif child is not None:
            for below in (not_text(item) for item in (value if field.is_repeated else (value,))):
                if below:
                    return f"{name}.{below}"
        elif field.type == FieldDescriptor.TYPE_STRING and any(
            type(item) is bytes for item in (value if field.is_repeated else (value,))
        ):
            return str(name)
    return ""


def _bad_map(entries: Any) -> bool:
    try:
        items = list(entries.items())
    except UnicodeDecodeError:
        return True
    return any(type(value) is bytes or (isinstance(value, Message) and not_text(value)) for _, value in items)


def _add(file: Any) -> None:
    """The file and what it imports, in the edition that checks strings; all else stays as in proto2."""
    if file.name in _known:
        return
    _known.add(file.name)
    for imported in file.dependencies:
        _add(imported)
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)
    if copy.syntax in ("", "proto2"):
        features = copy.options.features
        features.utf8_validation = descriptor_pb2.FeatureSet.VERIFY
        features.repeated_field_encoding = descriptor_pb2.FeatureSet.EXPANDED
        features.enum_type = descriptor_pb2.FeatureSet.CLOSED
        features.json_format = descriptor_pb2.FeatureSet.LEGACY_BEST_EFFORT
        copy.syntax, copy.edition = "editions", descriptor_pb2.EDITION_2023
    _pool.Add(copy)
