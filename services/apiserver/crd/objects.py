"""A custom resource as the registry handles it: metadata as a message, everything else as JSON."""

from __future__ import annotations

from typing import Any

import orjson

from tillerman.api import codec
from tillerman.pb.k8s import meta_v1_pb2

# How deep an object may be nested: what writes JSON ends at 254.
MAX_DEPTH = 200
# Above this a float has no exact integer to be written as.
_EXACT = 2.0**63


class CustomObject:
    """``content``: the object's JSON form but for metadata, apiVersion and kind included."""

    __slots__ = ("content", "metadata")

    def __init__(self, content: dict[str, Any], metadata: meta_v1_pb2.ObjectMeta) -> None:
        self.content = content
        self.metadata = metadata

    @classmethod
    def of(cls, obj: dict[str, Any], unknown: list[str] | None = None) -> CustomObject:
        """Takes the dict over; ``unknown`` gets the paths of fields that metadata does not have. Raises
        codec.DecodeError for metadata that isn't.
        """
        given = obj.pop("metadata", None)
        faults: list[str] = []
        metadata = codec.from_dict({} if given is None else given, meta_v1_pb2.ObjectMeta, unknown=faults)
        assert isinstance(metadata, meta_v1_pb2.ObjectMeta)
        if unknown is not None:
            unknown.extend(fault.replace('"', '"metadata.', 1) for fault in faults)
        return cls(obj, metadata)

    @classmethod
    def from_json(cls, raw: bytes) -> CustomObject:
        """A stored or sent object, known to be well-formed."""
        return cls.of(orjson.loads(raw))

    @property
    def kind(self) -> str:
        return str(self.content.get("kind", ""))

    def copy(self) -> CustomObject:
        metadata = meta_v1_pb2.ObjectMeta()
        metadata.CopyFrom(self.metadata)
        content: dict[str, Any] = orjson.loads(orjson.dumps(self.content))
        return CustomObject(content, metadata)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; shares its parts with the object."""
        return {**self.content, "metadata": codec.to_dict(self.metadata)}

    def to_json(self) -> bytes:
        """As Kubernetes writes it: keys in order."""
        raw: bytes = orjson.dumps(self.to_dict(), option=orjson.OPT_SORT_KEYS)
        return raw

    def __eq__(self, other: object) -> bool:
        # Not ==: to Python True equals 1, to JSON it doesn't.
        return isinstance(other, CustomObject) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]


def with_go_numbers(value: Any, depth: int = 0) -> Any:
    """The value with numbers as Go's decoder leaves and writes them again: 2.0 becomes 2. In place.

    Raises codec.DecodeError for one that is nested too deep.
    """
    if depth > MAX_DEPTH:
        raise codec.DecodeError(["json: exceeded max depth"])
    if type(value) is float:
        return int(value) if value.is_integer() and -_EXACT < value < _EXACT else value
    if type(value) is dict:
        for key, item in value.items():
            if type(item) in (float, dict, list):
                value[key] = with_go_numbers(item, depth + 1)
    elif type(value) is list:
        for index, item in enumerate(value):
            if type(item) in (float, dict, list):
                value[index] = with_go_numbers(item, depth + 1)
    return value
