"""The hollow runtime: no containers at all. Pods become Running at once; for simulating many nodes, and for tests.

Everything is in memory, so a restarted hollow kubelet starts its pods anew. A test may end a container with `finish`.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from services.kubelet.runtime.interface import (
    ContainerSpec,
    ContainerState,
    EventKind,
    ImageState,
    Inventory,
    LogOptions,
    NotFoundFailure,
    Phase,
    RegistryAuth,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    RuntimeInfo,
    SandboxSpec,
    SandboxState,
    Session,
    Usage,
)
from tillerman.client.clock import Clock

_CAVEAT = "the hollow runtime runs nothing: pods are Running in name only"


class HollowRuntime:
    name = "hollow"

    def __init__(self, *, clock: Clock, start_delay: float = 0.0, stop_delay: float = 0.0) -> None:
        """Delays in seconds, per container."""
        self._clock = clock
        self._start_delay = start_delay
        self._stop_delay = stop_delay
        self._ids = itertools.count(1)
        self.sandboxes: dict[str, SandboxState] = {}
        self.containers: dict[str, ContainerState] = {}
        self._events: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        # How often each method was called.
        self.calls: dict[str, int] = {}
        # Images that cannot be had: name to the registry's words.
        self.missing_images: dict[str, str] = {}

    async def start(self) -> RuntimeInfo:
        return RuntimeInfo("hollow", "1", "hollow://1", (_CAVEAT,))

    async def close(self) -> None:
        self._count("close")

    async def ping(self) -> None:
        self._count("ping")

    def pod_cidr(self, node_cidr: str) -> str:
        return node_cidr

    async def inventory(self) -> Inventory:
        return Inventory(tuple(self.sandboxes.values()), tuple(self.containers.values()))

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        while True:
            yield await self._events.get()

    async def run_sandbox(self, spec: SandboxSpec) -> SandboxState:
        self._count("run_sandbox")
        state = SandboxState(
            self._id(), spec.pod, spec.attempt, True, spec.ip or "", self._clock.time(), spec.grace_seconds
        )
        self.sandboxes[state.id] = state
        return state

    async def remove_sandbox(self, sandbox_id: str) -> None:
        self._count("remove_sandbox")
        self.sandboxes.pop(sandbox_id, None)

    async def run_container(self, sandbox: SandboxState, spec: ContainerSpec) -> ContainerState:
        self._count("run_container")
        if self._start_delay:
            await self._clock.sleep(self._start_delay)
        now = self._clock.time()
        state = ContainerState(
            id=self._id(),
            pod=spec.pod,
            name=spec.name,
            attempt=spec.attempt,
            sandbox_attempt=sandbox.attempt,
            phase=Phase.RUNNING,
            image=spec.image,
            image_id=spec.image_id,
            hash=spec.hash,
            backoff_seconds=spec.backoff_seconds,
            created_at=now,
            started_at=now,
            message_file=spec.message_file,
        )
        self.containers[state.id] = state
        return state

    def finish(self, container_id: str, exit_code: int = 0) -> None:
        """The container ends by itself."""
        state = self.containers.get(container_id)
        if state is None or state.phase is not Phase.RUNNING:
            return
        now, reason = self._clock.time(), "Completed" if exit_code == 0 else "Error"
        self.containers[container_id] = replace(
            state, phase=Phase.EXITED, exit_code=exit_code, finished_at=now, reason=reason
        )
        self._events.put_nowait(
            RuntimeEvent(
                EventKind.CONTAINER_EXITED,
                state.pod.uid,
                container_id,
                exit_code=exit_code,
                finished_at=now,
                reason=reason,
            )
        )

    def lose_sandbox(self, sandbox_id: str) -> None:
        """The sandbox dies by itself."""
        state = self.sandboxes[sandbox_id]
        self.sandboxes[sandbox_id] = replace(state, running=False)
        self._events.put_nowait(RuntimeEvent(EventKind.SANDBOX_EXITED, state.pod.uid, sandbox_id))

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        self._count("update_resources")

    async def signal_container(self, container_id: str, signal: str) -> None:
        self._count("signal_container")
        if self._stop_delay and signal != "SIGKILL":
            await self._clock.sleep(self._stop_delay)
        self.finish(container_id, 137 if signal == "SIGKILL" else 143)

    async def remove_container(self, container_id: str) -> None:
        self._count("remove_container")
        self.containers.pop(container_id, None)

    async def remove_shared(self) -> None:
        return

    async def image(self, reference: str) -> ImageState | None:
        if reference in self.missing_images:
            return None
        return ImageState(f"hollow:{reference}", (reference,))

    async def images(self) -> Sequence[ImageState]:
        return ()

    async def pull(self, reference: str, auth: RegistryAuth | None) -> ImageState:
        self._count("pull")
        if reference in self.missing_images:
            raise NotFoundFailure(self.missing_images[reference])
        return ImageState(f"hollow:{reference}", (reference,))

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Session:
        raise RuntimeFailure(_CAVEAT)

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> Session:
        raise RuntimeFailure(_CAVEAT)

    async def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
        for line in (f"{_CAVEAT}\n".encode(),):
            yield line

    async def usage(self, container_ids: Sequence[str]) -> Mapping[str, Usage]:
        now = self._clock.time()
        return {container_id: Usage(now, 0, 0) for container_id in container_ids if container_id in self.containers}

    async def dial(self, sandbox: SandboxState, port: int) -> tuple[str, int]:
        raise RuntimeFailure(_CAVEAT)

    def _id(self) -> str:
        return f"{next(self._ids):064x}"

    def _count(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1
