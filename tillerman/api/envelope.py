"""How Kubernetes wraps an object in etcd and on the wire: `k8s` and a zero byte, then runtime.Unknown."""

from dataclasses import dataclass

from tillerman.pb.k8s import runtime_pb2 as runtime

MAGIC = b"k8s\0"
PROTOBUF, JSON = "application/vnd.kubernetes.protobuf", "application/json"


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """raw is the object's protobuf, or JSON when content_type says so."""

    api_version: str
    kind: str
    raw: bytes
    content_type: str


def wrap(api_version: str, kind: str, raw: bytes) -> bytes:
    return prefix(api_version, kind) + length_delimited(2, raw) + b"\x1a\x00\x22\x00"


def prefix(api_version: str, kind: str) -> bytes:
    """Everything before the raw field, the same for every object of a kind."""
    meta = length_delimited(1, api_version.encode()) + length_delimited(2, kind.encode())
    return MAGIC + length_delimited(1, meta)


def length_delimited(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def unwrap(value: bytes) -> Unwrapped:
    """Takes the JSON of a custom resource too. Raises ValueError for anything else."""
    if value[:1] == b"{":
        return Unwrapped("", "", value, JSON)
    if value[:4] != MAGIC:
        raise ValueError(f"not a Kubernetes object: it begins with {value[:4]!r}")
    unknown = runtime.Unknown.FromString(value[4:])
    return Unwrapped(unknown.typeMeta.apiVersion, unknown.typeMeta.kind, unknown.raw, unknown.contentType)
