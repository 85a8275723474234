"""Every verb on one resource: ResourceClient[T], over an Encoding of T.

T is a protobuf message for the built-in kinds, a dict for custom resources (see dynamic.py). Every method raises
tillerman.api.status.StatusError when the API server refuses, and when it cannot be reached.
"""

import builtins
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from tillerman.client import trace
from tillerman.client.calls import Caller, translated_errors
from tillerman.pb.api import objects_pb2 as pb
from tillerman.pb.k8s import meta_v1_pb2 as meta_v1

T = TypeVar("T")

PATCH_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}

Patch = dict[str, Any] | list[Any] | bytes | str


class Identity(NamedTuple):
    """What a client must know of an object, whatever its form."""

    namespace: str
    name: str
    uid: str
    resource_version: str

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Encoding(Protocol[T]):
    """How objects of one resource travel."""

    def encode(self, obj: T) -> AnyMessage: ...

    def decode(self, value: AnyMessage) -> T: ...

    def identity(self, obj: T) -> Identity: ...


@dataclass(slots=True)
class ListResult(Generic[T]):
    """`continue_token` is empty on the last page; `resource_version` is where a watch goes on."""

    items: list[T]
    resource_version: str
    continue_token: str = ""
    remaining: int | None = None


@dataclass(slots=True)
class WatchEvent(Generic[T]):
    """type: "ADDED", "MODIFIED", "DELETED", or "BOOKMARK" (only the resource version of `object` is set)."""

    type: str
    object: T
    resource_version: str


class ResourceClient(Generic[T]):
    """A namespaced resource without a namespace means "default" where one object is named, all namespaces for list,
    watch and delete_collection."""

    def __init__(
        self, caller: Caller, *, api_version: str, resource: str, namespaced: bool, encoding: Encoding[T]
    ) -> None:
        self.api_version = api_version
        self.resource = resource
        self.namespaced = namespaced
        self.encoding = encoding
        self._caller = caller

    async def get(
        self, name: str, namespace: str | None = None, *, resource_version: str = "", subresource: str = ""
    ) -> T:
        """resource_version "" reads the newest, "0" whatever the API server's cache holds."""
        request = pb.GetRequest(target=self._one(name, namespace, subresource), resource_version=resource_version)
        return self._decode(await self._unary("Get", request))

    async def list(
        self,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
        resource_version_match: str = "",
    ) -> ListResult[T]:
        """One page. Raises StatusError with reason Expired when the continue token is too old."""
        request = pb.ListRequest(
            target=self._many(namespace),
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            continue_token=continue_token,
            resource_version=resource_version,
            resource_version_match=resource_version_match,
        )
        response = await self._unary("List", request)
        remaining = response.remaining_item_count if response.HasField("remaining_item_count") else None
        decode = self.encoding.decode
        items = [decode(item) for item in response.items]
        return ListResult(items, response.resource_version, response.continue_token, remaining)

    async def watch(
        self,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        allow_bookmarks: bool = True,
        send_initial_events: bool = False,
        timeout_seconds: int = 0,
    ) -> AsyncIterator[WatchEvent[T]]:
        """Events after resource_version, until the server ends the stream. Raises reason Expired: then list again."""
        batches = self.watch_batches(
            namespace,
            resource_version=resource_version,
            label_selector=label_selector,
            field_selector=field_selector,
            allow_bookmarks=allow_bookmarks,
            send_initial_events=send_initial_events,
            timeout_seconds=timeout_seconds,
        )
        try:
            async for batch in batches:
                for event in batch:
                    yield event
        finally:
            await batches.aclose()

    async def watch_batches(
        self,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        allow_bookmarks: bool = True,
        send_initial_events: bool = False,
        timeout_seconds: int = 0,
    ) -> AsyncGenerator[Sequence[WatchEvent[T]], None]:
        """As `watch`, but the events as they came together: those of one revision are never torn apart."""
        request = pb.WatchRequest(
            target=self._many(namespace),
            label_selector=label_selector,
            field_selector=field_selector,
            resource_version=resource_version,
            allow_bookmarks=allow_bookmarks,
            send_initial_events=send_initial_events,
            timeout_seconds=timeout_seconds,
        )
        names = _EVENT_TYPES
        decode, identity = self.encoding.decode, self.encoding.identity
        call = self._caller.stub.Watch(
            request, metadata=trace.metadata(), wait_for_ready=self._caller.wait_for_ready or None
        )
        try:
            with translated_errors:
                async for response in call:
                    batch = []
                    for event in response.events:
                        obj = decode(event.object)
                        batch.append(WatchEvent(names[event.type], obj, identity(obj).resource_version))
                    yield batch
        finally:
            call.cancel()

    async def create(
        self, obj: T, namespace: str | None = None, *, dry_run: bool = False, field_manager: str = "",
        field_validation: str = "",
    ) -> T:  # fmt: skip
        """Returns the object as stored. `namespace` only matters when the object names none."""
        identity = self.encoding.identity(obj)
        request = pb.CreateRequest(
            target=self._one(identity.name, identity.namespace or namespace),
            object=self.encoding.encode(obj),
            dry_run=dry_run,
            field_manager=field_manager or self._caller.field_manager,
            field_validation=field_validation,
        )
        return self._decode(await self._unary("Create", request))

    async def update(
        self, obj: T, *, subresource: str = "", dry_run: bool = False, field_manager: str = "",
        field_validation: str = "",
    ) -> T:  # fmt: skip
        """Raises reason Conflict when metadata.resourceVersion is set and stale."""
        identity = self.encoding.identity(obj)
        request = pb.UpdateRequest(
            target=self._one(identity.name, identity.namespace, subresource),
            object=self.encoding.encode(obj),
            dry_run=dry_run,
            field_manager=field_manager or self._caller.field_manager,
            field_validation=field_validation,
        )
        return self._decode(await self._unary("Update", request))

    async def update_status(self, obj: T) -> T:
        return await self.update(obj, subresource="status")

    async def patch(
        self,
        name: str,
        namespace: str | None,
        patch: Patch,
        *,
        type: str = "merge",
        subresource: str = "",
        dry_run: bool = False,
        field_manager: str = "",
        field_validation: str = "",
        force: bool = False,
    ) -> T:
        """type: "merge", "strategic", "json" (operations), "apply" (the whole intent; needs field_manager)."""
        request = pb.PatchRequest(
            target=self._one(name, namespace, subresource),
            patch_type=PATCH_TYPES[type],
            patch=patch_bytes(patch),
            dry_run=dry_run,
            field_manager=field_manager or self._caller.field_manager,
            field_validation=field_validation,
            force=force,
        )
        return self._decode(await self._unary("Patch", request))

    async def delete(
        self,
        name: str,
        namespace: str | None = None,
        *,
        grace_period_seconds: int | None = None,
        propagation_policy: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        dry_run: bool = False,
    ) -> T | None:
        """Returns the object as it was last, or as it waits for its grace period or finalizers; None if the server
        answers with a bare Status."""
        options = delete_options(
            grace_period_seconds=grace_period_seconds,
            propagation_policy=propagation_policy,
            uid=uid,
            resource_version=resource_version,
            dry_run=dry_run,
        )
        request = pb.DeleteRequest(target=self._one(name, namespace), options=options)
        response = await self._unary("Delete", request)
        if not response.object.type_url or response.object.type_url.endswith(".Status"):
            return None
        return self._decode(response)

    async def delete_collection(
        self,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        grace_period_seconds: int | None = None,
        propagation_policy: str | None = None,
    ) -> builtins.list[T]:
        request = pb.DeleteCollectionRequest(
            target=self._many(namespace),
            label_selector=label_selector,
            field_selector=field_selector,
            options=delete_options(grace_period_seconds=grace_period_seconds, propagation_policy=propagation_policy),
        )
        response = await self._unary("DeleteCollection", request)
        return [self.encoding.decode(item) for item in response.items]

    async def subresource_get(self, name: str, namespace: str | None, subresource: str) -> Message:
        """The subresource's own object: "scale" gives an autoscaling/v1 Scale."""
        request = pb.GetRequest(target=self._one(name, namespace, subresource))
        return _unpack(await self._unary("Get", request))

    async def subresource_create(
        self, name: str, namespace: str | None, subresource: str, obj: Message, *, dry_run: bool = False
    ) -> Message:
        """Posts to "binding", "eviction", "token", …"""
        request = pb.CreateRequest(target=self._one(name, namespace, subresource), object=pack(obj), dry_run=dry_run)
        return _unpack(await self._unary("Create", request))

    async def subresource_update(self, name: str, namespace: str | None, subresource: str, obj: Message) -> Message:
        """Puts "scale", "approval", "finalize", "ephemeralcontainers", …"""
        request = pb.UpdateRequest(
            target=self._one(name, namespace, subresource), object=pack(obj), field_manager=self._caller.field_manager
        )
        return _unpack(await self._unary("Update", request))

    async def _unary(self, method: str, request: Any) -> Any:
        return await self._caller.unary(method, self.resource, request)

    def _one(self, name: str, namespace: str | None, subresource: str = "") -> pb.Target:
        return pb.Target(
            api_version=self.api_version,
            resource=self.resource,
            namespace=(namespace or "default") if self.namespaced else "",
            name=name,
            subresource=subresource,
        )

    def _many(self, namespace: str | None) -> pb.Target:
        return pb.Target(
            api_version=self.api_version,
            resource=self.resource,
            namespace=(namespace or "") if self.namespaced else "",
        )

    def _decode(self, response: pb.ObjectResponse) -> T:
        return self.encoding.decode(response.object)


_EVENT_TYPES = {number: name for name, number in pb.WatchEvent.Type.items()}


def pack(obj: Message) -> AnyMessage:
    return AnyMessage(type_url=f"type.googleapis.com/{obj.DESCRIPTOR.full_name}", value=obj.SerializeToString())


def _unpack(response: pb.ObjectResponse) -> Message:
    from tillerman.api.meta import unpack_any

    return unpack_any(response.object)


def patch_bytes(patch: Patch) -> bytes:
    if isinstance(patch, bytes):
        return patch
    if isinstance(patch, str):
        return patch.encode()
    import orjson

    return orjson.dumps(patch)


def delete_options(
    *,
    grace_period_seconds: int | None = None,
    propagation_policy: str | None = None,
    uid: str | None = None,
    resource_version: str | None = None,
    dry_run: bool = False,
) -> meta_v1.DeleteOptions:
    """propagation_policy: "Background", "Foreground" or "Orphan"; uid and resource_version are preconditions."""
    options = meta_v1.DeleteOptions()
    if grace_period_seconds is not None:
        options.gracePeriodSeconds = grace_period_seconds
    if propagation_policy is not None:
        options.propagationPolicy = propagation_policy
    if uid is not None:
        options.preconditions.uid = uid
    if resource_version is not None:
        options.preconditions.resourceVersion = resource_version
    if dry_run:
        options.dryRun.append("All")
    return options
