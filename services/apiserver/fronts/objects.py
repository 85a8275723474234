"""The gRPC front of `Objects`: requests decoded, the registry asked, its bytes handed on without decoding them.

Responses are built as bytes from the frames of cache.entry, so the handlers are registered with an identity serializer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError as ProtoDecodeError
from google.protobuf.message import Message

from services.apiserver.cache.entry import UNKNOWN_URL, Entry
from services.apiserver.crd.definition import CustomInfo
from services.apiserver.crd.resource import CustomResource
from services.apiserver.fronts.instrument import MUTATING, Instrument
from services.apiserver.fronts.kinds import expected_kind
from services.apiserver.fronts.limits import Limits
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.deletion import Deleted
from services.apiserver.registry.reading import ListOptions, WatchOptions
from services.apiserver.registry.registry import Registry, Target, status_of
from services.apiserver.registry.writing import Written
from services.apiserver.storage.errors import StorageError
from tillerman.api import codec, rpcstatus
from tillerman.api.envelope import MAGIC, read_varint, varint
from tillerman.api.scheme import SCHEME, TYPE_URL_PREFIX, ResourceInfo
from tillerman.api.status import StatusError, bad_request, internal, unsupported_media_type
from tillerman.pb.api import objects_pb2
from tillerman.pb.k8s import runtime_pb2

JSON, PROTOBUF = "application/json", "application/vnd.kubernetes.protobuf"
MAX_MESSAGE = 1_000_000
SERVICE = "tillerman.v1.Objects"

Request = TypeVar("Request", bound=Message)
Authenticate = Callable[[Any], Awaitable[User]]


class ObjectsFront:
    """``authenticate`` finds the user of a call's context; raises Unauthorized."""

    def __init__(
        self,
        registry: Registry,
        *,
        authenticate: Authenticate,
        instrument: Instrument,
        log: Any,
        limits: Limits,
    ) -> None:
        self._registry = registry
        self._authenticate = authenticate
        self._instrument = instrument
        self._log = log
        self._limits = limits

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        pb = objects_pb2
        unary: dict[str, tuple[type[Message], str, Any]] = {
            "Get": (pb.GetRequest, "GET", self.get),
            "List": (pb.ListRequest, "LIST", self.list),
            "Create": (pb.CreateRequest, "POST", self.create),
            "Update": (pb.UpdateRequest, "PUT", self.update),
            "Patch": (pb.PatchRequest, "PATCH", self.patch),
            "Delete": (pb.DeleteRequest, "DELETE", self.delete),
            "DeleteCollection": (pb.DeleteCollectionRequest, "DELETECOLLECTION", self.delete_collection),
        }
        # No deserializers: what cannot be decoded is the caller's mistake, and grpc would call it INTERNAL.
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(request, verb, method))
            for name, (request, verb, method) in unary.items()
        }
        handlers["Batch"] = grpc.unary_unary_rpc_method_handler(self._plain(pb.BatchRequest, self.batch))
        handlers["Discover"] = grpc.unary_unary_rpc_method_handler(self._plain(pb.DiscoverRequest, self.discover))
        handlers["Watch"] = grpc.unary_stream_rpc_method_handler(self.watch)
        return handlers

    # -- calls -----------------------------------------------------------------------------------------------------

    def _unary(self, kind: type[Message], verb: str, method: Callable[[Any, Target, User], Awaitable[bytes]]) -> Any:
        async def call(raw: bytes, context: Any) -> bytes:
            try:
                request: Any = kind.FromString(raw)
            except ProtoDecodeError as error:
                return await abort(context, undecodable(kind, error))  # type: ignore[no-any-return]
            target = target_of(request.target)
            with self._instrument.request(verb, target) as outcome:
                try:
                    user = await self._authenticate(context)
                    await self._registry.seek(target)
                    async with (self._limits.writes if verb in MUTATING else self._limits.reads).place(user):
                        response = await method(request, target, user)
                except Exception as error:
                    failure = self._failure(error)
                    outcome.code = failure.code
                else:
                    return response
            return await abort(context, failure)  # type: ignore[no-any-return]

        return call

    def _plain(self, kind: type[Message], method: Callable[[Any, User], Awaitable[bytes]]) -> Any:
        async def call(raw: bytes, context: Any) -> bytes:
            try:
                user = await self._authenticate(context)
                return await method(kind.FromString(raw), user)
            except ProtoDecodeError as error:
                failure = undecodable(kind, error)
            except Exception as error:
                failure = self._failure(error)
            return await abort(context, failure)  # type: ignore[no-any-return]

        return call

    def _failure(self, error: Exception) -> StatusError:
        if isinstance(error, StatusError):
            return error
        if isinstance(error, StorageError):
            return status_of(error)
        self._log.error("a request failed unexpectedly", exc_info=error)
        return internal(f"{type(error).__name__}: {error}")

    async def get(self, request: objects_pb2.GetRequest, target: Target, user: User) -> bytes:
        found = await self._registry.get(target, Context(user), request.resource_version)
        return object_response(found)

    async def list(self, request: objects_pb2.ListRequest, target: Target, user: User) -> bytes:
        options = ListOptions(
            request.limit, request.continue_token, request.resource_version, request.resource_version_match
        )
        page = await self._registry.list(target, Context(user), options, request.label_selector, request.field_selector)
        head = objects_pb2.ListResponse(resource_version=str(page.revision or ""), continue_token=page.continue_token)
        if page.remaining is not None:
            head.remaining_item_count = page.remaining
        if not page.entries:
            return head.SerializeToString()
        return b"".join((head.SerializeToString(), b"\x22", b"\x22".join([entry.frame for entry in page.entries])))

    async def create(self, request: objects_pb2.CreateRequest, target: Target, user: User) -> bytes:
        context = write_context(request, user)
        packed = request.object
        alike = await self._registry.create_alike(target, packed.type_url, packed.value, context)
        if alike is not None:
            return object_response(alike)
        body = self._decode(packed, target, context)
        return object_response(await self._registry.create(target, body, context), context)

    async def update(self, request: objects_pb2.UpdateRequest, target: Target, user: User) -> bytes:
        context = write_context(request, user)
        body = self._decode(request.object, target, context)
        return object_response(await self._registry.update(target, body, context), context)

    async def patch(self, request: objects_pb2.PatchRequest, target: Target, user: User) -> bytes:
        context = write_context(request, user)
        context.force = request.force
        written = await self._registry.patch(target, request.patch_type, request.patch, context)
        return object_response(written, context)

    async def delete(self, request: objects_pb2.DeleteRequest, target: Target, user: User) -> bytes:
        deleted = await self._registry.delete(target, request.options, Context(user))
        return object_response(self._deletion_answer(deleted, target))

    def _deletion_answer(self, deleted: Deleted, target: Target) -> Entry | Message:
        status = deleted.status(target.resource, target.group)
        return deleted.entry if status is None else status

    async def delete_collection(
        self, request: objects_pb2.DeleteCollectionRequest, target: Target, user: User
    ) -> bytes:
        context = Context(user, dry_run=bool(request.options.dryRun))
        page = await self._registry.delete_collection(
            target, request.options, context, ListOptions(), request.label_selector, request.field_selector
        )
        return b"".join(b"\x0a" + entry.frame for entry in page.entries)

    async def batch(self, request: objects_pb2.BatchRequest, user: User) -> bytes:
        """All operations at once: the group commit carries them to etcd together."""
        async with self._limits.writes.place(user):
            outcomes = await asyncio.gather(*(self._operation(operation, user) for operation in request.operations))
        return b"".join(b"\x0a" + varint(len(outcome)) + outcome for outcome in outcomes)

    async def _operation(self, operation: objects_pb2.BatchRequest.Operation, user: User) -> bytes:
        which = operation.WhichOneof("operation")
        try:
            if which is None:
                raise bad_request("an operation of the batch is empty")
            request = getattr(operation, which)
            target = target_of(request.target)
            verb, method = _BATCHED[which]
            with self._instrument.request(verb, target) as outcome:
                try:
                    answer: bytes = await getattr(self, method)(request, target, user)
                except Exception as error:
                    outcome.code = self._failure(error).code
                    raise
        except Exception as error:
            failure = self._failure(error).status.SerializeToString()
            return b"\x12" + varint(len(failure)) + failure
        # ObjectResponse.object and Outcome.object are both field 1; warnings have no place in an outcome.
        return first_field(answer)

    async def watch(self, raw: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            request = objects_pb2.WatchRequest.FromString(raw)
        except ProtoDecodeError as error:
            await abort(context, undecodable(objects_pb2.WatchRequest, error))
        target = target_of(request.target)
        failure: StatusError | None = None
        with self._instrument.stream("WATCH", target) as outcome:
            try:
                user = await self._authenticate(context)
                await self._registry.seek(target)
                options = WatchOptions(
                    request.resource_version,
                    request.resource_version_match,
                    request.allow_bookmarks,
                    request.send_initial_events,
                    request.timeout_seconds,
                )
                batches = await self._registry.watch(
                    target, Context(user), options, request.label_selector, request.field_selector
                )
                # Headers at once: a client that watches a quiet resource learns that it is accepted.
                await context.send_initial_metadata(())
                try:
                    async for events in batches:
                        self._instrument.events(target, len(events))
                        for message in messages(events):
                            yield message
                finally:
                    await batches.aclose()  # type: ignore[attr-defined]
            except Exception as error:
                failure = self._failure(error)
                outcome.code = failure.code
        if failure is not None:
            await abort(context, failure)

    async def discover(self, request: objects_pb2.DiscoverRequest, user: User) -> bytes:
        catalog = self._registry.catalog
        response = objects_pb2.DiscoverResponse()
        for custom, infos in ((False, catalog.infos()), (True, catalog.customs.listed())):
            for info in infos:
                response.resources.add(
                    api_version=info.api_version,
                    resource=info.resource,
                    singular=info.singular,
                    short_names=info.short_names,
                    kind=info.kind,
                    namespaced=info.namespaced,
                    verbs=info.verbs,
                    subresources=info.subresources,
                    categories=info.categories,
                    custom=custom,
                    columns=printed(info),
                )
        return response.SerializeToString()

    # -- bodies ----------------------------------------------------------------------------------------------------

    def _decode(self, packed: Any, target: Target, context: Context) -> Any:
        """The message in an Any; JSON in runtime.Unknown too. Raises BadRequest, UnsupportedMediaType."""
        info = self._registry.catalog.info(target.api_version, target.resource)
        expected = expected_kind(target, info)
        if packed.type_url == UNKNOWN_URL:
            custom = self._registry.catalog.custom(target.api_version, target.resource)
            if custom is not None and target.subresource != "scale":
                return decode_custom(packed.value, custom, context)
            return _decode_unknown(packed.value, expected, context)
        name = packed.type_url.rpartition("/")[2]
        message = SCHEME.message_type(*expected) if expected is not None else None
        if message is None or name != message.DESCRIPTOR.full_name:
            wanted = "JSON" if message is None else message.DESCRIPTOR.full_name
            raise bad_request(f"the object is a {name or 'nothing'}, the request is for {target.resource} ({wanted})")
        try:
            return codec.from_protobuf(packed.value, message)
        except codec.DecodeError as error:
            raise bad_request(str(error)) from error


_BATCHED = {
    "create": ("POST", "create"),
    "update": ("PUT", "update"),
    "patch": ("PATCH", "patch"),
    "delete": ("DELETE", "delete"),
}


def decode_json(raw: bytes, message: type[Message] | None, context: Context) -> Any:
    """Raises BadRequest with the decoder's words; unknown fields become warnings under fieldValidation Warn."""
    unknown: list[str] | None = [] if context.field_validation == "Warn" else None
    try:
        content = codec.from_json(raw, message, strict=context.field_validation == "Strict", unknown=unknown)
    except codec.DecodeError as error:
        raise bad_request(str(error)) from error
    context.warnings.extend(unknown or ())
    return content


def unknown_of(raw: bytes) -> runtime_pb2.Unknown:
    """Kubernetes' envelope. Raises codec.DecodeError."""
    unknown = codec.from_protobuf(raw, runtime_pb2.Unknown)
    assert isinstance(unknown, runtime_pb2.Unknown)
    return unknown


def decode_custom(value: bytes, resource: CustomResource, context: Context) -> Any:
    """A custom resource in runtime.Unknown. Raises BadRequest, UnsupportedMediaType."""
    try:
        unknown = unknown_of(value)
        if unknown.contentType not in (JSON, ""):
            raise unsupported_media_type([JSON])
        return resource.decode(unknown.raw, context)
    except codec.DecodeError as error:
        raise bad_request(str(error)) from error


def _decode_unknown(value: bytes, expected: tuple[str, str] | None, context: Context) -> Any:
    """Kubernetes' envelope, or JSON. ``expected``: the kind; None where only the body can say."""
    try:
        unknown = unknown_of(value)
        if unknown.contentType == PROTOBUF and unknown.raw.startswith(MAGIC):
            unknown = unknown_of(unknown.raw[len(MAGIC) :])
            unknown.contentType = PROTOBUF
    except codec.DecodeError as error:
        raise bad_request(f"the object's bytes cannot be decoded: {error}") from error
    if unknown.contentType == PROTOBUF:
        found = (unknown.typeMeta.apiVersion, unknown.typeMeta.kind)
        if found != expected:
            raise bad_request(f"the object is a {' '.join(found)}, the request is for a {' '.join(expected or ())}")
        try:
            return codec.from_protobuf(unknown.raw, SCHEME.message_type(*found))
        except codec.DecodeError as error:
            raise bad_request(str(error)) from error
    if unknown.contentType not in (JSON, ""):
        raise unsupported_media_type([JSON, PROTOBUF])
    return decode_json(unknown.raw, SCHEME.message_type(*expected) if expected is not None else None, context)


def undecodable(kind: type[Message], error: ProtoDecodeError) -> StatusError:
    return bad_request(f"the request is not a {kind.DESCRIPTOR.name}: {error}")


def printed(info: ResourceInfo) -> list[Any]:
    """The columns that a definition adds; those of built-in kinds every client knows."""
    if not isinstance(info, CustomInfo):
        return []
    return [
        objects_pb2.DiscoverResponse.Column(
            name=column["name"],
            type=column["type"],
            json_path=column["jsonPath"],
            priority=column.get("priority", 0),
        )
        for column in info.printed
    ]


def target_of(target: Any) -> Target:
    return Target(target.api_version, target.resource, target.namespace, target.name, target.subresource)


def write_context(request: Any, user: User) -> Context:
    return Context(user, request.dry_run, request.field_manager, request.field_validation)


def object_response(answer: Entry | Written | Message, context: Context | None = None) -> bytes:
    """ObjectResponse's bytes."""
    if isinstance(answer, Written):
        answer = answer.entry
    if isinstance(answer, Entry):
        body = b"\x0a" + answer.frame
    else:
        url = (TYPE_URL_PREFIX + answer.DESCRIPTOR.full_name).encode()
        raw = answer.SerializeToString()
        packed = b"".join((b"\x0a", varint(len(url)), url, b"\x12", varint(len(raw)), raw))
        body = b"\x0a" + varint(len(packed)) + packed
    if context is not None and context.warnings:
        body += b"".join(b"\x12" + varint(len(w)) + w for w in (text.encode() for text in context.warnings))
    return body


def first_field(response: bytes) -> bytes:
    """An ObjectResponse's bytes without its warnings."""
    size, start = read_varint(response, 1)
    return response[: start + size]


def messages(events: Any) -> list[bytes]:
    """WatchResponses of about MAX_MESSAGE bytes at most, never cut within a revision."""
    found: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    revision = -1
    for event in events:
        if size > MAX_MESSAGE and event.entry.revision != revision:
            found.append(b"".join(parts))
            parts, size = [], 0
        revision = event.entry.revision
        encoded = event.encoded
        parts.append(encoded)
        size += len(encoded)
    found.append(b"".join(parts))
    return found


async def abort(context: Any, error: StatusError) -> Any:
    code, message, trailing = rpcstatus.to_rpc(error)
    await context.abort(code, message, trailing)
