"""What all objects share: keys, owners, conditions, and the Any they travel in."""

from collections.abc import Iterable
from typing import Any as Anything
from typing import Protocol, TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from tillerman.pb.k8s import meta_v1_pb2 as meta

TYPE_PREFIX = "type.googleapis.com/"


class Object(Protocol):
    @property
    def metadata(self) -> meta.ObjectMeta: ...


class Condition(Protocol):
    type: str
    status: str


C = TypeVar("C", bound=Condition)


def key_of(obj: Object) -> str:
    """ "namespace/name", or "name" of a cluster-wide object."""
    metadata = obj.metadata
    return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name); the namespace is "" for a cluster-wide object."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def controller_of(obj: Object) -> meta.OwnerReference | None:
    return next((ref for ref in obj.metadata.ownerReferences if ref.controller), None)


def owner_reference(owner: Message, *, controller: bool = True, block: bool = True) -> meta.OwnerReference:
    from tillerman.api.scheme import SCHEME

    api_version, kind = SCHEME.kind_of(owner)
    metadata: meta.ObjectMeta = owner.metadata  # type: ignore[attr-defined]
    reference = meta.OwnerReference(apiVersion=api_version, kind=kind, name=metadata.name, uid=metadata.uid)
    if controller:
        reference.controller = True
    if block:
        reference.blockOwnerDeletion = True
    return reference


def get_condition(conditions: Iterable[C], kind: str) -> C | None:
    return next((c for c in conditions if c.type == kind), None)


def set_condition(conditions: Anything, new: Anything) -> bool:
    """Puts a condition in, keeping lastTransitionTime while its status stays; True when anything else changed."""
    old = get_condition(conditions, new.type)
    if old is None:
        conditions.append(new)
        return True
    if old.status == new.status and old.HasField("lastTransitionTime"):
        new.lastTransitionTime.CopyFrom(old.lastTransitionTime)
    if (old.status, old.reason, old.message) == (new.status, new.reason, new.message):
        return False
    old.CopyFrom(new)
    return True


def pack_any(obj: Message) -> Any:
    return Any(type_url=TYPE_PREFIX + obj.DESCRIPTOR.full_name, value=obj.SerializeToString())


def unpack_any(packed: Any) -> Message:
    """The typed object. Raises LookupError for a type that is not in the scheme, DecodeError for bad bytes."""
    from tillerman.api.scheme import SCHEME

    return SCHEME.message_type(packed.type_url).FromString(packed.value)
