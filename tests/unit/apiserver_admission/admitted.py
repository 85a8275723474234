"""Plugins over caches that are filled by hand."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from services.apiserver.admission.chain import CREATE, Attributes
from services.apiserver.cache.hub import CacheHub
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.context import Context, User
from tillerman.api import codec
from tillerman.api.scheme import SCHEME
from tillerman.pb.k8s import core_v1_pb2 as core


class Shelf:
    """A catalog whose caches hold what is put there; as a reader it finds nothing more."""

    def __init__(self) -> None:
        self.catalog = Catalog(CacheHub())
        self._revision = 0

    def put(self, api_version: str, kind: str, name: str, namespace: str = "", /, **content: Any) -> Any:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **content.pop("metadata", {})}
        body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}
        obj: Any = codec.from_dict(body)
        info = SCHEME.by_kind(api_version, kind)
        resource = self.catalog.get(api_version, info.resource)
        self._revision += 1
        key = resource.key(namespace, name)
        resource.cache.apply(key, resource.store_value(resource.encode(obj)), self._revision)
        return obj

    async def fresh(self, resource: Any, key: str) -> Any:
        return resource.cache.entries.get(key)

    def attributes(
        self,
        obj: Any,
        operation: str = CREATE,
        *,
        old: Any = None,
        subresource: str = "",
        user: User | None = None,
        of: Message | None = None,
    ) -> Attributes:
        """``of``: an object of the resource, where ``obj`` is of another kind."""
        info = SCHEME.by_message(of or (obj if obj is not None else old))
        meta = (obj if obj is not None else old).metadata
        return Attributes(
            operation,
            self.catalog.get(info.api_version, info.resource),
            "space" if info.namespaced else "",
            meta.name,
            subresource,
            obj,
            old,
            Context(user or User("alice", ("system:authenticated",))),
        )


def pod(name: str = "p", /, **spec: Any) -> core.Pod:
    content = {"containers": [{"name": "c", "image": "i"}], **spec}
    metadata = {"name": name, "namespace": "space"}
    found = codec.from_dict({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": content})
    assert isinstance(found, core.Pod)
    return found
