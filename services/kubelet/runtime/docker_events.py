"""Docker's event stream as runtime events.

Two streams, each read by one task of the caller's iterator: containers of this cluster and node, and images (which
only say that what is known of them is stale). A stream that breaks is opened again from the last event's time, and
RESYNC tells the kubelet to look at everything once.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import structlog

from services.kubelet.runtime import interface as ri
from services.kubelet.runtime.docker_engine import Engine
from services.kubelet.runtime.docker_spec import KIND_CONTAINER, KIND_SANDBOX, exit_reason
from services.kubelet.runtime.interface import EventKind, RuntimeEvent, RuntimeFailure

log = structlog.get_logger(__name__)
_RETRY_SECONDS = 0.5
# 128 + SIGKILL: what a container that ran out of memory exits with.
_KILLED = 137
# Seconds between looks at what killed a container that has a memory limit.
_OOM_WAITS = (0.05, 0.1, 0.2, 0.0)


class DockerEvents:
    def __init__(self, engine: Engine, *, labels: Mapping[str, str], on_image_event: Callable[[], None]) -> None:
        self._engine = engine
        self._labels = labels
        self._on_image_event = on_image_event
        self._out_of_memory: set[str] = set()

    async def stream(self) -> AsyncIterator[RuntimeEvent]:
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._containers(queue), name="docker-container-events"),
            asyncio.create_task(self._watch_images(), name="docker-image-events"),
        ]
        try:
            while True:
                yield await queue.get()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _containers(self, queue: asyncio.Queue[RuntimeEvent]) -> None:
        filters = {
            "type": ["container"],
            "event": ["die", "oom", "destroy"],
            "label": [f"{name}={value}" for name, value in self._labels.items()],
        }
        async for message in self._messages(filters, lambda: queue.put_nowait(RuntimeEvent(EventKind.RESYNC))):
            event = await self._event_of(message)
            if event is not None:
                queue.put_nowait(event)

    async def _watch_images(self) -> None:
        async for _ in self._messages({"type": ["image"]}, self._on_image_event):
            self._on_image_event()

    async def _messages(
        self, filters: Mapping[str, object], on_connect: Callable[[], None]
    ) -> AsyncIterator[Mapping[str, Any]]:
        since = ""
        while True:
            try:
                query = {"filters": json.dumps(filters), **({"since": since} if since else {})}
                stream = await self._engine.stream("GET", "/events", query=query)
            except RuntimeFailure as error:
                log.warning("docker_events_unavailable", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                # Whatever happened before the stream was open is seen by looking.
                on_connect()
                async for line in stream.lines():
                    with contextlib.suppress(ValueError):
                        message = json.loads(line)
                        stamp = int(message.get("timeNano", 0))
                        since = f"{stamp // 1_000_000_000}.{stamp % 1_000_000_000 + 1:09d}"
                        yield message
            finally:
                stream.close()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _event_of(self, message: Mapping[str, Any]) -> RuntimeEvent | None:
        actor = message.get("Actor", {})
        attributes = actor.get("Attributes", {})
        container_id, action = actor.get("ID", ""), message.get("Action", "")
        uid = attributes.get(ri.LABEL_POD_UID, "")
        if attributes.get(ri.LABEL_KIND) == KIND_SANDBOX:
            return RuntimeEvent(EventKind.SANDBOX_EXITED, uid, container_id) if action == "die" else None
        if attributes.get(ri.LABEL_KIND) != KIND_CONTAINER:
            return None
        if action == "oom":
            self._out_of_memory.add(container_id)
            return None
        if action == "destroy":
            self._out_of_memory.discard(container_id)
            return RuntimeEvent(EventKind.CONTAINER_REMOVED, uid, container_id)
        if action != "die":
            return None
        exit_code = int(attributes.get("exitCode", 0))
        out_of_memory = container_id in self._out_of_memory
        if exit_code == _KILLED and not out_of_memory:
            out_of_memory = await self._inspect_oom(container_id)
        return RuntimeEvent(
            EventKind.CONTAINER_EXITED,
            uid,
            container_id,
            exit_code=exit_code,
            finished_at=int(message.get("timeNano", 0)) / 1e9,
            reason=exit_reason(exit_code, oom=out_of_memory),
        )

    async def _inspect_oom(self, container_id: str) -> bool:
        """The oom event may come after the die event; the container's state knows, if not at once."""
        for wait in _OOM_WAITS:
            try:
                answer = await self._engine.call("inspect", lambda client: client.inspect_container(container_id))
            except RuntimeFailure:
                return False
            if answer["State"].get("OOMKilled") or container_id in self._out_of_memory:
                return True
            if not answer["HostConfig"].get("Memory"):
                # Nothing but somebody's signal can have killed it.
                return False
            await asyncio.sleep(wait)
        return False
