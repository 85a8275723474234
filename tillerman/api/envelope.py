"""The envelope of stored objects: the bytes `k8s\\0`, then runtime.Unknown with the object's kind and protobuf bytes.

JSON (custom resources) is stored bare.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tillerman.pb.k8s import runtime_pb2

MAGIC: Final = b"k8s\0"
# How Kubernetes begins what it has encrypted; the provider and its key follow.
ENCRYPTED: Final = b"k8s:enc:"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
JSON: Final = "application/json"
# Go writes contentEncoding and contentType even when they are empty.
TAIL: Final = b"\x1a\x00\x22\x00"


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """What an envelope held: `raw` is protobuf, or JSON when content_type says so."""

    api_version: str
    kind: str
    raw: bytes
    content_type: str


def wrap(api_version: str, kind: str, raw: bytes) -> bytes:
    """Puts an object's protobuf bytes into the envelope, byte for byte as Kubernetes writes it."""
    return b"".join((prefix(api_version, kind), b"\x12", varint(len(raw)), raw, TAIL))


@lru_cache(1024)
def prefix(api_version: str, kind: str) -> bytes:
    """Everything before the raw field, the same for every object of a kind."""
    type_meta = length_delimited(1, api_version.encode()) + length_delimited(2, kind.encode())
    return MAGIC + length_delimited(1, type_meta)


def unwrap(value: bytes) -> Unwrapped:
    """Opens an envelope. Raises ValueError when the value is neither an envelope nor a JSON object."""
    if not value.startswith(MAGIC):
        if value.lstrip()[:1] == b"{":
            return Unwrapped("", "", value, JSON)
        if value.startswith(ENCRYPTED):
            how = value[:60].decode(errors="replace").rpartition(":")[0]
            raise ValueError(f"the stored value is encrypted ({how})")
        raise ValueError("the stored value is neither Kubernetes protobuf nor JSON")
    unknown = runtime_pb2.Unknown.FromString(value[len(MAGIC) :])
    meta = unknown.typeMeta
    return Unwrapped(meta.apiVersion, meta.kind, unknown.raw, unknown.contentType or PROTOBUF)


def length_delimited(number: int, value: bytes) -> bytes:
    """A bytes field on the wire; `number` below 16."""
    return bytes((number << 3 | 2,)) + varint(len(value)) + value


def varint(number: int) -> bytes:
    """A number as protobuf writes it; not negative."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def split_metadata(raw: bytes) -> tuple[bytes, bytes] | None:
    """(metadata's bytes, all that follows) of an object's protobuf bytes that begin with its metadata."""
    if not raw.startswith(b"\x0a"):
        return None
    try:
        size, start = read_varint(raw, 1)
    except IndexError:
        return None
    return (raw[start : start + size], raw[start + size :]) if start + size <= len(raw) else None


def read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """(the number at a position, the position after it). Raises IndexError when it is cut off."""
    number = shift = 0
    while True:
        byte = raw[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
