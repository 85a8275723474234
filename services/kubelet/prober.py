"""Probes of one pod's containers: a task per container attempt and probe, results into the pod's Observed.

A startup probe holds the others back until it succeeds. Started by the pod worker when a container starts, stopped when
it ends.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from services.kubelet.metrics import PROBES
from services.kubelet.observed import ContainerView
from services.kubelet.probe_actions import ProbeOutcome
from tillerman.client.clock import Clock
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
# (event type, reason, message)
Report = Callable[[str, str, str], None]
# (handler, timeout in seconds)
RunProbe = Callable[[core.ProbeHandler, float], Awaitable[ProbeOutcome]]


@dataclass(slots=True)
class ProbeCounter:
    """Thresholds of one probe: pure."""

    success_threshold: int
    failure_threshold: int
    # None until one threshold was reached for the first time.
    state: bool | None = None
    _streak: int = 0
    _last: bool | None = None

    def count(self, ok: bool) -> bool | None:
        """The state after this result."""
        self._streak = self._streak + 1 if ok == self._last else 1
        self._last = ok
        if self._streak >= (self.success_threshold if ok else self.failure_threshold):
            self.state = ok
        return self.state


class ContainerProber:
    """The probes of one attempt of one container."""

    def __init__(
        self,
        pod: core.Pod,
        container: core.Container,
        view: ContainerView,
        *,
        run_probe: RunProbe,
        report: Report,
        changed: Callable[[], None],
        clock: Clock,
        age: float,
        known: core.ContainerStatus | None = None,
    ) -> None:
        """age: seconds that the container has been running, for initialDelaySeconds after a kubelet restart.
        known: what an earlier kubelet found out about it, which holds until probes say otherwise."""
        self._labels = (container.name, pod.metadata.name, pod.metadata.namespace)
        self._container = container
        self._view = view
        self._run_probe = run_probe
        self._report = report
        self._changed = changed
        self._clock = clock
        self._began = clock.monotonic() - age
        self._restarted = age > 1.0
        self._known = known
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        container, view = self._container, self._view
        known = self._known or core.ContainerStatus()
        view.started = known.started or not container.HasField("startupProbe")
        view.ready = (known.ready and view.started) or not container.HasField("readinessProbe")
        probed = [name for name in ("startupProbe", "readinessProbe", "livenessProbe") if container.HasField(name)]
        if probed:
            self._tasks.append(asyncio.create_task(self._run(), name=f"probe {container.name}"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _run(self) -> None:
        container = self._container
        if container.HasField("startupProbe") and not self._view.started:
            await self._startup(container.startupProbe)
            if not self._view.started:
                return
        async with asyncio.TaskGroup() as group:
            if container.HasField("readinessProbe"):
                group.create_task(self._readiness(container.readinessProbe))
            if container.HasField("livenessProbe"):
                group.create_task(self._liveness(container.livenessProbe))

    async def _startup(self, probe: core.Probe) -> None:
        counter = ProbeCounter(1, probe.failureThreshold or 3)
        await self._initial_delay(probe)
        while True:
            outcome = await self._once(probe, "Startup")
            state = counter.count(outcome.ok)
            if state is True:
                self._view.started = True
                self._changed()
                return
            if state is False:
                self._die("startup")
                return
            await self._clock.sleep(probe.periodSeconds or 10)

    async def _readiness(self, probe: core.Probe) -> None:
        counter = ProbeCounter(probe.successThreshold or 1, probe.failureThreshold or 3)
        await self._initial_delay(probe)
        period = float(probe.periodSeconds or 10)
        # Until the first success, look often: a pod should be ready when it is, not up to ten seconds later.
        eager = 0.05
        while True:
            outcome = await self._once(probe, "Readiness", quiet=not self._view.ready and eager < period)
            state = counter.count(outcome.ok)
            ready = state is True
            if ready != self._view.ready and state is not None:
                self._view.ready = ready
                self._changed()
            if self._view.ready or outcome.ok:
                eager = period
            wait = min(eager, period)
            eager = eager * 2
            await self._clock.sleep(wait)

    async def _liveness(self, probe: core.Probe) -> None:
        counter = ProbeCounter(1, probe.failureThreshold or 3)
        await self._initial_delay(probe)
        while True:
            outcome = await self._once(probe, "Liveness")
            if counter.count(outcome.ok) is False:
                self._die("liveness")
                return
            await self._clock.sleep(probe.periodSeconds or 10)

    async def _initial_delay(self, probe: core.Probe) -> None:
        left = self._began + probe.initialDelaySeconds - self._clock.monotonic()
        if left > 0:
            await self._clock.sleep(left)
        elif self._restarted:
            # After a kubelet restart, not all probes of the node at the same instant.
            await self._clock.sleep(random.random() * min(probe.periodSeconds or 10, 1))

    async def _once(self, probe: core.Probe, kind: str, *, quiet: bool = False) -> ProbeOutcome:
        outcome = await self._run_probe(probe.handler, float(probe.timeoutSeconds or 1))
        result = "successful" if outcome.ok else "failed"
        PROBES.labels(kind, result, *self._labels).inc()
        if not outcome.ok and not quiet:
            self._report("Warning", "Unhealthy", f"{kind} probe failed: {outcome.message}")
        return outcome

    def _die(self, kind: str) -> None:
        self._view.must_die = f"Container {self._container.name} failed {kind} probe, will be restarted"
        self._view.ready = False
        self._changed()
