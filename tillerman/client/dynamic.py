"""Objects as dicts in their JSON form: custom resources, and callers that don't know the kind beforehand (the CLI)."""

from typing import Any

import orjson
from google.protobuf.any_pb2 import Any as AnyMessage

from tillerman.client.resource import Identity, ResourceClient, pack
from tillerman.pb.k8s import runtime_pb2 as runtime

Object = dict[str, Any]

_UNKNOWN = runtime.Unknown.DESCRIPTOR.full_name


class JsonEncoding:
    """Sends JSON in runtime.Unknown; takes that, or any built-in kind's protobuf."""

    __slots__ = ()

    def encode(self, obj: Object) -> AnyMessage:
        unknown = runtime.Unknown(raw=orjson.dumps(obj), contentType="application/json")
        unknown.typeMeta.apiVersion = str(obj.get("apiVersion", ""))
        unknown.typeMeta.kind = str(obj.get("kind", ""))
        return pack(unknown)

    def decode(self, value: AnyMessage) -> Object:
        if value.type_url.endswith(_UNKNOWN):
            unknown = runtime.Unknown.FromString(value.value)
            obj: Object = orjson.loads(unknown.raw)
            return obj
        from tillerman.api.codec import to_dict
        from tillerman.api.meta import unpack_any
        from tillerman.api.scheme import SCHEME

        message = unpack_any(value)
        decoded: Object = to_dict(message, kind=SCHEME.kind_of(message))
        return decoded

    def identity(self, obj: Object) -> Identity:
        meta = obj.get("metadata") or {}
        return Identity(
            meta.get("namespace", ""), meta.get("name", ""), meta.get("uid", ""), meta.get("resourceVersion", "")
        )


class DynamicClient(ResourceClient[Object]):
    """ResourceClient over dicts. Objects that it sends are checked by name: an unknown field can be refused."""
