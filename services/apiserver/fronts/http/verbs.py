"""The verbs of resources over HTTP: a request's path, query and body become one call of the registry."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from services.apiserver.cache.changes import ADDED, BOOKMARK, DELETED, MODIFIED, WatchEvent
from services.apiserver.fronts.http import content, tables
from services.apiserver.fronts.http.content import Accept, Answer, accepted, media_type_of
from services.apiserver.fronts.http.paths import flag, number
from services.apiserver.fronts.instrument import Instrument
from services.apiserver.fronts.kinds import expected_kind, subresource_verbs
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.managed import MAX_MANAGER
from services.apiserver.registry.reading import ListOptions, ListPage, WatchOptions
from services.apiserver.registry.registry import Registry, Target
from services.apiserver.registry.writing import Written
from tillerman.api.scheme import ResourceInfo
from tillerman.api.status import (
    Cause,
    StatusError,
    forbidden_field,
    invalid,
    invalid_value,
    make,
    method_not_supported,
    no_such_path,
    not_supported,
    required,
    too_long,
)
from tillerman.pb.k8s import meta_v1_pb2

APPLY = "application/apply-patch+yaml"
ONE_SHAPES, LIST_SHAPES = ("Table", "PartialObjectMetadata"), ("Table", "PartialObjectMetadataList")
WATCH_SECONDS = 1800
# By method and whether the path is a collection's.
_VERBS = {
    ("GET", True): "list",
    ("GET", False): "get",
    ("POST", True): "create",
    ("PUT", False): "update",
    ("PATCH", False): "patch",
    ("DELETE", True): "deletecollection",
    ("DELETE", False): "delete",
}
_METHODS = {"get": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
EVENT_NAMES = {ADDED: "ADDED", MODIFIED: "MODIFIED", DELETED: "DELETED", BOOKMARK: "BOOKMARK"}


@dataclass(frozen=True, slots=True)
class Request:
    """What of an HTTP request the verbs look at."""

    method: str
    target: Target
    query: Mapping[str, str]
    accept: str = ""
    content_type: str = ""
    user_agent: str = ""
    body: bytes = b""

    @property
    def watch(self) -> bool:
        """A collection is watched; for an object by its name the parameter says nothing, as in Kubernetes."""
        return self.method == "GET" and not self.target.name and flag(self.query, "watch")


class Verbs:
    """All methods raise StatusError (or StorageError, untranslated only where the registry lets it through)."""

    def __init__(self, registry: Registry, instrument: Instrument) -> None:
        self._registry = registry
        self._instrument = instrument

    def verb(self, request: Request) -> str:
        """The metrics' name of a request."""
        if request.target.name:
            return request.method
        return {"GET": "LIST", "DELETE": "DELETECOLLECTION"}.get(request.method, request.method)

    async def answer(self, request: Request, user: User) -> Answer:
        """One answer; watches go to ``watch``."""
        target = request.target
        name = (self.verb(request) or "").lower()
        self._check_route(request)
        call = getattr(self, f"_{name}")
        answer: Answer = await call(request, user)
        if request.method in ("GET", "DELETE") and (warning := self._registry.deprecation(target)):
            answer.headers.append(warning_header(warning))
        return answer

    def _accepted(self, request: Request, shapes: tuple[str, ...]) -> Accept:
        """Raises NotAcceptable, and BadRequest for what a Table is to include: before anything is written. A custom
        resource has no protobuf form.
        """
        target = request.target
        custom = target.subresource != "scale" and self._registry.catalog.custom(target.api_version, target.resource)
        accept = accepted(request.accept, shapes=shapes, protobuf=not custom)
        if accept.shape == "Table":
            tables.check_include(request.query.get("includeObject", ""))
        return accept

    def _check_route(self, request: Request) -> None:
        """Raises NotFound or MethodNotAllowed for paths that the resource doesn't have, and methods they don't take."""
        target, method = request.target, request.method
        info = self._info(target)
        if bool(target.namespace) != info.namespaced and (target.namespace or target.name):
            raise no_such_path()
        if target.subresource:
            # One that does not exist is answered as such.
            served = target.subresource in info.subresources
            verbs = subresource_verbs(target.subresource) if served else _METHODS
            allowed = tuple(_METHODS[verb] for verb in verbs)
        elif target.name:
            allowed = ("GET", "PUT", "PATCH", "DELETE")
        else:
            allowed = ("GET", "POST", "DELETE") if target.namespace or not info.namespaced else ("GET",)
        if request.watch and "list" in info.verbs and "watch" not in info.verbs:
            raise method_not_supported(target.resource, "watch", target.group)
        verb = "watch" if request.watch else _VERBS.get((method, not target.name), "")
        if method not in allowed or (not target.subresource and verb not in info.verbs):
            raise make(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    # -- reading ---------------------------------------------------------------------------------------------------

    def _info(self, target: Target) -> ResourceInfo:
        """Raises NotFound."""
        catalog = self._registry.catalog
        return (
            catalog.info(target.api_version, target.resource) or catalog.get(target.api_version, target.resource).info
        )

    async def _get(self, request: Request, user: User) -> Answer:
        accept = self._accepted(request, ONE_SHAPES)
        found = await self._registry.get(request.target, Context(user), request.query.get("resourceVersion", ""))
        if request.target.subresource == "scale" and accept.shape == "Table":
            table = tables.scale(found, tables.check_include(request.query.get("includeObject", "")))
            return content.written_as(accept, Answer(table))
        return self._one(request, found, accept)

    def _one(self, request: Request, found: Any, accept: Accept, code: int = 200) -> Answer:
        entry = found.entry if isinstance(found, Written) else found
        if accept.shape == "Table":
            include = tables.check_include(request.query.get("includeObject", ""))
            meta = content.list_meta(entry.revision)
            info = self._info(request.target)
            table = tables.table(info, [entry], include, meta, api_version=accept.api_version)
            return content.written_as(accept, Answer(table, code))
        return content.one(entry, accept, code)

    async def _list(self, request: Request, user: User) -> Answer:
        query = request.query
        accept = self._accepted(request, LIST_SHAPES)
        number(query, "timeoutSeconds")
        context = Context(user)
        page = await self._registry.list(
            request.target,
            context,
            list_options(query),
            query.get("labelSelector", ""),
            query.get("fieldSelector", ""),
        )
        return _warned(self._many(request, page, accept), context)

    def _many(self, request: Request, page: ListPage, accept: Accept) -> Answer:
        info = self._info(request.target)
        if accept.shape == "Table":
            include = tables.check_include(request.query.get("includeObject", ""))
            meta = content.list_meta(page.revision, page.continue_token, page.remaining)
            return content.written_as(accept, tables.listed(info, page.entries, include, meta, accept.api_version))
        return content.many(
            info,
            page.entries,
            accept,
            revision=page.revision,
            continue_token=page.continue_token,
            remaining=page.remaining,
        )

    async def watch(self, request: Request, user: User) -> AsyncGenerator[bytes, None]:
        """Chunks of JSON lines; what is wrong with the request is raised before the first of them.

        The first chunk is empty: the watch is accepted. It is, and ends with an ERROR event, when its past is gone.
        """
        self._check_route(request)
        query = request.query
        accept = accepted(request.accept, shapes=("Table", "PartialObjectMetadata"), protobuf=False, yaml=False)
        seconds = number(query, "timeoutSeconds")
        options = WatchOptions(
            query.get("resourceVersion", ""),
            query.get("resourceVersionMatch", ""),
            flag(query, "allowWatchBookmarks"),
            flag(query, "sendInitialEvents"),
            seconds or int(WATCH_SECONDS * (1 + random.random())),
            patient=True,
        )
        _check_initial_events(query, options)
        target = request.target
        try:
            batches = await self._registry.watch(
                target, Context(user), options, query.get("labelSelector", ""), query.get("fieldSelector", "")
            )
        except StatusError as error:
            if error.reason == "Expired":
                yield b""
            raise
        include = tables.check_include(query.get("includeObject", ""))
        lines = EventLines(self._info(target), accept, include)
        try:
            yield b""
            async for events in batches:
                self._instrument.events(target, len(events))
                yield b"".join([lines.line(event) for event in events])
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    # -- writing ---------------------------------------------------------------------------------------------------

    def _context(self, request: Request, user: User) -> Context:
        """Raises Invalid for parameters that no write takes."""
        query = request.query
        if causes := write_faults(request):
            raise invalid(f"{_options_kind(request.method)}.meta.k8s.io", "", causes)
        validation = query.get("fieldValidation", "")
        return Context(
            user,
            dry_run=query.get("dryRun") == "All",
            field_manager=query.get("fieldManager", ""),
            field_validation=validation or "Warn",
            force=flag(query, "force"),
            user_agent=request.user_agent,
        )

    def _decode(self, request: Request, context: Context) -> Any:
        target = request.target
        media = media_type_of(request.content_type)
        expected = expected_kind(target, self._registry.catalog.info(target.api_version, target.resource))
        if expected is not None:
            return content.decode(request.body, media, expected, context)
        resource = self._registry.catalog.custom(target.api_version, target.resource)
        if resource is None:
            raise no_such_path()
        return content.decode_custom(request.body, media, resource, context)

    def _shapes(self, request: Request) -> tuple[str, ...]:
        stored = request.target.subresource in ("", "status")
        info = self._registry.catalog.info(request.target.api_version, request.target.resource)
        return ONE_SHAPES if stored and (info is None or self._registry.catalog.stores(info)) else ()

    async def _post(self, request: Request, user: User) -> Answer:
        accept = self._accepted(request, self._shapes(request))
        target = request.target
        context = self._context(request, user)
        written = await self._registry.create(target, self._decode(request, context), context)
        return _warned(self._one(request, written, accept, 201), context)

    async def _put(self, request: Request, user: User) -> Answer:
        accept = self._accepted(request, self._shapes(request))
        context = self._context(request, user)
        written = await self._registry.update(request.target, self._decode(request, context), context)
        return _warned(self._one(request, written, accept, _code(written)), context)

    async def _patch(self, request: Request, user: User) -> Answer:
        accept = self._accepted(request, self._shapes(request))
        context = self._context(request, user)
        kind = media_type_of(request.content_type)
        written = await self._registry.patch(request.target, kind, request.body, context)
        return _warned(self._one(request, written, accept, _code(written)), context)

    async def _delete(self, request: Request, user: User) -> Answer:
        accept = self._accepted(request, ONE_SHAPES)
        options = self._delete_options(request)
        context = Context(user, dry_run=bool(options.dryRun), user_agent=request.user_agent)
        deleted = await self._registry.delete(request.target, options, context)
        status = deleted.status(request.target.resource, request.target.group)
        if status is None:
            # Whoever asks by the old option that the dependents go, too, is told that the object is not gone yet.
            unfinished = not deleted.gone and options.HasField("orphanDependents") and not options.orphanDependents
            return _warned(self._one(request, deleted.entry, accept, 202 if unfinished else 200), context)
        return _warned(content.one(status, Accept(accept.media_type)), context)

    async def _deletecollection(self, request: Request, user: User) -> Answer:
        accept = self._accepted(request, LIST_SHAPES)
        query = request.query
        options = self._delete_options(request)
        context = Context(user, dry_run=bool(options.dryRun), user_agent=request.user_agent)
        page = await self._registry.delete_collection(
            request.target,
            options,
            context,
            list_options(query),
            query.get("labelSelector", ""),
            query.get("fieldSelector", ""),
        )
        return _warned(self._many(request, page, accept), context)

    def _delete_options(self, request: Request) -> meta_v1_pb2.DeleteOptions:
        """The body's, and only without one the query's. Raises BadRequest, Invalid."""
        query = request.query
        options = content.delete_options(request.body, media_type_of(request.content_type))
        if not request.body.strip():
            seconds = number(query, "gracePeriodSeconds")
            if seconds is not None:
                options.gracePeriodSeconds = seconds
            if "propagationPolicy" in query:
                options.propagationPolicy = query["propagationPolicy"]
            if "orphanDependents" in query:
                options.orphanDependents = flag(query, "orphanDependents")
            if "dryRun" in query:
                options.dryRun.append(query["dryRun"])
        if causes := dry_run_faults(list(options.dryRun)):
            raise invalid("DeleteOptions.meta.k8s.io", "", causes)
        return options


class EventLines:
    """Watch events as JSON lines; a Table's columns come with its first event only."""

    def __init__(self, info: ResourceInfo, accept: Accept, include: str) -> None:
        self._info = info
        self._shape = accept.shape
        self._version = accept.api_version
        self._include = include
        self._first = True

    def line(self, event: WatchEvent) -> bytes:
        head = f'{{"type":"{EVENT_NAMES[event.type]}","object":'.encode()
        return b"".join((head, self._object(event), b"}\n"))

    def _object(self, event: WatchEvent) -> bytes:
        entry = event.entry
        if self._shape == "Table":
            if event.type == BOOKMARK:
                return self._bookmark(event)
            first, self._first = self._first, False
            meta = content.list_meta(entry.revision)
            return tables.table(self._info, [entry], self._include, meta, with_columns=first, api_version=self._version)
        if self._shape == "PartialObjectMetadata":
            return orjson.dumps(content.partial(orjson.loads(entry.json), self._version))
        return entry.json

    def _bookmark(self, event: WatchEvent) -> bytes:
        partial = content.partial(orjson.loads(event.entry.json), self._version)
        empty = {"cells": [], "object": partial}
        meta = content.list_meta(event.entry.revision)
        table = {
            "kind": "Table",
            "apiVersion": self._version,
            "metadata": meta,
            "columnDefinitions": None,
            "rows": [empty],
        }
        return orjson.dumps(table)


def error_line(answer: Answer) -> bytes:
    """The ERROR event that ends a watch."""
    return b'{"type":"ERROR","object":' + answer.body + b"}\n"


def list_options(query: Mapping[str, str]) -> ListOptions:
    """The query's. Raises BadRequest, Invalid."""
    if "sendInitialEvents" in query:
        cause = forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list")
        raise invalid("ListOptions.meta.k8s.io", "", [cause])
    return ListOptions(
        number(query, "limit") or 0,
        query.get("continue", ""),
        query.get("resourceVersion", ""),
        query.get("resourceVersionMatch", ""),
    )


def _check_initial_events(query: Mapping[str, str], options: WatchOptions) -> None:
    """Raises Invalid for options of a watch that do not go together."""
    given, match = "sendInitialEvents" in query, options.resource_version_match
    causes = []

    def forbid(detail: str) -> None:
        causes.append(forbidden_field("resourceVersionMatch", detail))

    if given and match != "NotOlderThan":
        forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    if match and not given:
        forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
    if given and match not in ("", "NotOlderThan"):
        causes.append(not_supported("resourceVersionMatch", match, ("NotOlderThan",)))
    if match and query.get("continue"):
        forbid("resourceVersionMatch is forbidden when continue is provided")
    if causes:
        raise invalid("ListOptions.meta.k8s.io", "", causes)


def dry_run_faults(values: list[str]) -> list[Cause]:
    return [not_supported("dryRun", values, ("All",))] if any(value != "All" for value in values) else []


def write_faults(request: Request) -> list[Cause]:
    """What is wrong with the options of a create, update or patch."""
    query, causes = request.query, []
    manager, validation = query.get("fieldManager", ""), query.get("fieldValidation", "")
    if request.method == "PATCH":
        applies = media_type_of(request.content_type) == APPLY
        if applies and not manager:
            causes.append(required("fieldManager", "is required for apply patch"))
        if not applies and "force" in query:
            causes.append(forbidden_field("force", "may not be specified for non-apply patch"))
    causes += manager_faults(manager)
    causes += dry_run_faults([query["dryRun"]] if "dryRun" in query else [])
    if validation not in ("", "Strict", "Warn", "Ignore"):
        causes.append(not_supported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn")))
    return causes


def manager_faults(name: str) -> list[Cause]:
    """What is wrong with a fieldManager."""
    causes = [too_long("fieldManager", MAX_MANAGER)] if len(name.encode()) > MAX_MANAGER else []
    for position, letter in enumerate(name):
        if not letter.isprintable():
            detail = f"invalid character U+{ord(letter):04X} (at position {position})"
            causes.append(invalid_value("fieldManager", name, detail))
    return causes


def _options_kind(method: str) -> str:
    return {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}.get(method, "DeleteOptions")


def _code(written: Any) -> int:
    return 201 if isinstance(written, Written) and written.created else 200


def _warned(answer: Answer, context: Context) -> Answer:
    answer.headers += map(warning_header, context.warnings)
    return answer


def warning_header(text: str) -> tuple[str, str]:
    # A header holds no control characters.
    shown = "".join(c if c.isprintable() else " " for c in text)
    quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
    return "Warning", f'299 - "{quoted}"'
