"""A served resource: its facts, its cache, and how its objects are decoded, encoded, defaulted and validated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.apiserver import strategy
from services.apiserver.cache.entry import Entry, Framer, ProtoFramer
from services.apiserver.cache.fields import extractor
from services.apiserver.cache.hub import CacheHub
from services.apiserver.cache.resource import ResourceCache
from tillerman.api import codec, envelope
from tillerman.api.scheme import ResourceInfo
from tillerman.api.status import Cause

# Resources whose delete answers with the object rather than with a Status.
OWN_DELETED = frozenset(
    {
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
        raw: bytes = obj.SerializeToString()
        return raw

    def store_value(self, raw: bytes) -> bytes:
        return envelope.wrap(self.info.api_version, self.info.kind, raw)

    def entry(self, key: str, raw: bytes, revision: int) -> Entry:
        return Entry(self.framer, key, raw, revision)

    def from_pair(self, pair: Any) -> Entry:
        """An Entry from etcd's key-value pair."""
        return Entry(self.framer, pair.key.decode(), self.framer.raw(pair.value), pair.mod_revision)

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

    def default(self, obj: Any) -> None:
        strategy.default(obj)

    def prepare_for_create(self, obj: Any) -> None:
        strategy.prepare_for_create(obj)

    def prepare_for_update(self, new: Any, old: Any, subresource: str) -> None:
        strategy.prepare_for_update(new, old, subresource)

    def validate_create(self, obj: Any) -> list[Cause]:
        return strategy.validate_create(obj)

    def validate_update(self, new: Any, old: Any, subresource: str) -> list[Cause]:
        return strategy.validate_update(new, old, subresource)

    def allows_unconditional_update(self, obj: Any) -> bool:
        return strategy.allows_unconditional_update(obj)

    def allows_create_on_update(self, obj: Any) -> bool:
        return strategy.allows_create_on_update(obj)
