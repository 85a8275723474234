"""What creating an object came to, remembered for objects that differ in nothing but their names.

`strategy.alike` remembers what single rules make of alike objects. Here it is all of them together, and admission, told
by the request's bytes: while nothing that a plugin goes by has changed, the next of a Deployment's pods comes to the
same bytes under another name, so it is not even decoded; only its metadata is made. Remembered is what was stored: what
is refused, charged to a quota or shown to a webhook takes the whole way every time.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from services.apiserver.admission.chain import CREATE, Attributes, Chain
from services.apiserver.cache.resource import ResourceCache
from services.apiserver.registry import managed
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.context import Context
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.uids import new_uid
from services.apiserver.strategy.alike import CONTENT_BYTES, clear_own
from tillerman.api import times
from tillerman.api.envelope import length_delimited, split_metadata
from tillerman.pb.k8s import meta_v1_pb2

# Of all namespaces together. The oldest give way.
KEPT = 512


@dataclass(frozen=True, slots=True)
class Creation:
    """What was stored. ``rules``: the state of what admission went by. ``metadata``: all of it that is not the
    object's own; ``record``: its entry in managedFields, empty for none; ``rest``: the bytes after metadata.
    """

    rules: int
    metadata: bytes
    record: bytes
    rest: bytes

    def under(self, namespace: str, name: str) -> bytes:
        """A new object's bytes as stored."""
        meta = meta_v1_pb2.ObjectMeta.FromString(self.metadata)
        meta.name, meta.namespace, meta.uid = name, namespace, new_uid()
        now = times.now()
        meta.creationTimestamp.CopyFrom(now)
        if self.record:
            entry = meta.managedFields.add()
            entry.MergeFromString(self.record)
            entry.time.CopyFrom(now)
        return length_delimited(1, meta.SerializeToString(deterministic=True)) + self.rest


@dataclass(slots=True)
class Likeness:
    """What a request has in common with others. ``metadata``: the object's, as it came; ``known``: what another such
    request came to, under the same rules.
    """

    key: Hashable
    rules: int
    metadata: bytes
    name: str
    generate_name: str
    known: Creation | None


class Creations:
    def __init__(self, catalog: Catalog, admission: Chain) -> None:
        self._catalog = catalog
        self._admission = admission
        self._kept: dict[Hashable, Creation] = {}
        # By resource: what admission goes by; None where that cannot be told.
        self._caches: dict[Resource, tuple[ResourceCache, ...] | None] = {}

    def likeness(self, resource: Resource, namespace: str, raw: bytes, context: Context) -> Likeness | None:
        """Of a creation of the object with these bytes, of a kind that comes alike; None for what is not remembered."""
        if context.dry_run or len(raw) > CONTENT_BYTES:
            return None
        caches = self._goes_by(resource)
        parts = split_metadata(raw)
        # What is no UTF-8 is found out by decoding.
        if caches is None or parts is None or not parts[0].isascii():
            return None
        try:
            meta = meta_v1_pb2.ObjectMeta.FromString(parts[0])
        except DecodeError:
            return None
        if meta.resourceVersion or meta.managedFields or meta.namespace not in ("", namespace):
            return None
        name = meta.name
        clear_own(meta)
        content = meta.SerializeToString(deterministic=True)
        manager = managed.manager_of(context) if managed.begins_record(context) else None
        key = (parts[1], content, resource, namespace, context.user, manager)
        rules = sum([cache.changed for cache in caches])
        known = self._kept.get(key)
        if known is not None and known.rules != rules:
            known = None
        return Likeness(key, rules, parts[0], name, meta.generateName, known)

    def remember(self, likeness: Likeness, attributes: Attributes) -> None:
        """After the object has been stored. Nothing is kept of what the next such request has to go through again."""
        if not attributes.repeatable or attributes.context.warnings:
            return
        rest = attributes.resource.copy(attributes.obj)
        meta = meta_v1_pb2.ObjectMeta()
        meta.CopyFrom(rest.metadata)
        record = meta.managedFields[0].SerializeToString() if meta.managedFields else b""
        clear_own(meta)
        rest.ClearField("metadata")
        if len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[likeness.key] = Creation(
            likeness.rules,
            meta.SerializeToString(deterministic=True),
            record,
            rest.SerializeToString(deterministic=True),
        )

    def _goes_by(self, resource: Resource) -> tuple[ResourceCache, ...] | None:
        if resource not in self._caches:
            names = self._admission.reads(CREATE, resource, "")
            found = None if names is None else tuple(self._catalog.get(*name).cache for name in sorted(names))
            self._caches[resource] = found
        return self._caches[resource]


def tells_all(likeness: Likeness, meta: Any) -> bool:
    """Whether a decoded object's metadata is what its first bytes say: a later field may say something else."""
    said = meta_v1_pb2.ObjectMeta.FromString(likeness.metadata)
    said.namespace = meta.namespace
    said.DiscardUnknownFields()
    return bool(said == meta)
