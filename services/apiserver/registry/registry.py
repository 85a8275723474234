"""The registry: every verb, once. The fronts are thin adapters over it.

Each call authorizes first; all raise StatusError (errors of the store are translated here).
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from google.protobuf.message import Message

from services.apiserver import strategy
from services.apiserver.admission.chain import CONNECT, CREATE, Attributes, Chain
from services.apiserver.cache.changes import WatchEvent
from services.apiserver.cache.entry import Entry
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.context import Context
from services.apiserver.registry.deletion import Deleted, Deleter
from services.apiserver.registry.patching import Patcher
from services.apiserver.registry.reading import ListOptions, ListPage, Reader, Selection, WatchOptions
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.versions import VIEWS
from services.apiserver.registry.writing import Writer, Written
from services.apiserver.storage.errors import (
    NoSpace,
    OutcomeUnknown,
    RequestTooLarge,
    StorageError,
    StorageUnavailable,
)
from tillerman.api.scheme import SCHEME
from tillerman.api.status import (
    StatusError,
    internal,
    make,
    method_not_supported,
    no_such_path,
    request_entity_too_large,
    service_unavailable,
    timeout,
)
from tillerman.pb.k8s import meta_v1_pb2

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about, as objects.proto's Target."""

    api_version: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]


def named(target: Target, field_selector: str) -> Target:
    """The target with the one name that a field selector leaves: who may get an object may watch it."""
    if target.name or "metadata.name=" not in field_selector:
        return target
    for term in field_selector.split(","):
        path, _, name = term.replace("==", "=").partition("=")
        if path == "metadata.name" and name:
            return replace(target, name=name)
    return target


class Authorizer(Protocol):
    """Raises Forbidden unless the user may."""

    async def authorize(self, context: Context, verb: str, target: Target) -> None: ...


class Subresource(Protocol):
    """A subresource that is not the object itself. Verbs that it lacks raise MethodNotAllowed."""

    async def get(self, resource: Resource, target: Target, context: Context) -> Message: ...

    async def create(self, resource: Resource, target: Target, body: Message, context: Context) -> Message: ...

    async def update(self, resource: Resource, target: Target, body: Message, context: Context) -> Message: ...

    async def patch(
        self, resource: Resource, target: Target, patch_type: str, patch: bytes, context: Context
    ) -> Message: ...


class BaseSubresource:
    """Refuses every verb."""

    async def get(self, resource: Resource, target: Target, context: Context) -> Message:
        raise method_not_supported(target.resource, "get", target.group)

    async def create(self, resource: Resource, target: Target, body: Message, context: Context) -> Message:
        raise method_not_supported(target.resource, "create", target.group)

    async def update(self, resource: Resource, target: Target, body: Message, context: Context) -> Message:
        raise method_not_supported(target.resource, "update", target.group)

    async def patch(
        self, resource: Resource, target: Target, patch_type: str, patch: bytes, context: Context
    ) -> Message:
        raise method_not_supported(target.resource, "patch", target.group)


class Virtual(Protocol):
    """A resource without storage (reviews, bindings): only create."""

    async def create(self, target: Target, body: Message, context: Context) -> Message: ...


class Computed(Protocol):
    """A resource without storage whose objects are found out when they are read."""

    warning: str

    async def get(self, name: str) -> Entry: ...

    async def list(self, selection: Selection) -> ListPage: ...


def translated(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """StorageErrors as StatusErrors."""

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except StorageError as error:
            raise status_of(error) from error

    return call


def status_of(error: StorageError) -> StatusError:
    if isinstance(error, StorageUnavailable):
        return service_unavailable(str(error))
    if isinstance(error, OutcomeUnknown):
        return timeout(f"{error}: read it again to see what has become of the request")
    if isinstance(error, RequestTooLarge):
        return request_entity_too_large(f"Request entity too large: {error}")
    if isinstance(error, NoSpace):
        return make(507, "InsufficientStorage", str(error))
    return internal(str(error))


# What can be done with many objects only, never with a subresource of one.
COLLECTION_VERBS = frozenset({"list", "watch", "deletecollection"})
# Subresources through which the object itself is written.
OF_OBJECT = frozenset({"status", "approval", "ephemeralcontainers", "resize"})


class Registry:
    """Serves what is stored, in the version it is stored in; see versioned.py for the others."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        reader: Reader,
        writer: Writer,
        deleter: Deleter,
        patcher: Patcher,
        authorizer: Authorizer,
        admission: Chain,
        subresources: dict[tuple[str, str], Subresource],
        virtual: dict[tuple[str, str], Virtual],
        computed: dict[tuple[str, str], Computed],
    ) -> None:
        self.catalog = catalog
        self.reader = reader
        self.writer = writer
        self.deleter = deleter
        self.authorizer = authorizer
        self._admission = admission
        self._patcher = patcher
        self._subresources = subresources
        self._virtual = virtual
        self._computed = computed

    async def seek(self, target: Target) -> None:
        """Before a request about a resource that this server has not heard of: its definition may be that new."""
        known = self.is_virtual(target.api_version, target.resource) or self.catalog.info(
            target.api_version, target.resource
        )
        if not known and self.catalog.custom(target.api_version, target.resource) is None:
            with contextlib.suppress(StorageError):
                await self.reader.confirm()

    def deprecation(self, target: Target) -> str:
        """What callers of a deprecated resource, or version of a custom one, are told; "" for any other."""
        computed = self._computed.get((target.api_version, target.resource))
        if computed is not None:
            return computed.warning
        custom = self.catalog.custom(target.api_version, target.resource)
        return "" if custom is None else custom.version.warning

    def resource(self, target: Target, verb: str) -> Resource:
        """Raises NotFound or MethodNotAllowed."""
        if self.is_virtual(target.api_version, target.resource):
            raise method_not_supported(target.resource, verb, target.group)
        resource = self.catalog.get(target.api_version, target.resource)
        resource.check_request(verb, target.namespace, target.name, target.subresource)
        served = verb not in COLLECTION_VERBS if target.subresource else verb in resource.info.verbs
        if not served:
            raise method_not_supported(resource.name, verb, resource.group)
        return resource

    async def _authorize(self, context: Context, verb: str, target: Target) -> None:
        if context.asked is not None:
            target = replace(target, api_version=context.asked[0], resource=context.asked[1])
        await self.authorizer.authorize(context, verb, target)

    def is_virtual(self, api_version: str, resource: str) -> bool:
        """Whether it is a resource without storage."""
        return (api_version, resource) in self._virtual or (api_version, resource) in self._computed

    def _subresource(self, target: Target, resource: Resource) -> Subresource | None:
        """The handler; None where the subresource is the object itself. Raises NotFound."""
        name = target.subresource
        if name not in resource.info.subresources:
            raise no_such_path()
        handler = self._subresources.get((target.resource, name)) or self._subresources.get(("*", name))
        if handler is None and name not in OF_OBJECT:
            raise no_such_path()
        return handler

    async def _review(
        self, operation: str, resource: Resource, target: Target, body: Message, context: Context
    ) -> None:
        """Admission of a body that is not the object itself; mutating webhooks change it in place."""
        kind = SCHEME.kind_of(body)
        attributes = Attributes(
            operation, resource, target.namespace, target.name, target.subresource, body, None, context, kind
        )
        await self._admission.review(attributes)
        if attributes.obj is not body:
            body.CopyFrom(attributes.obj)

    @translated
    async def connect(self, target: Target, options: Message, context: Context, verb: str = "create") -> None:
        """Whether the caller may open the stream; ``options``: a PodExecOptions or the like, which admission sees."""
        await self._authorize(context, verb, target)
        await self._review(CONNECT, self.catalog.get(target.api_version, target.resource), target, options, context)

    @translated
    async def get(self, target: Target, context: Context, resource_version: str = "") -> Entry | Message:
        computed = self._computed.get((target.api_version, target.resource))
        if computed is not None:
            if target.subresource:
                raise no_such_path()
            await self._authorize(context, "get", target)
            return await computed.get(target.name)
        resource = self.resource(target, "get")
        await self._authorize(context, "get", target)
        if target.subresource:
            handler = self._subresource(target, resource)
            if handler is not None:
                return await handler.get(resource, target, context)
        return await self.reader.get(resource, target.namespace, target.name, resource_version)

    @translated
    async def list(
        self, target: Target, context: Context, options: ListOptions, label_selector: str = "", field_selector: str = ""
    ) -> ListPage:
        selection = Selection(target.namespace, target.name, label_selector, field_selector)
        computed = self._computed.get((target.api_version, target.resource))
        if computed is not None:
            await self._authorize(context, "list", named(target, field_selector))
            return await computed.list(selection)
        resource = self.resource(target, "list")
        await self._authorize(context, "list", named(target, field_selector))
        page = await self.reader.list(resource, selection, options)
        warn_of_broken(page, context)
        return page

    @translated
    async def watch(
        self,
        target: Target,
        context: Context,
        options: WatchOptions,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[builtins.list[WatchEvent]]:
        resource = self.resource(target, "watch")
        await self._authorize(context, "watch", named(target, field_selector))
        selection = Selection(target.namespace, target.name, label_selector, field_selector)
        return await self.reader.watch(resource, selection, options)

    @translated
    async def create(self, target: Target, body: Any, context: Context) -> Written | Message:
        """``body``: the object, or the subresource's. For a resource without storage the answer is a message."""
        virtual = self._virtual.get((target.api_version, target.resource))
        if virtual is not None:
            if target.subresource:
                raise no_such_path()
            await self._authorize(context, "create", target)
            return await virtual.create(target, body, context)
        resource = self.resource(target, "create")
        await self._authorize(context, "create", target)
        if target.subresource:
            handler = self._subresource(target, resource)
            if handler is None:
                raise method_not_supported(resource.name, "create", resource.group)
            await self._review(CREATE, resource, target, body, context)
            return await handler.create(resource, target, body, context)
        return await self.writer.create(resource, target.namespace, body, context, target.name)

    @translated
    async def create_alike(self, target: Target, type_url: str, raw: bytes, context: Context) -> Written | None:
        """Creates the object of an Any without decoding it, where one like it has been created; else None."""
        info = self.catalog.info(target.api_version, target.resource)
        if info is None or info.type_url != type_url or target.name or target.subresource:
            return None
        if not strategy.comes_alike(info.message):
            return None
        resource = self.resource(target, "create")
        await self._authorize(context, "create", target)
        return await self.writer.create_alike(resource, target.namespace, raw, context)

    @translated
    async def update(self, target: Target, body: Any, context: Context) -> Written | Message:
        resource = self.resource(target, "update")
        await self._authorize(context, "update", target)
        if target.subresource:
            handler = self._subresource(target, resource)
            if handler is not None:
                return await handler.update(resource, target, body, context)
        return await self.writer.update(resource, target.namespace, target.name, body, context, target.subresource)

    @translated
    async def patch(self, target: Target, patch_type: str, patch: bytes, context: Context) -> Written | Message:
        resource = self.resource(target, "patch")
        await self._authorize(context, "patch", target)
        if target.subresource:
            handler = self._subresource(target, resource)
            if handler is not None:
                return await handler.patch(resource, target, patch_type, patch, context)
        view = VIEWS.get(context.asked) if context.asked is not None else None
        return await self._patcher.patch(
            resource, target.namespace, target.name, patch_type, patch, context, target.subresource, view
        )

    @translated
    async def delete(self, target: Target, options: meta_v1_pb2.DeleteOptions, context: Context) -> Deleted:
        resource = self.resource(target, "delete")
        await self._authorize(context, "delete", target)
        if target.subresource:
            raise method_not_supported(resource.name, "delete", resource.group)
        return await self.deleter.delete(resource, target.namespace, target.name, options, context)

    @translated
    async def delete_collection(
        self,
        target: Target,
        options: meta_v1_pb2.DeleteOptions,
        context: Context,
        listing: ListOptions,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ListPage:
        """The objects that were deleted or marked, as they were before."""
        resource = self.resource(target, "deletecollection")
        await self._authorize(context, "deletecollection", target)
        selection = Selection(target.namespace, "", label_selector, field_selector)
        page = await self.deleter.delete_collection(resource, selection, listing, options, context)
        warn_of_broken(page, context)
        return page


def warn_of_broken(page: ListPage, context: Context) -> None:
    """Tells the caller what is missing from a list."""
    if page.broken:
        first, more = page.broken[0], len(page.broken) - 1
        others = f" and {more} more" if more else ""
        context.warnings.append(f'left out because the stored value cannot be decoded: "{first}"{others}')
