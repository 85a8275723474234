"""The encoding of built-in kinds: the message's own bytes."""

from typing import Any, Generic, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from tillerman.client.resource import Identity, pack

M = TypeVar("M", bound=Message)


class TypedEncoding(Generic[M]):
    __slots__ = ("_name", "_type")

    def __init__(self, message_type: type[M]) -> None:
        self._type = message_type
        self._name = message_type.DESCRIPTOR.full_name

    def encode(self, obj: M) -> AnyMessage:
        return pack(obj)

    def decode(self, value: AnyMessage) -> M:
        if not value.type_url.endswith(self._name):
            raise TypeError(f"expected {self._name}, the server sent {value.type_url}")
        return self._type.FromString(value.value)

    def identity(self, obj: M) -> Identity:
        return identity_of(obj)


def identity_of(obj: Any) -> Identity:
    meta = obj.metadata
    return Identity(meta.namespace, meta.name, meta.uid, meta.resourceVersion)
