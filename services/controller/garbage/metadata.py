"""Watches of nothing but metadata: for collection, a Secret's content need not be kept."""

from __future__ import annotations

from typing import Any

import orjson
from google.protobuf.any_pb2 import Any as AnyMessage

from services.controller.garbage.graph import Kind
from tillerman.api.codec import from_dict
from tillerman.client.client import Client
from tillerman.client.clock import Clock
from tillerman.client.informer import Informer
from tillerman.client.resource import Identity, ResourceClient, pack
from tillerman.pb.k8s import meta_v1_pb2 as meta_v1
from tillerman.pb.k8s import runtime_pb2 as runtime


class MetadataEncoding:
    """Any object as PartialObjectMetadata, without managedFields and annotations."""

    def encode(self, obj: meta_v1.PartialObjectMetadata) -> AnyMessage:
        return pack(obj)

    def decode(self, value: AnyMessage) -> meta_v1.PartialObjectMetadata:
        if value.type_url.endswith(".Unknown"):
            content = orjson.loads(runtime.Unknown.FromString(value.value).raw)
            known = {key: item for key, item in content.get("metadata", {}).items() if key in _KEPT}
            partial = from_dict({"metadata": known}, meta_v1.PartialObjectMetadata)
            assert isinstance(partial, meta_v1.PartialObjectMetadata)
            return partial
        partial = meta_v1.PartialObjectMetadata.FromString(value.value)
        # What follows in the bytes (spec, status, data) is unknown to this message, and need not be kept.
        partial.DiscardUnknownFields()
        partial.metadata.ClearField("managedFields")
        partial.metadata.ClearField("annotations")
        return partial

    def identity(self, obj: meta_v1.PartialObjectMetadata) -> Identity:
        meta = obj.metadata
        return Identity(meta.namespace, meta.name, meta.uid, meta.resourceVersion)


_KEPT = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "ownerReferences",
        "finalizers",
        "deletionTimestamp",
        "creationTimestamp",
    }
)


def metadata_resource(client: Client, kind: Kind) -> ResourceClient[meta_v1.PartialObjectMetadata]:
    resource: Any = client.dynamic(kind.api_version, kind.resource, kind.namespaced)
    resource.encoding = MetadataEncoding()
    return resource  # type: ignore[no-any-return]


def metadata_informer(client: Client, kind: Kind, clock: Clock) -> Informer[meta_v1.PartialObjectMetadata]:
    return Informer(metadata_resource(client, kind), clock=clock)
