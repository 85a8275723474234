"""get, list and watch, served from the caches; the past from etcd."""

from __future__ import annotations

import asyncio
import base64
import binascii
import builtins
import contextlib
import math
import posixpath
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import orjson

from services.apiserver.cache.changes import ADDED, BOOKMARK, Change, WatchEvent
from services.apiserver.cache.entry import Entry
from services.apiserver.cache.fields import parse
from services.apiserver.cache.watcher import IndexKey, Predicate, Watcher, WatcherDropped
from services.apiserver.registry.resource import Resource, undecodable
from services.apiserver.storage.errors import Compacted, FutureRevision
from services.apiserver.storage.feed import Feed
from services.apiserver.storage.store import Store
from tillerman.api.json_syntax import syntax_error
from tillerman.api.selectors import FieldSelector, LabelSelector, parse_label_selector
from tillerman.api.status import (
    StatusError,
    bad_request,
    expired,
    forbidden_field,
    invalid,
    invalid_value,
    not_found,
    not_supported,
    timeout,
)

# The revision in a token that goes on with what there is now.
THE_PRESENT = -1
# etcd counts revisions in 63 bits.
MAX_REVISION = 1 << 63
_TOKEN_VERSION = "meta.k8s.io/v1"
# Objects that one read of the past takes from etcd at most.
PAGE = 10_000
BOOKMARK_SECONDS, BEFORE_END_SECONDS = 60.0, 2.0
WAIT_SECONDS, OWN_WRITES_SECONDS = 3.0, 0.2
TESTED_AT_ONCE = 500
CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or watch picks: one namespace ("" all), one name ("" all), selectors as text."""

    namespace: str = ""
    name: str = ""
    label_selector: str = ""
    field_selector: str = ""


@dataclass(frozen=True, slots=True)
class ListOptions:
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """``patient``: a resourceVersion that is yet to come is waited for, as long as the watch lasts."""

    resource_version: str = ""
    resource_version_match: str = ""
    allow_bookmarks: bool = False
    send_initial_events: bool = False
    timeout_seconds: int = 0
    patient: bool = False


@dataclass(frozen=True, slots=True)
class ListPage:
    revision: int
    entries: list[Entry]
    continue_token: str = ""
    remaining: int | None = None
    # Keys of what was looked for among others, and left out because it cannot be decoded.
    broken: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Filter:
    """``prefix``: of the keys, or the whole key of one object. ``base``: what the keys in tokens are relative to."""

    base: str
    prefix: str
    predicate: Predicate | None
    index: IndexKey
    selective: bool

    @property
    def single(self) -> bool:
        """Whether it is one object, by its whole key."""
        return not self.prefix.endswith("/")


class Bookmarks:
    """When a watch is due to tell how far it has come: every minute, and shortly before it ends. ``end``: loop time.

    The one before the end is for whoever watches on from there, so it is sent only if something has changed.
    """

    def __init__(self, end: float, now: float) -> None:
        self._last = end - BEFORE_END_SECONDS
        self.due, self.regular = math.inf, False
        self.next(now)

    def next(self, now: float) -> None:
        self.due, self.regular = now + BOOKMARK_SECONDS, True
        if now < self._last <= self.due:
            self.due, self.regular = self._last, False


class Reader:
    """All methods raise StatusError."""

    def __init__(self, *, store: Store, feed: Feed) -> None:
        self._store = store
        self._feed = feed

    async def confirm(self) -> None:
        """Until the caches hold everything that was acknowledged before this call."""
        await self._feed.wait_for(await self._store.current_revision())

    async def reached(self, revision: int) -> None:
        """Until the caches hold everything up to ``revision``."""
        await self._feed.wait_for(revision)

    async def get(self, resource: Resource, namespace: str, name: str, resource_version: str = "") -> Entry:
        if resource_version == "":
            await self.confirm()
        elif resource_version != "0":
            await self._not_older_than(parse_revision(resource_version))
        key = resource.key(namespace, name)
        entry = resource.cache.entries.get(key)
        if entry is None:
            broken = resource.cache.broken.get(key)
            if broken is not None:
                raise undecodable(key, broken.cause)
            raise not_found(resource.name, name, resource.group)
        return entry

    async def fresh(self, resource: Resource, key: str) -> Entry | None:
        """The object as etcd holds it now."""
        pair = await self._store.get(key)
        return None if pair is None else resource.from_pair(pair)

    # -- list ------------------------------------------------------------------------------------------------------

    async def list(self, resource: Resource, selection: Selection, options: ListOptions) -> ListPage:
        chosen = self._filter(resource, selection)
        _check_match(resource, options)
        limit = max(0, options.limit)
        if options.continue_token:
            if options.resource_version not in ("", "0"):
                raise bad_request("specifying resource version is not allowed when using continue")
            revision, start = decode_continue(options.continue_token)
            if revision == THE_PRESENT:
                revision = await self._store.current_revision()
            return await self._list_past(resource, chosen, revision, limit, start=chosen.base + start)
        match = options.resource_version_match
        if options.resource_version in ("", "0"):
            if options.resource_version == "":
                await self.confirm()
            else:
                limit = 0
                await self._own_writes()
        else:
            revision = parse_revision(options.resource_version)
            if match == "Exact" or (match == "" and limit):
                return await self._list_past(resource, chosen, revision, limit)
            await self._not_older_than(revision)
            await self._own_writes()
        return await self._list_now(resource, chosen, limit)

    async def _list_now(self, resource: Resource, chosen: _Filter, limit: int) -> ListPage:
        revision = self._feed.revision
        entries = self._candidates(resource, chosen)
        broken = resource.cache.broken_under(chosen.prefix)
        predicate = chosen.predicate
        if not limit and predicate is None:
            return ListPage(revision, entries, broken=broken)
        picked: builtins.list[Entry] = []
        for position, entry in enumerate(entries, start=1):
            if not position % TESTED_AT_ONCE:
                # A selector may need every object decoded: others have a turn in between.
                await asyncio.sleep(0)
            if predicate is not None and not predicate(entry):
                continue
            picked.append(entry)
            if len(picked) == limit:
                return self._page(chosen, revision, picked, broken, left=len(entries) - position)
        return ListPage(revision, picked, broken=broken)

    @staticmethod
    def _page(
        chosen: _Filter,
        revision: int,
        picked: builtins.list[Entry],
        broken: Sequence[str],
        *,
        left: int,
    ) -> ListPage:
        """A full page. ``left``: objects after it, whether or not they are chosen: the next page may be empty."""
        if not left:
            return ListPage(revision, picked, broken=broken)
        token = encode_continue(revision, picked[-1].key[len(chosen.base) :])
        return ListPage(revision, picked, token, None if chosen.selective else left, broken)

    def _candidates(self, resource: Resource, chosen: _Filter) -> builtins.list[Entry]:
        if not chosen.single:
            return resource.cache.select(chosen.prefix)
        entry = resource.cache.entries.get(chosen.prefix)
        return [] if entry is None else [entry]

    async def _list_past(
        self, resource: Resource, chosen: _Filter, revision: int, limit: int, start: str = ""
    ) -> ListPage:
        picked: builtins.list[Entry] = []
        broken: builtins.list[str] = []
        predicate = chosen.predicate
        prefix = chosen.prefix.rpartition("/")[0] + "/" if chosen.single else chosen.prefix
        while True:
            try:
                page = await self._store.page(prefix, start=start, revision=revision, limit=min(limit or 1_000, PAGE))
            except Compacted as error:
                if start:
                    raise continue_expired(start[len(chosen.base) :]) from error
                raise expired("The resourceVersion for the provided list is too old.") from error
            except FutureRevision as error:
                raise too_large_revision(revision, self._feed.revision) from error
            for position, pair in enumerate(page.pairs, start=1):
                entry = resource.readable(pair)
                if entry is None:
                    broken.append(pair.key.decode(errors="backslashreplace"))
                    continue
                if not entry.key.startswith(chosen.prefix) or (predicate is not None and not predicate(entry)):
                    continue
                picked.append(entry)
                if len(picked) == limit:
                    left = 0 if chosen.single else page.count - position
                    return self._page(chosen, revision, picked, broken, left=left)
            if not page.more:
                return ListPage(revision, picked, broken=broken)
            start = page.pairs[-1].key.decode(errors="backslashreplace") + "\0"

    # -- watch -----------------------------------------------------------------------------------------------------

    async def watch(
        self, resource: Resource, selection: Selection, options: WatchOptions
    ) -> AsyncIterator[builtins.list[WatchEvent]]:
        """An iterator of batches; what is wrong with the request is raised here, before the first of them.

        All events of one revision come in one batch. Ends after ``timeout_seconds``; raises Expired when the watcher
        was dropped.
        """
        chosen = self._filter(resource, selection)
        version = options.resource_version
        initial = options.send_initial_events or (version in ("", "0") and not options.resource_version_match)
        after = parse_revision(version) if version not in ("", "0") else 0
        if version == "":
            await self.confirm()
        elif after and (initial or not options.patient):
            await self._not_older_than(after)
        past: builtins.list[Change] = []
        covered = resource.cache.history_from
        if not initial and 0 < after < covered:
            past = await self._history(resource, chosen, after, covered)
        else:
            covered = 0
        # From here to the return nothing awaits: no change can slip in between the snapshot and the registration.
        watcher = resource.cache.watch(prefix=chosen.prefix, predicate=chosen.predicate, index=chosen.index)
        if initial:
            predicate = chosen.predicate
            watcher.waiting.extend(
                WatchEvent(ADDED, entry)
                for entry in self._candidates(resource, chosen)
                if predicate is None or predicate(entry)
            )
            if options.send_initial_events and options.allow_bookmarks:
                watcher.waiting.append(self._bookmark(resource, initial_end=True))
        elif after:
            changes = resource.cache.since(max(after, covered), chosen.prefix)
            if changes is None:
                resource.cache.unwatch(watcher)
                raise expired(f"too old resource version: {after} ({resource.cache.history_from})")
            watcher.after = after
            watcher.begin([*past, *changes])
        return self._deliver(resource, watcher, options)

    async def _history(self, resource: Resource, chosen: _Filter, after: int, upto: int) -> builtins.list[Change]:
        """What happened after ``after`` and up to ``upto``, read from etcd's own history."""
        try:
            events = await self._store.history(chosen.prefix, after=after, upto=upto)
        except Compacted as error:
            raise expired(f"too old resource version: {after} ({upto})") from error
        changes = []
        for event in events:
            old = resource.readable(event.prev_kv) if event.prev_kv.mod_revision else None
            new = None if event.type else resource.readable(event.kv)
            if old is not None or new is not None:
                changes.append(Change(event.kv.key.decode(), event.kv.mod_revision, old, new))
        return changes

    async def _deliver(
        self, resource: Resource, watcher: Watcher, options: WatchOptions
    ) -> AsyncIterator[builtins.list[WatchEvent]]:
        loop = asyncio.get_running_loop()
        end = loop.time() + options.timeout_seconds if options.timeout_seconds else math.inf
        schedule = Bookmarks(end, loop.time()) if options.allow_bookmarks else None
        seen = resource.cache.changed
        try:
            if watcher.waiting:
                yield await watcher.take()
            while loop.time() < end:
                wake = min(end, schedule.due) if schedule else end
                try:
                    async with asyncio.timeout_at(None if wake == math.inf else wake):
                        events = await watcher.take()
                except TimeoutError:
                    if schedule and schedule.due <= (now := loop.time()) < end:
                        told = schedule.regular or resource.cache.changed != seen
                        if told and self._feed.revision >= watcher.after:
                            yield [self._bookmark(resource)]
                        seen = resource.cache.changed
                        schedule.next(now)
                    continue
                yield events
        except WatcherDropped as error:
            raise expired(str(error)) from error
        finally:
            resource.cache.unwatch(watcher)

    def _bookmark(self, resource: Resource, *, initial_end: bool = False) -> WatchEvent:
        obj = resource.new()
        if initial_end:
            obj.metadata.annotations["k8s.io/initial-events-end"] = "true"
        return WatchEvent(BOOKMARK, resource.entry("", resource.encode(obj), self._feed.revision))

    # -- selection -------------------------------------------------------------------------------------------------

    def _filter(self, resource: Resource, selection: Selection) -> _Filter:
        labels, fields = parse_selectors(selection)
        fields = resource.resolve_fields(fields)
        base = prefix = resource.range_prefix(selection.namespace)
        index: IndexKey = (
            ("namespace", selection.namespace) if resource.namespaced and selection.namespace else ("", "")
        )
        name = selection.name or _equal_to(fields, "metadata.name")
        rest = FieldSelector(tuple(r for r in fields.requirements if r != ("metadata.name", "=", name)))
        node = _equal_to(fields, "spec.nodeName")
        tests: builtins.list[Callable[[Entry], bool]] = []
        if name is not None and name != "":
            index = ("name", name)
            if prefix.endswith("/") and (not resource.namespaced or selection.namespace):
                prefix += name
                exact = prefix
                tests.append(lambda entry: entry.key == exact)
            else:
                ending = "/" + name
                tests.append(lambda entry: entry.key.endswith(ending))
        elif name == "":
            tests.append(lambda entry: False)
        elif node is not None and resource.name == "pods":
            index = ("node", node)
        if not rest.empty:
            tests.append(resource.field_test(rest))
        if not labels.empty:
            tests.append(lambda entry: labels.matches(entry.labels))
        predicate: Predicate | None = None
        if len(tests) == 1:
            predicate = tests[0]
        elif tests:
            predicate = lambda entry: all(test(entry) for test in tests)  # noqa: E731
        return _Filter(base, prefix, predicate, index, bool(tests))

    async def _own_writes(self) -> None:
        """Who has written something here finds it in a list that may be old, unless etcd keeps it from us."""
        if self._feed.revision < self._store.written:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OWN_WRITES_SECONDS):
                    await self._feed.wait_for(self._store.written)

    async def _not_older_than(self, revision: int) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._feed.wait_for(revision)
        except TimeoutError as error:
            raise too_large_revision(revision, self._feed.revision) from error


def _equal_to(fields: FieldSelector, wanted: str) -> str | None:
    return next((value for path, op, value in fields.requirements if path == wanted and op == "="), None)


def parse_selectors(selection: Selection) -> tuple[LabelSelector, FieldSelector]:
    """Raises BadRequest with Kubernetes' words."""
    try:
        labels = parse_label_selector(selection.label_selector)
    except ValueError as error:
        raise bad_request(str(error)) from error
    return labels, parse(selection.field_selector)


def parse_revision(text: str) -> int:
    """Raises Invalid: a resourceVersion is a decimal number."""
    if not text.isascii() or not text.isdecimal():
        cause = invalid_value("resourceVersion", text, f'strconv.ParseUint: parsing "{text}": invalid syntax')
        raise invalid("ListOptions.meta.k8s.io", "", [cause])
    revision = int(text) if len(text) <= 20 else MAX_REVISION
    if revision >= MAX_REVISION:
        cause = invalid_value("resourceVersion", text, f'strconv.ParseUint: parsing "{text}": value out of range')
        raise invalid("ListOptions.meta.k8s.io", "", [cause])
    return revision


def too_large_revision(revision: int, current: int) -> StatusError:
    error = timeout(f"Too large resource version: {revision}, current: {current}", retry_after_seconds=1)
    error.status.details.causes.add(reason="ResourceVersionTooLarge", message="Too large resource version")
    return error


def _check_match(resource: Resource, options: ListOptions) -> None:
    match, version = options.resource_version_match, options.resource_version
    if match == "":
        return
    causes = []
    if options.continue_token:
        causes.append(
            forbidden_field("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
        )
    if version == "":
        causes.append(
            forbidden_field(
                "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
            )
        )
    if match not in ("Exact", "NotOlderThan"):
        causes.append(not_supported("resourceVersionMatch", match, ("Exact", "NotOlderThan", "")))
    if match == "Exact" and version == "0":
        causes.append(
            forbidden_field("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
        )
    if causes:
        raise invalid("ListOptions.meta.k8s.io", "", causes)


def continue_expired(start: str) -> StatusError:
    """Offers to go on with the present from the key ``start``."""
    error = expired(CONTINUE_EXPIRED)
    setattr(error.status.metadata, "continue", _token(THE_PRESENT, start))
    return error


def encode_continue(revision: int, last: str) -> str:
    """A token for the objects after the key ``last`` (relative to what is listed) at ``revision``."""
    return _token(revision, last + "\0")


def _token(revision: int, start: str) -> str:
    token = orjson.dumps({"v": _TOKEN_VERSION, "rv": revision, "start": start})
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def decode_continue(token: str) -> tuple[int, str]:
    """(revision, first key relative to what is listed). Raises BadRequest."""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        if problem := syntax_error(text):
            raise ValueError(problem)
        content = orjson.loads(text)
        version, revision, start = content.get("v", ""), int(content.get("rv", 0)), str(content.get("start", ""))
        if version != _TOKEN_VERSION:
            raise ValueError(f'server does not recognize this encoded version "{version}"')
        if not (revision == THE_PRESENT or 0 < revision < MAX_REVISION):
            raise ValueError(f"incorrect encoded start resourceVersion (version {_TOKEN_VERSION})")
        if not start:
            raise ValueError(f"encoded start key empty (version {_TOKEN_VERSION})")
        key = start.removeprefix("/")
        if posixpath.normpath("/" + key) != "/" + key:
            raise ValueError(start)
    except (ValueError, AttributeError, TypeError, binascii.Error) as error:
        raise bad_request(f"invalid continue token: continue key is not valid: {error}") from error
    return revision, key
