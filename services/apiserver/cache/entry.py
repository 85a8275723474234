"""A stored object as bytes, encoded once for every reader.

A frame is the protobuf of google.protobuf.Any with its length before it: what follows the tag wherever an Any is a
field of a response. The object's bytes are those in etcd plus a tiny ``metadata{resourceVersion}`` fragment: protobuf
merges repeated occurrences of an embedded message, so nothing is decoded to set the field.
"""

from __future__ import annotations

from sys import intern
from typing import Any, Protocol

import orjson
from google.protobuf.message import DecodeError as ProtoDecodeError

from services.apiserver.cache.undecodable import Undecodable
from services.apiserver.crd.objects import CustomObject
from tillerman.api import codec, envelope
from tillerman.api.envelope import length_delimited, read_varint, varint
from tillerman.api.text import is_text
from tillerman.pb.k8s import meta_v1_pb2, runtime_pb2

UNKNOWN_URL = "type.googleapis.com/k8s.io.apimachinery.pkg.runtime.Unknown"


class Framer(Protocol):
    """How a resource's stored bytes become frames and messages."""

    def frame(self, raw: bytes, revision: int) -> tuple[bytes, int]:
        """(frame, offset of the object's bytes in it) for the object's bytes as stored."""

    def raw(self, value: bytes) -> bytes:
        """The object's bytes from an etcd value, known to make an object. Raises Undecodable."""

    def message(self, entry: Entry) -> Any:
        """A new decoded object that the caller owns."""

    def labels(self, entry: Entry) -> dict[str, str]: ...

    def json(self, entry: Entry) -> bytes: ...

    def stored(self, entry: Entry) -> bytes:
        """Bytes that ``frame`` makes the same object of."""


class ProtoFramer:
    """Objects kept as protobuf. ``api_version`` and ``kind`` head the JSON form."""

    def __init__(self, message: type[Any], type_url: str, api_version: str, kind: str) -> None:
        self._message = message
        self._head = length_delimited(1, type_url.encode())
        self._kind = (api_version, kind)
        self._envelope = envelope.prefix(api_version, kind) + b"\x12"

    def frame(self, raw: bytes, revision: int) -> tuple[bytes, int]:
        tail = revision_fragment(revision)
        size = len(raw) + len(tail)
        head = self._head + b"\x12" + varint(size)
        total = varint(len(head) + size)
        return b"".join((total, head, raw, tail)), len(total) + len(head)

    def raw(self, value: bytes) -> bytes:
        try:
            raw = self._unwrapped(value)
            # The cheaper question says nothing of bytes that are all ASCII.
            if raw.isascii() or not is_text(raw, self._message):
                codec.from_protobuf(raw, self._message)
        except (ValueError, IndexError, RecursionError, ProtoDecodeError, codec.DecodeError) as error:
            raise Undecodable(str(error)) from error
        return raw

    def _unwrapped(self, value: bytes) -> bytes:
        if value.startswith(self._envelope) and value.endswith(envelope.TAIL):
            size, start = read_varint(value, len(self._envelope))
            if start + size + len(envelope.TAIL) == len(value):
                return value[start : start + size]
        # Written by something else than a kube-apiserver: valid all the same.
        found = envelope.unwrap(value)
        if found.content_type != envelope.JSON:
            if found.kind != self._kind[1]:
                raise ValueError(f'the stored value is of kind "{found.kind}", not of {self._kind[1]}')
            return found.raw
        raw: bytes = codec.from_json(found.raw, self._message).SerializeToString(deterministic=True)
        return raw

    def message(self, entry: Entry) -> Any:
        return self._message.FromString(entry.value)

    def labels(self, entry: Entry) -> dict[str, str]:
        meta = meta_v1_pb2.PartialObjectMetadata.FromString(entry.value).metadata
        return {intern(name): intern(value) for name, value in meta.labels.items()}

    def json(self, entry: Entry) -> bytes:
        return orjson.dumps(codec.to_dict(self.message(entry), kind=self._kind))

    def stored(self, entry: Entry) -> bytes:
        return entry.value


class JsonFramer:
    """Custom resources: JSON in etcd, runtime.Unknown on the wire; its messages are CustomObjects."""

    _head = length_delimited(1, UNKNOWN_URL.encode())

    def frame(self, raw: bytes, revision: int) -> tuple[bytes, int]:
        content = orjson.loads(raw)
        if revision:
            content.setdefault("metadata", {})["resourceVersion"] = str(revision)
        encoded = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
        unknown = runtime_pb2.Unknown(raw=encoded, contentType="application/json").SerializeToString()
        head = self._head + b"\x12" + varint(len(unknown))
        total = varint(len(head) + len(unknown))
        return b"".join((total, head, unknown)), len(total) + len(head)

    def raw(self, value: bytes) -> bytes:
        try:
            content = orjson.loads(value)
            if not isinstance(content, dict) or not isinstance(content.get("metadata"), dict):
                raise Undecodable("the stored value is not a JSON object with metadata")
            CustomObject.of(content)
        except (ValueError, RecursionError, codec.DecodeError) as error:
            raise Undecodable(str(error)) from error
        return value

    def message(self, entry: Entry) -> CustomObject:
        return CustomObject.from_json(entry.json)

    def labels(self, entry: Entry) -> dict[str, str]:
        return dict(orjson.loads(entry.json)["metadata"].get("labels") or {})

    def json(self, entry: Entry) -> bytes:
        raw: bytes = runtime_pb2.Unknown.FromString(entry.value).raw
        return raw

    def stored(self, entry: Entry) -> bytes:
        return entry.json


class Entry:
    """One version of one object. Shared by all readers: its bytes never change."""

    __slots__ = ("_fields", "_json", "_labels", "frame", "framer", "key", "revision", "served", "start")

    def __init__(self, framer: Framer, key: str, raw: bytes, revision: int) -> None:
        self.framer = framer
        self.key = key
        self.revision = revision
        self.frame, self.start = framer.frame(raw, revision)
        self._labels: dict[str, str] | None = None
        self._fields: dict[str, str] | None = None
        self._json: bytes | None = None
        # Of a custom resource: (the version that it was last read in, the entry in that version's form).
        self.served: tuple[Any, Entry] | None = None

    @property
    def value(self) -> bytes:
        """The object's bytes, with its resourceVersion."""
        return self.frame[self.start :]

    @property
    def size(self) -> int:
        """Bytes of ``value``."""
        return len(self.frame) - self.start

    def message(self) -> Any:
        """Decoded anew; the caller owns it."""
        return self.framer.message(self)

    def at(self, revision: int) -> Entry:
        """The same object with another resourceVersion."""
        return Entry(self.framer, self.key, self.framer.stored(self), revision)

    @property
    def labels(self) -> dict[str, str]:
        if self._labels is None:
            self._labels = self.framer.labels(self)
        return self._labels

    def fields(self, extract: Any) -> dict[str, str]:
        """The selectable fields, as ``extract(message)`` finds them; kept."""
        if self._fields is None:
            self._fields = extract(self.message())
        return self._fields

    @property
    def json(self) -> bytes:
        if self._json is None:
            self._json = self.framer.json(self)
        return self._json


def revision_fragment(revision: int) -> bytes:
    """``metadata{resourceVersion: "<revision>"}`` as a protobuf fragment of any object; empty for revision 0."""
    if not revision:
        return b""
    text = str(revision).encode()
    return b"\x0a" + bytes([len(text) + 2]) + b"\x32" + bytes([len(text)]) + text
