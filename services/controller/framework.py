"""What every controller is made of: a context to read and write through, one work queue, and a reconcile function.

A controller registers its informers and handlers when it is constructed. `run` waits until those informers (and only
those) are synced, then runs its workers: one worker per key at a time, many keys at once. Handlers are synchronous and
only put keys into queues. Reconcile reads caches, converges, and may be run again at any moment.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from google.protobuf.message import Message

from services.controller.options import ControllerManagerOptions
from tillerman.api.meta import Object, key_of
from tillerman.api.status import StatusError, is_conflict
from tillerman.client.client import Client
from tillerman.client.clock import Clock
from tillerman.client.events import EventRecorder
from tillerman.client.informer import Informer, InformerFactory
from tillerman.client.workqueue import WorkQueue, run_workers

T = TypeVar("T", bound=Message)


class Log(Protocol):
    """The part of a structlog logger that controllers use."""

    def debug(self, event: str, /, **fields: Any) -> Any: ...
    def info(self, event: str, /, **fields: Any) -> Any: ...
    def warning(self, event: str, /, **fields: Any) -> Any: ...
    def error(self, event: str, /, **fields: Any) -> Any: ...


@dataclass(kw_only=True)
class ControllerContext:
    """What a controller is given. `recorder` makes one event recorder per component name."""

    client: Client
    informers: InformerFactory
    recorder: Callable[[str], EventRecorder]
    clock: Clock
    options: ControllerManagerOptions
    log: Log


NAMESPACE_INDEX = "namespace"


def index_by_namespace(informer: Informer[Any]) -> None:
    """Lets `in_namespace` find objects without a look at those of other namespaces."""
    informer.add_index(NAMESPACE_INDEX, lambda obj: (obj.metadata.namespace,))


def in_namespace(informer: Informer[T], namespace: str) -> list[T]:
    """The objects of one namespace, of an informer that has been given to `index_by_namespace`."""
    return informer.by_index(NAMESPACE_INDEX, namespace)


@dataclass
class ControllerStats:
    """Counts since the process started."""

    reconciles: int = 0
    failures: int = 0
    last_error: str = ""


class Controller(ABC):
    """Base of all controllers. Subclasses set `name` and `workers`, and implement `reconcile(key)`."""

    name: ClassVar[str]
    workers: ClassVar[int] = 5

    def __init__(self, context: ControllerContext) -> None:
        self.context = context
        self.client = context.client
        self.clock = context.clock
        self.options = context.options
        self.log = context.log
        self.queue = WorkQueue(self.name, clock=context.clock)
        self.stats = ControllerStats()
        self.running = False
        self._needs: list[Informer[Any]] = []

    def informer(self, message: type[T]) -> Informer[T]:
        """The shared informer of one kind; `run` will wait for it."""
        return self.needs(self.context.informers.informer(message))

    def needs(self, informer: Informer[T]) -> Informer[T]:
        """`run` will wait for this informer, too."""
        self._needs.append(informer)
        return informer

    def enqueue(self, obj: Object) -> None:
        """Queue an object by its key."""
        self.queue.add(key_of(obj))

    def known_keys(self) -> list[str]:
        """The keys that a full resync puts into the queue."""
        return []

    @abstractmethod
    async def reconcile(self, key: str) -> float | None:
        """Converge one key; returns seconds after which to look again, or None."""

    def background(self) -> list[Callable[[], Awaitable[None]]]:
        """Loops that run beside the workers, once the informers are synced."""
        return []

    async def run(self) -> None:
        """Runs until cancelled."""
        for informer in self._needs:
            await informer.synced.wait()
        self.running = True
        try:
            async with asyncio.TaskGroup() as group:
                for loop in self.background():
                    group.create_task(_awaited(loop), name=f"{self.name}:{getattr(loop, '__name__', 'loop')}")
                group.create_task(
                    run_workers(self.queue, self._counted, workers=self.workers), name=f"{self.name}:workers"
                )
        finally:
            self.running = False

    async def _counted(self, key: str) -> float | None:
        self.stats.reconciles += 1
        try:
            return await self.reconcile(key)
        except Exception as error:
            # A stale read is repaired by the event that is under way, so it is tried again but counts as no failure.
            if not (isinstance(error, StatusError) and is_conflict(error)):
                self.stats.failures += 1
                self.stats.last_error = f"{key}: {error}"
            raise


async def _awaited(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()
