"""StatsCollector: CPU rates and working sets of running containers, sampled every few seconds.

A rate needs two readings: one task samples, and a question is answered with a fresh reading against an older sample.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from services.kubelet.machine import Machine, free_memory, node_cpu_nanoseconds
from services.kubelet.metrics import CONTAINER_CPU, CONTAINER_MEMORY
from services.kubelet.observed import Observed
from services.kubelet.pod_containers import all_containers
from services.kubelet.runtime.interface import Runtime, RuntimeFailure, Usage
from tillerman.client.clock import Clock
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
SAMPLE_SECONDS = 5.0
# A rate is taken over at least this long.
_LEAST_SECONDS = 4.0
_KEPT = 4


@dataclass(slots=True)
class _History:
    readings: deque[Usage] = field(default_factory=lambda: deque(maxlen=_KEPT))
    exported: int = 0

    def rate(self) -> tuple[int, float]:
        """(nanocores, seconds it was taken over); (0, 0.0) with one reading only."""
        if len(self.readings) < 2:
            return 0, 0.0
        last = self.readings[-1]
        first = next((r for r in reversed(self.readings) if last.time - r.time >= _LEAST_SECONDS), self.readings[0])
        seconds = last.time - first.time
        if seconds <= 0:
            return 0, 0.0
        return max(int((last.cpu_total - first.cpu_total) / seconds), 0), seconds


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    name: str
    usage: Usage
    cpu_nanocores: int
    window: float


class StatsCollector:
    def __init__(
        self,
        runtime: Runtime,
        *,
        machine: Machine,
        pods: Callable[[], Iterable[tuple[core.Pod, Observed]]],
        clock: Clock,
    ) -> None:
        self._runtime = runtime
        self._machine = machine
        self._pods = pods
        self._clock = clock
        self._histories: dict[str, _History] = {}
        self._node = _History()
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        while True:
            await self._sample()
            await self._clock.sleep(SAMPLE_SECONDS)

    async def _sample(self) -> None:
        async with self._lock:
            running = {
                view.attempts[0].id: (pod, name)
                for pod, observed in self._pods()
                for name, view in observed.containers.items()
                if view.running
            }
            try:
                readings: Mapping[str, Usage] = await self._runtime.usage(list(running))
            except RuntimeFailure as error:
                log.warning("stats_unavailable", error=str(error))
                return
            self._histories = {i: self._histories.get(i, _History()) for i in running}
            for container_id, reading in readings.items():
                history = self._histories.get(container_id)
                if history is None:
                    continue
                history.readings.append(reading)
                pod, name = running[container_id]
                labels = (name, pod.metadata.name, pod.metadata.namespace)
                CONTAINER_MEMORY.labels(*labels).set(reading.memory)
                CONTAINER_CPU.labels(*labels).inc(max(reading.cpu_total - history.exported, 0) / 1e9)
                history.exported = reading.cpu_total
            used = self._machine.memory - free_memory()
            self._node.readings.append(Usage(self._clock.time(), node_cpu_nanoseconds(), max(used, 0)))

    def forget(self, pod: core.Pod) -> None:
        """The pod is gone: so are its metrics."""
        for container in all_containers(pod):
            for metric in (CONTAINER_MEMORY, CONTAINER_CPU):
                try:
                    metric.remove(container.name, pod.metadata.name, pod.metadata.namespace)
                except KeyError:
                    continue

    async def current(self) -> tuple[ContainerUsage | None, list[tuple[core.Pod, list[ContainerUsage]]]]:
        """(the node, each pod with its running containers), from a reading taken now if the last one is old."""
        last = self._node.readings[-1].time if self._node.readings else 0.0
        if self._clock.time() - last > 1.0:
            await self._sample()
        pods = []
        for pod, observed in self._pods():
            usages = []
            for name, view in observed.containers.items():
                history = self._histories.get(view.attempts[0].id) if view.running else None
                if history is not None and history.readings:
                    rate, window = history.rate()
                    usages.append(ContainerUsage(name, history.readings[-1], rate, window))
            if usages:
                pods.append((pod, usages))
        if not self._node.readings:
            return None, pods
        rate, window = self._node.rate()
        return ContainerUsage("", self._node.readings[-1], rate, window), pods
