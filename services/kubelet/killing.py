"""ContainerKiller: ends containers of one pod as they ask for it, and hears of their end.

Called by the pod's actions, one call per container at a time; `ended` and `hurry` are the worker's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from services.kubelet.observed import Observed
from services.kubelet.plan import MIN_GRACE_SECONDS
from services.kubelet.runtime.interface import ContainerState, Phase, Runtime, RuntimeFailure
from tillerman.client.clock import Clock

log = structlog.get_logger(__name__)
# How long to wait for the event of an exit after SIGKILL before looking, and the grace of a pod deleted by force.
_LOOK_SECONDS = 10.0
_HURRY_SECONDS = 1.0


async def until_done(clock: Clock, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
    """Cleaning up has no alternative: tried until the runtime does it."""
    delay = 0.2
    while True:
        try:
            await attempt()
            return
        except RuntimeFailure as error:
            log.warning("retrying", what=what, error=str(error))
            await clock.sleep(delay)
            delay = min(delay * 2, 10.0)


class ContainerKiller:
    def __init__(
        self, observed: Observed, runtime: Runtime, clock: Clock, *, hook_failed: Callable[[str, BaseException], None]
    ) -> None:
        """hook_failed(container, why) is told of a preStop hook that failed."""
        self._observed = observed
        self._runtime = runtime
        self._clock = clock
        self._hook_failed = hook_failed
        # Set when every kill has to hurry: the pod was deleted by force.
        self.hurry = asyncio.Event()
        self._exits: dict[str, asyncio.Event] = {}

    def ended(self, container_id: str) -> None:
        event = self._exits.get(container_id)
        if event is not None:
            event.set()

    async def kill(
        self, state: ContainerState, grace_seconds: float, pre_stop: Callable[[], Awaitable[None]] | None
    ) -> None:
        """preStop, stop signal, grace, SIGKILL; returns when the container has ended."""
        exited = self._exits.setdefault(state.id, asyncio.Event())
        if not self._runs(state):
            exited.set()
        clock, runtime = self._clock, self._runtime
        end = clock.monotonic() + grace_seconds
        if pre_stop is not None and grace_seconds > 0 and not exited.is_set():
            await self._pre_stop(state.name, pre_stop, grace_seconds, exited)
            end = max(end, clock.monotonic() + MIN_GRACE_SECONDS)
        if grace_seconds > 0 and not exited.is_set():
            await until_done(clock, "stop container", lambda: runtime.signal_container(state.id, ""))
            await self._wait_exit(exited, end)
        while not exited.is_set():
            await until_done(clock, "kill container", lambda: runtime.signal_container(state.id, "SIGKILL"))
            await self._wait(exited, None, clock.monotonic() + _LOOK_SECONDS)
            if not exited.is_set():
                await self._look(state)
        self._exits.pop(state.id, None)

    def _runs(self, state: ContainerState) -> bool:
        return any(
            attempt.id == state.id and attempt.phase is Phase.RUNNING
            for attempt in self._observed.view(state.name).attempts
        )

    async def _look(self, state: ContainerState) -> None:
        """No exit was heard of after a SIGKILL: see whether the container is still there."""
        inventory = await self._runtime.inventory()
        found = next((c for c in inventory.containers if c.id == state.id), None)
        if found is None or found.phase is not Phase.RUNNING:
            view, now = self._observed.view(state.name), self._clock.time()
            ended = found or replace(state, phase=Phase.EXITED, exit_code=137, reason="Error", finished_at=now)
            view.attempts = [ended if attempt.id == state.id else attempt for attempt in view.attempts]
            self.ended(state.id)

    async def _pre_stop(
        self, name: str, pre_stop: Callable[[], Awaitable[None]], grace: float, exited: asyncio.Event
    ) -> None:
        """Until the hook is done, the grace is over, the container has ended, or there is hurry."""

        async def run() -> None:
            await pre_stop()

        hook = asyncio.create_task(run(), name="preStop")
        done = asyncio.Event()
        hook.add_done_callback(lambda _: done.set())
        try:
            await self._first([done, exited, self.hurry], self._clock.monotonic() + grace)
            failure = hook.exception() if hook.done() and not hook.cancelled() else None
            if failure is not None:
                self._hook_failed(name, failure)
        finally:
            hook.cancel()
            await asyncio.gather(hook, return_exceptions=True)

    async def _wait_exit(self, exited: asyncio.Event, end: float) -> None:
        """Until the container has ended or the time is up; with hurry that is soon."""
        if not self.hurry.is_set():
            await self._wait(exited, self.hurry, end)
        if self.hurry.is_set():
            await self._wait(exited, None, min(end, self._clock.monotonic() + _HURRY_SECONDS))

    async def _wait(self, exited: asyncio.Event, also: asyncio.Event | None, end: float) -> None:
        await self._first([exited] if also is None else [exited, also], end)

    async def _first(self, events: list[asyncio.Event], end: float) -> None:
        """Until one of the events is set, or the monotonic time `end`."""
        if any(event.is_set() for event in events):
            return
        timed_out = asyncio.Event()
        timer = self._clock.call_later(max(end - self._clock.monotonic(), 0.0), timed_out.set)
        waits = [asyncio.create_task(event.wait(), name="kill-wait") for event in [*events, timed_out]]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
