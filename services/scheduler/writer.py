"""The scheduler's one write path: bindings, PodScheduled conditions, evictions.

What is asked for is noted and sent in batches by a few tasks ("lanes"); each write has its own outcome, told to a
callback in the event loop. Bindings have lanes of their own, so that a wave of conditions does not hold them up.
A condition is written only if its pod has not changed meanwhile (its resourceVersion is in the patch), so it cannot
undo the binding that overtook it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from services.scheduler.template import PodInfo
from tillerman.api.meta import get_condition
from tillerman.api.status import StatusError
from tillerman.api.times import from_seconds, rfc3339
from tillerman.client.batch import BatchOp
from tillerman.client.clock import Clock
from tillerman.pb.k8s import core_v1_pb2 as core

BIND_LANES = 4
MAX_BATCH = 128

Outcome = Callable[[StatusError | None], None]


class BatchClient(Protocol):
    async def batch(self, operations: Any) -> list[Any]: ...


class Writer:
    """`run` does the work until it is cancelled."""

    def __init__(self, client: BatchClient, clock: Clock, *, scheduler_name: str) -> None:
        self._client = client
        self._clock = clock
        self._scheduler_name = scheduler_name
        self._binds = _Lane()
        self._others = _Lane()
        self._running = False

    def bind(self, info: PodInfo, outcome: Outcome) -> None:
        """Puts the pod on info.node. The outcome is None when that is done, else why it may not be."""
        name, namespace = info.pod.metadata.name, info.pod.metadata.namespace
        binding = core.Binding()
        binding.metadata.name, binding.metadata.namespace, binding.metadata.uid = name, namespace, info.uid
        binding.target.kind, binding.target.name = "Node", info.node
        op = BatchOp.create(binding, of=core.Pod, name=name, namespace=namespace, subresource="binding")
        self._binds.put(op, outcome)

    def mark_unschedulable(self, pod: core.Pod, message: str, *, reason: str = "Unschedulable", node: str = "") -> None:
        """PodScheduled=False; `node` nominates. Nothing is written that the pod says already, or by a standby."""
        if not self._running:
            return
        condition = get_condition(pod.status.conditions, "PodScheduled")
        told = condition is not None and (condition.status, condition.reason, condition.message) == (
            "False",
            reason,
            message,
        )
        if told and pod.status.nominatedNodeName == node:
            return
        written = self._condition("PodScheduled", "False", reason, message)
        if condition is not None and condition.status == "False" and condition.HasField("lastTransitionTime"):
            written["lastTransitionTime"] = rfc3339(condition.lastTransitionTime)
        status: dict[str, Any] = {"conditions": [written]}
        if pod.status.nominatedNodeName != node:
            status["nominatedNodeName"] = node or None
        self._others.put(self._patch(pod, status), _ignore)

    def evict(self, victim: PodInfo, why: str) -> None:
        """Marks and deletes a pod that has to make room; in that order."""
        status = {"conditions": [self._condition("DisruptionTarget", "True", "PreemptionByScheduler", why)]}
        name, namespace = victim.pod.metadata.name, victim.pod.metadata.namespace

        def marked(_: StatusError | None) -> None:
            self._others.put(BatchOp.delete(core.Pod, name, namespace, uid=victim.uid), _ignore)

        self._others.put(self._patch(victim.pod, status), marked)

    async def run(self) -> None:
        self._running = True
        async with asyncio.TaskGroup() as group:
            for number in range(BIND_LANES):
                group.create_task(self._send(self._binds), name=f"scheduler-bind-{number}")
            group.create_task(self._send(self._others), name="scheduler-status")

    async def _send(self, lane: "_Lane") -> None:
        while True:
            writes = await lane.take(MAX_BATCH)
            try:
                results = await self._client.batch([op for op, _ in writes])
            except StatusError as error:
                results = [error] * len(writes)
            for (_, outcome), result in zip(writes, results, strict=True):
                outcome(result if isinstance(result, StatusError) else None)

    def _condition(self, kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
        now = rfc3339(from_seconds(self._clock.time()))
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": now,
        }

    @staticmethod
    def _patch(pod: core.Pod, status: dict[str, Any]) -> BatchOp:
        metadata = {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resourceVersion}
        return BatchOp.patch(
            core.Pod,
            pod.metadata.name,
            pod.metadata.namespace,
            {"metadata": metadata, "status": status},
            type="strategic",
            subresource="status",
        )


class _Lane:
    """Writes that wait, and the tasks that wait for them."""

    def __init__(self) -> None:
        self._writes: deque[tuple[BatchOp, Outcome]] = deque()
        self._some = asyncio.Event()

    def put(self, op: BatchOp, outcome: Outcome) -> None:
        self._writes.append((op, outcome))
        self._some.set()

    async def take(self, most: int) -> list[tuple[BatchOp, Outcome]]:
        while not self._writes:
            self._some.clear()
            await self._some.wait()
        return [self._writes.popleft() for _ in range(min(most, len(self._writes)))]


def _ignore(_: StatusError | None) -> None:
    """A status that could not be written is written with the next attempt, from the pod as it is then."""
