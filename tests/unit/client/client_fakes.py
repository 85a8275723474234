"""An API server of one resource in memory: every change has a revision, watches resume from one, outages on demand."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from tillerman.api import status
from tillerman.client.resource import Identity, ListResult, WatchEvent
from tillerman.client.typed import identity_of

M = TypeVar("M", bound=Message)


def outage() -> status.StatusError:
    error = status.internal("the server is away")
    error.status.reason = "ServiceUnavailable"
    error.status.code = 503
    return error


class _Encoding:
    def identity(self, obj: Message) -> Identity:
        return identity_of(obj)


class MemoryResource(Generic[M]):
    """Stands in for ResourceClient[M] where list, watch, get, create and update are what counts."""

    namespaced = True
    api_version = "v1"

    def __init__(self, message_type: type[M], resource: str = "pods") -> None:
        self.resource = resource
        self.encoding = _Encoding()
        self.message_type = message_type
        self.revision = 10
        self.compacted = 0
        self.objects: dict[str, M] = {}
        self.history: list[tuple[int, str, M]] = []
        self.lists = 0
        self.watches: list[str] = []
        self.away = False
        self._changed = asyncio.Event()
        self._cut = asyncio.Event()

    # What tests do

    def put(self, key: str, **labels: str) -> M:
        """Creates or changes the object of the key."""
        namespace, _, name = key.rpartition("/")
        old = self.objects.get(key)
        obj: Any = self.message_type()
        obj.metadata.namespace, obj.metadata.name = namespace, name
        obj.metadata.uid = old.metadata.uid if old is not None else f"uid-{self.revision}"  # type: ignore[attr-defined]
        for label, value in labels.items():
            obj.metadata.labels[label] = value
        return self._store("MODIFIED" if old is not None else "ADDED", key, obj)

    def remove(self, key: str) -> M:
        obj: Any = self.message_type()
        obj.CopyFrom(self.objects[key])
        return self._store("DELETED", key, obj)

    def cut(self) -> None:
        """Breaks every open watch."""
        self._cut.set()
        self._cut = asyncio.Event()

    def compact(self) -> None:
        """Revisions up to now can no longer be watched from."""
        self.compacted = self.revision

    def _store(self, kind: str, key: str, obj: Any) -> M:
        self.revision += 1
        obj.metadata.resourceVersion = str(self.revision)
        if kind == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = obj
        self.history.append((self.revision, kind, obj))
        self._changed.set()
        self._changed = asyncio.Event()
        return obj  # type: ignore[no-any-return]

    # What the client library calls

    async def list(self, namespace: str | None = None, **_: object) -> ListResult[M]:
        self.lists += 1
        if self.away:
            raise outage()
        chosen = [o for k, o in self.objects.items() if not namespace or k.startswith(namespace + "/")]
        return ListResult(chosen, str(self.revision))

    async def watch_batches(
        self, namespace: str | None = None, *, resource_version: str, **_: object
    ) -> AsyncGenerator[Sequence[WatchEvent[M]], None]:
        self.watches.append(resource_version)
        seen = int(resource_version)
        cut = self._cut
        while True:
            if self.away or cut.is_set():
                raise outage()
            if seen < self.compacted:
                raise status.expired("too old resource version")
            changed = self._changed
            news = [(r, k, o) for r, k, o in self.history if r > seen]
            if news:
                seen = news[-1][0]
                yield [WatchEvent(kind, obj, str(revision)) for revision, kind, obj in news]
                continue
            waits = [asyncio.ensure_future(event.wait()) for event in (changed, cut)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def get(self, name: str, namespace: str | None = None, **_: object) -> M:
        if self.away:
            raise outage()
        found = self.objects.get(f"{namespace}/{name}")
        if found is None:
            raise status.not_found(self.resource, name)
        return found

    async def create(self, obj: M, **_: object) -> M:
        if self.away:
            raise outage()
        key = identity_of(obj).key
        if key in self.objects:
            raise status.already_exists(self.resource, key)
        copy: Any = self.message_type()
        copy.CopyFrom(obj)
        return self._store("ADDED", key, copy)

    async def update(self, obj: M, **_: object) -> M:
        if self.away:
            raise outage()
        identity = identity_of(obj)
        if identity_of(self.objects[identity.key]).resource_version != identity.resource_version:
            raise status.conflict(self.resource, identity.name)
        copy: Any = self.message_type()
        copy.CopyFrom(obj)
        return self._store("MODIFIED", identity.key, copy)
