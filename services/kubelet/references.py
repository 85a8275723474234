"""ConfigMaps and Secrets that pods of this node refer to: each read once, then watched while a pod needs it.

Watches are per object, which is what a node is allowed to watch. One task per watched object; it ends when the last pod
lets go.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog
from google.protobuf.message import Message

from tillerman.api.status import StatusError, is_not_found
from tillerman.client.client import Client
from tillerman.client.clock import Clock
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
T = TypeVar("T", bound=Message)
_RETRY_SECONDS = 2.0


class ReferenceStore(Generic[T]):
    def __init__(self, client: Client, message_type: type[T], *, clock: Clock) -> None:
        self._resource = client.resource(message_type)
        self._clock = clock
        self._objects: dict[tuple[str, str], T | None] = {}
        self._users: dict[tuple[str, str], dict[str, Callable[[], None]]] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._reads: dict[tuple[str, str], asyncio.Task[T | None]] = {}

    async def get(self, namespace: str, name: str) -> T | None:
        """None when it does not exist. Raises StatusError when the API server cannot say."""
        key = (namespace, name)
        if key in self._objects and key in self._tasks:
            return self._objects[key]
        read = self._reads.get(key)
        if read is None:
            read = self._reads[key] = asyncio.create_task(self._read(key), name=f"read {namespace}/{name}")
            read.add_done_callback(lambda _: self._reads.pop(key, None))
        return await asyncio.shield(read)

    async def _read(self, key: tuple[str, str]) -> T | None:
        try:
            return await self._resource.get(key[1], key[0])
        except StatusError as error:
            if is_not_found(error):
                return None
            raise

    def watch(self, namespace: str, name: str, user: str, on_change: Callable[[], None]) -> None:
        """Calls on_change whenever the object changes, until `unwatch(user)`."""
        key = (namespace, name)
        self._users.setdefault(key, {})[user] = on_change
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._follow(key), name=f"watch {namespace}/{name}")

    def unwatch(self, user: str) -> None:
        for key, users in list(self._users.items()):
            users.pop(user, None)
            if not users:
                del self._users[key]
                self._objects.pop(key, None)
                task = self._tasks.pop(key, None)
                if task is not None:
                    task.cancel()

    async def close(self) -> None:
        tasks = [*self._tasks.values(), *self._reads.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, key: tuple[str, str]) -> None:
        namespace, name = key
        while True:
            try:
                found = await self._resource.list(namespace, field_selector=f"metadata.name={name}")
                self._set(key, found.items[0] if found.items else None)
                events = self._resource.watch(
                    namespace, resource_version=found.resource_version, field_selector=f"metadata.name={name}"
                )
                async for event in events:
                    if event.type == "BOOKMARK":
                        continue
                    self._set(key, None if event.type == "DELETED" else event.object)
            except StatusError as error:
                log.debug("reference_watch_ended", object=f"{namespace}/{name}", error=str(error))
            await self._clock.sleep(_RETRY_SECONDS)

    def _set(self, key: tuple[str, str], obj: T | None) -> None:
        known = key in self._objects
        if known and self._objects[key] == obj:
            return
        self._objects[key] = obj
        if known:
            for on_change in list(self._users.get(key, {}).values()):
                on_change()


class References:
    """Both kinds together."""

    def __init__(self, client: Client, *, clock: Clock) -> None:
        self.config_maps = ReferenceStore(client, core.ConfigMap, clock=clock)
        self.secrets = ReferenceStore(client, core.Secret, clock=clock)

    def unwatch(self, user: str) -> None:
        self.config_maps.unwatch(user)
        self.secrets.unwatch(user)

    async def close(self) -> None:
        await self.config_maps.close()
        await self.secrets.close()
