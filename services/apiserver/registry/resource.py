"""A served resource: its facts, its cache, and how its objects are decoded, encoded, defaulted and validated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.apiserver import strategy
from services.apiserver.cache.entry import Entry, Framer, ProtoFramer
from services.apiserver.cache.fields import extractor, matcher, resolve
from services.apiserver.cache.hub import CacheHub
from services.apiserver.cache.resource import ResourceCache
from services.apiserver.cache.undecodable import Undecodable
from services.apiserver.patch.apply import type_of
from services.apiserver.patch.field_types import FieldType
from services.apiserver.registry import scale
from services.apiserver.registry.context import Context
from services.apiserver.registry.decoding import decode
from services.apiserver.strategy.alike import Content
from services.apiserver.strategy.equality import semantically_equal
from tillerman.api import codec, envelope
from tillerman.api.scheme import ResourceInfo
from tillerman.api.selectors import FieldSelector
from tillerman.api.status import Cause, StatusError, internal
from tillerman.pb.k8s import autoscaling_v1_pb2

# Resources whose delete answers with the object rather than with a Status.
OWN_DELETED = frozenset(
    {
        "namespaces",
        "pods",
        "podtemplates",
        "resourcequotas",
        "serviceaccounts",
        "persistentvolumeclaims",
        "persistentvolumes",
        "storageclasses",
        "csidrivers",
        "csinodes",
        "volumeattachments",
    }
)
# Kubernetes serves these from servers of their own, which store JSON.
STORED_AS_JSON = frozenset({"customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io"})
OWN_DELETED_GROUPS = frozenset({"", "storage.k8s.io"})


class Resource:
    """One row of the scheme with its cache. Objects are protobuf messages; custom resources subclass this."""

    custom = False

    def __init__(self, info: ResourceInfo, hub: CacheHub) -> None:
        self.info = info
        self.group = info.group
        self.name = info.resource
        self.namespaced = info.namespaced
        self.prefix = info.etcd_prefix or ""
        self.group_kind = info.group_kind
        self.extract = extractor(info.api_version, info.resource)
        self.framer = self._make_framer()
        self.cache: ResourceCache = hub.add(self.prefix, self.framer, node_of=self._node_of())
        self._tail = b"\x1a\x00\x22\x00"

    def _make_framer(self) -> Framer:
        info = self.info
        return ProtoFramer(info.message, info.type_url, info.api_version, info.kind)

    def _node_of(self) -> Callable[[Entry], str] | None:
        if (self.group, self.name) != ("", "pods"):
            return None
        return lambda entry: entry.fields(self.extract)["spec.nodeName"]

    def key(self, namespace: str, name: str) -> str:
        return f"{self.prefix}{namespace}/{name}" if self.namespaced else self.prefix + name

    def range_prefix(self, namespace: str) -> str:
        return f"{self.prefix}{namespace}/" if self.namespaced and namespace else self.prefix

    # -- bytes -----------------------------------------------------------------------------------------------------

    def encode(self, obj: Any) -> bytes:
        """The object's bytes as stored; ``obj`` has no resourceVersion."""
        # Maps in the order of their keys, as Kubernetes writes them.
        raw: bytes = obj.SerializeToString(deterministic=True)
        return raw

    def store_value(self, raw: bytes) -> bytes:
        if self.info.group_resource in STORED_AS_JSON:
            kind = (self.info.api_version, self.info.kind)
            return codec.to_json(self.info.message.FromString(raw), kind=kind) + b"\n"
        return envelope.wrap(self.info.api_version, self.info.kind, raw)

    def entry(self, key: str, raw: bytes, revision: int) -> Entry:
        return Entry(self.framer, key, raw, revision)

    def written(self, key: str, raw: bytes, revision: int) -> Entry:
        """The entry of what has just been written."""
        return self.cache.written(key, raw, revision)

    def from_pair(self, pair: Any) -> Entry:
        """An Entry from etcd's key-value pair. Raises InternalError for a value that cannot be decoded."""
        key = pair.key.decode()
        try:
            return Entry(self.framer, key, self.framer.raw(pair.value), pair.mod_revision)
        except Undecodable as error:
            raise undecodable(key, str(error)) from error

    def readable(self, pair: Any) -> Entry | None:
        """The same; None for a value that cannot be decoded."""
        try:
            return Entry(self.framer, pair.key.decode(), self.framer.raw(pair.value), pair.mod_revision)
        except (Undecodable, UnicodeDecodeError):
            return None

    async def encoded(self, obj: Any) -> bytes:
        """As ``encode``, in the version that is stored. Raises StatusError."""
        return self.encode(obj)

    async def load(self, entry: Entry) -> Any:
        """The object of a stored entry, in this resource's version; the caller owns it. Raises StatusError."""
        return entry.message()

    async def served(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Stored entries as they are answered. Raises StatusError."""
        return entries

    # -- requests --------------------------------------------------------------------------------------------------

    def check_request(self, verb: str, namespace: str, name: str, subresource: str) -> None:
        """Raises StatusError for what cannot be asked of the resource as a whole."""

    def resolve_fields(self, selector: FieldSelector) -> FieldSelector:
        """The selector by the stored object's fields. Raises BadRequest for a field that cannot be selected on."""
        return resolve(selector, self.info.api_version, self.name)

    def field_test(self, selector: FieldSelector) -> Callable[[Entry], bool]:
        return matcher(selector, self.extract)

    # -- rules -----------------------------------------------------------------------------------------------------

    def new(self) -> Any:
        return self.info.message()

    def copy(self, obj: Any) -> Any:
        copy = type(obj)()
        copy.CopyFrom(obj)
        return copy

    def to_dict(self, obj: Any) -> dict[str, Any]:
        """The JSON form."""
        return codec.to_dict(obj, kind=(self.info.api_version, self.info.kind))

    def from_dict(self, content: dict[str, Any]) -> Any:
        """The object of a JSON form. Raises codec.DecodeError."""
        return codec.from_dict(content, self.info.message)

    def same(self, new: Any, old: Any) -> bool:
        """Whether there is nothing to write."""
        return semantically_equal(new, old)

    def patched(self, content: dict[str, Any], context: Context) -> Any:
        """The object of a patched JSON form. Raises Invalid, BadRequest; fills ``context.warnings``."""
        return decode(self.info.message, content, context)

    @property
    def field_types(self) -> FieldType:
        """How server-side apply sees the objects."""
        return type_of(self.info.api_version, self.info.kind)

    def scale_of(self, obj: Any) -> autoscaling_v1_pb2.Scale:
        """The scale subresource. Raises StatusError."""
        return scale.scale_of(obj)

    def check_scale(self, obj: Any) -> None:
        """Raises StatusError for an object without replicas to show."""

    def set_replicas(self, obj: Any, replicas: int) -> None:
        obj.spec.replicas = replicas

    def other_versions(self) -> list[str]:
        """Other API versions that a resource converts to by rules of its own."""
        return []

    async def to_version(self, obj: Any, api_version: str) -> dict[str, Any]:
        """The JSON form in one of `other_versions`. Raises StatusError."""
        raise LookupError(api_version)

    async def from_version(self, content: dict[str, Any]) -> Any:
        """The object of a JSON form in one of `other_versions`. Raises codec.DecodeError, StatusError."""
        raise LookupError(content.get("apiVersion"))

    def default(self, obj: Any) -> None:
        strategy.default(obj)

    def prepare_for_create(self, obj: Any) -> Content | None:
        """In place; what it returns is for ``validate_create``, if nothing changes the object in between."""
        return strategy.prepare_for_create(obj)

    def prepare_for_update(self, new: Any, old: Any, subresource: str) -> None:
        strategy.prepare_for_update(new, old, subresource)

    def validate_name(self, name: str) -> list[Cause]:
        """The part of ``validate_create`` that is about what tells alike objects apart."""
        return strategy.validate_name(self.info.message, name)

    def validate_create(self, obj: Any, prepared: Content | None = None) -> list[Cause]:
        return strategy.validate_create(obj, prepared)

    def validate_update(self, new: Any, old: Any, subresource: str) -> list[Cause]:
        return strategy.validate_update(new, old, subresource)

    def allows_unconditional_update(self, obj: Any) -> bool:
        return strategy.allows_unconditional_update(obj)

    def demands_version(self, obj: Any) -> bool:
        return strategy.demands_version(obj)

    def allows_create_on_update(self, obj: Any) -> bool:
        return strategy.allows_create_on_update(obj)


def undecodable(key: str, cause: str) -> StatusError:
    """For whoever asks for an object whose stored value is none."""
    return internal(f'unable to decode "{key}": {cause}')
