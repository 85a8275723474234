"""Informers: a local, current copy of a resource, and calls for whatever changes in it.

One task per informer lists, then watches from the list's revision. It applies events to the store and calls handlers
one after another, in order, from that task; store and handlers always agree. A broken watch resumes from the last
revision seen; when that is gone (Expired), the informer lists again and derives the missed events by comparing with the
store: every change of state is told once, none twice. Readers read the store at any time, without waiting.

Objects in the store are shared: never change one, copy it first (`copy = Pod(); copy.CopyFrom(pod)`).
"""

import asyncio
import builtins
import logging
import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from tillerman.client.client import Client
from tillerman.client.clock import Clock, RealClock
from tillerman.client.informer_metrics import EVENTS, HANDLER_ERRORS, OBJECTS, RELISTS, WATCH_BREAKS
from tillerman.client.resource import ResourceClient, WatchEvent
from tillerman.client.store import Store

T = TypeVar("T")
M = TypeVar("M", bound=Message)

log = logging.getLogger(__name__)

# Seconds before the first retry and at most between two; each is scattered by half.
RETRY_FIRST = 0.05
RETRY_MAX = 5.0

# So many objects of a list are applied before other tasks get a turn.
_LIST_CHUNK = 500


class Handler(Generic[T]):
    """Synchronous callables; they should do no more than note a key. One that raises is logged, the others go on."""

    __slots__ = ("on_add", "on_delete", "on_update")

    def __init__(
        self,
        on_add: Callable[[T], object] | None,
        on_update: Callable[[T, T], object] | None,
        on_delete: Callable[[T], object] | None,
    ) -> None:
        self.on_add = on_add
        self.on_update = on_update
        self.on_delete = on_delete


class Informer(Generic[T]):
    """`synced` is set once the first list is in the store and handlers have been told of it."""

    def __init__(
        self,
        resource: ResourceClient[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        clock: Clock | None = None,
    ) -> None:
        self.name = resource.resource
        self.synced = asyncio.Event()
        self._resource = resource
        self._scope = namespace or None
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._clock = clock or RealClock()
        self._identity = resource.encoding.identity
        self._store: Store[T] = Store()
        self._handlers: list[Handler[T]] = []
        self._revision = ""
        self._failures = 0
        # Whether the present watch has brought anything.
        self._heard = False
        OBJECTS.labels(self.name).set_function(self._store.__len__)

    # Reading

    def get(self, key: str) -> T | None:
        """By "namespace/name", or "name" for what has no namespace."""
        return self._store.objects.get(key)

    def list(self, namespace: str | None = None) -> builtins.list[T]:
        if not namespace:
            return [*self._store.objects.values()]
        prefix = namespace + "/"
        return [obj for key, obj in self._store.objects.items() if key.startswith(prefix)]

    def keys(self) -> Iterable[str]:
        return self._store.objects.keys()

    def by_index(self, name: str, value: str) -> builtins.list[T]:
        """Objects for which the index function gave the value. Raises KeyError for an index that was never added."""
        return self._store.by_index(name, value)

    def __len__(self) -> int:
        return len(self._store)

    @property
    def resource_version(self) -> str:
        """The revision up to which the store is known to be current; empty before the first list."""
        return self._revision

    # Set-up

    def add_index(self, name: str, fn: Callable[[T], Iterable[str]]) -> None:
        """fn gives the values under which an object is found. Adding an index again under its name changes nothing."""
        self._store.add_index(name, fn)

    def add_handler(
        self,
        *,
        on_add: Callable[[T], object] | None = None,
        on_update: Callable[[T, T], object] | None = None,
        on_delete: Callable[[T], object] | None = None,
    ) -> None:
        """on_add(obj), on_update(old, new), on_delete(last state). A late handler is told of what is there at once."""
        handler = Handler(on_add, on_update, on_delete)
        self._handlers.append(handler)
        if on_add is not None:
            for obj in [*self._store.objects.values()]:
                self._call(on_add, obj)

    # Running

    async def run(self) -> None:
        """Lists and watches until cancelled; survives whatever the API server does."""
        from tillerman.api.status import StatusError, is_expired

        while True:
            try:
                self._heard = False
                if not self._revision:
                    await self._list()
                await self._watch()
            except StatusError as error:
                WATCH_BREAKS.labels(self.name, error.reason or "Unknown").inc()
                if self._heard and is_expired(error):
                    # Too slow for the server, but the revision just seen is most likely still good.
                    continue
                if not _is_outage(error):
                    # The revision is of no use any more, or never was: start over.
                    self._revision = ""
                level = logging.WARNING if self._failures == 4 else logging.DEBUG
                log.log(level, "informer %s: %s; trying again", self.name, error)
                await self._back_off()

    async def _list(self) -> None:
        """The first list may come from the API server's cache; a later one must not be older than what was seen."""
        result = await self._resource.list(
            self._scope,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            resource_version="" if self.synced.is_set() else "0",
        )
        RELISTS.labels(self.name).inc()
        gone = set(self._store.objects)
        for number, obj in enumerate(result.items):
            if number % _LIST_CHUNK == _LIST_CHUNK - 1:
                await asyncio.sleep(0)
            gone.discard(self._identity(obj).key)
            self._put(obj)
        for key in gone:
            self._remove(key, None)
        self._revision = result.resource_version
        self._failures = 0
        self.synced.set()

    async def _watch(self) -> None:
        started = self._clock.monotonic()
        batches = self._resource.watch_batches(
            self._scope,
            resource_version=self._revision,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        try:
            async for batch in batches:
                self._apply(batch)
                self._heard = True
                self._failures = 0
        finally:
            await batches.aclose()
        if not self._heard and self._clock.monotonic() - started < 1.0:
            # A server that ends watches as soon as they begin must not be asked in a tight loop.
            await self._back_off()

    async def _back_off(self) -> None:
        delay = min(RETRY_FIRST * 2.0 ** min(self._failures, 16), RETRY_MAX)
        self._failures += 1
        await self._clock.sleep(delay * random.uniform(0.5, 1.0))

    def _apply(self, batch: Sequence[WatchEvent[T]]) -> None:
        for event in batch:
            if event.type == "DELETED":
                self._remove(self._identity(event.object).key, event.object)
            elif event.type != "BOOKMARK":
                self._put(event.object)
            self._revision = event.resource_version or self._revision
        EVENTS.labels(self.name).inc(len(batch))

    def _put(self, obj: T) -> None:
        identity = self._identity(obj)
        old = self._store.objects.get(identity.key)
        if old is None:
            self._store.put(identity.key, obj)
            self._added(obj)
            return
        before = self._identity(old)
        if before.resource_version == identity.resource_version:
            return
        if before.uid != identity.uid:
            # Deleted and made again while nobody looked: two events, as if someone had.
            self._remove(identity.key, None)
            self._store.put(identity.key, obj)
            self._added(obj)
            return
        self._store.put(identity.key, obj)
        for handler in self._handlers:
            if handler.on_update is not None:
                self._call(handler.on_update, old, obj)

    def _added(self, obj: T) -> None:
        for handler in self._handlers:
            if handler.on_add is not None:
                self._call(handler.on_add, obj)

    def _remove(self, key: str, last: T | None) -> None:
        known = self._store.remove(key)
        if known is None:
            return
        final = known if last is None else last
        for handler in self._handlers:
            if handler.on_delete is not None:
                self._call(handler.on_delete, final)

    def _call(self, handler: Callable[..., object], *args: Any) -> None:
        try:
            handler(*args)
        except Exception:
            HANDLER_ERRORS.labels(self.name).inc()
            log.exception("informer %s: a handler failed for %s", self.name, self._identity(args[-1]).key)


class InformerFactory:
    """The informers of one process; one per (kind, namespace, selectors), shared by everyone who asks."""

    def __init__(self, client: Client, *, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or RealClock()
        self._informers: dict[Hashable, Informer[Any]] = {}
        self._task_group: asyncio.TaskGroup | None = None

    def informer(
        self, message_type: type[M], *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Informer[M]:
        """May be called before or after `start`. Raises LookupError for a message that is no served kind."""
        key = (message_type, namespace, label_selector, field_selector)
        return self._shared(key, lambda: self._client.resource(message_type), namespace, label_selector, field_selector)

    def dynamic_informer(
        self,
        api_version: str,
        resource: str,
        namespaced: bool,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> Informer[dict[str, Any]]:
        """Objects as dicts: custom resources."""
        key = (api_version, resource, namespace, label_selector, field_selector)
        return self._shared(
            key,
            lambda: self._client.dynamic(api_version, resource, namespaced),
            namespace,
            label_selector,
            field_selector,
        )

    async def start(self, task_group: asyncio.TaskGroup) -> None:
        """Runs every informer, those asked for later included, in the task group."""
        self._task_group = task_group
        for informer in self._informers.values():
            self._run(informer)

    async def wait_synced(self) -> None:
        for informer in [*self._informers.values()]:
            await informer.synced.wait()

    @property
    def synced(self) -> bool:
        return all(informer.synced.is_set() for informer in self._informers.values())

    def _shared(
        self,
        key: Hashable,
        resource: Callable[[], ResourceClient[T]],
        namespace: str,
        label_selector: str,
        field_selector: str,
    ) -> Informer[T]:
        informer = self._informers.get(key)
        if informer is None:
            informer = self._informers[key] = Informer(
                resource(),
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                clock=self._clock,
            )
            if self._task_group is not None:
                self._run(informer)
        return informer

    def _run(self, informer: Informer[Any]) -> None:
        assert self._task_group is not None
        self._task_group.create_task(informer.run(), name=f"informer-{informer.name}")


def _is_outage(error: Exception) -> bool:
    """The API server could not be reached or did not answer: what was seen stays good, the watch can resume."""
    return getattr(error, "reason", "") in ("ServiceUnavailable", "TooManyRequests", "InternalError", "Unauthorized")
