"""What every object has: keys, owners, conditions, and packing into google.protobuf.Any."""

from collections.abc import Iterable, MutableSequence
from typing import Any, Protocol

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from tillerman.api.scheme import SCHEME, TYPE_URL_PREFIX
from tillerman.pb.k8s import meta_v1_pb2 as meta


class Object(Protocol):
    """Any message with metadata."""

    @property
    def metadata(self) -> meta.ObjectMeta: ...


def key_of(obj: Object) -> str:
    """`namespace/name`, or `name` for cluster-scoped objects."""
    metadata = obj.metadata
    return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name); the namespace is "" for cluster-scoped objects."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def controller_of(obj: Object) -> meta.OwnerReference | None:
    """The owner that manages the object, if any."""
    return next((owner for owner in obj.metadata.ownerReferences if owner.controller), None)


def is_controlled_by(obj: Object, owner: Object) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.uid == owner.metadata.uid


def owner_reference(owner: Any, *, controller: bool = True, block: bool = True) -> meta.OwnerReference:
    """A reference to `owner`; `block` keeps the owner until the dependent is gone under foreground deletion."""
    api_version, kind = SCHEME.kind_of(owner)
    reference = meta.OwnerReference(apiVersion=api_version, kind=kind, name=owner.metadata.name, uid=owner.metadata.uid)
    if controller:
        reference.controller = True
    if block:
        reference.blockOwnerDeletion = True
    return reference


def get_condition(conditions: Iterable[Any], type: str) -> Any | None:
    """The condition of that type, or None."""
    return next((condition for condition in conditions if condition.type == type), None)


def set_condition(conditions: Any, new: Any) -> bool:
    """Puts a condition into a repeated field. While its status stays, lastTransitionTime keeps its old value.

    Returns whether anything but the times changed.
    """
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


def remove_condition(conditions: MutableSequence[Any], type: str) -> bool:
    """Drops the condition of that type. Returns whether there was one."""
    for i, condition in enumerate(conditions):
        if condition.type == type:
            del conditions[i]
            return True
    return False


def pack_any(obj: Message) -> AnyMessage:
    """Any with `type.googleapis.com/<full message name>`."""
    return AnyMessage(type_url=TYPE_URL_PREFIX + obj.DESCRIPTOR.full_name, value=obj.SerializeToString())


def unpack_any(packed: AnyMessage) -> Message:
    """The message in an Any. LookupError when its type is none of the scheme."""
    return SCHEME.message_by_name(packed.type_url.rpartition("/")[2]).FromString(packed.value)
