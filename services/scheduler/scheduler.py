"""The scheduling loop: take pods from the queue, place those of one template together, hand placements to the writer.

One task runs the loop; a cycle is synchronous, so no event comes between its look at the snapshot and its placements.
A placed pod is assumed: it counts on its node at once, until the informer confirms it or the binding is refused.
Nothing that matters is only in memory: after a restart the informers bring back all there is to know.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from google.protobuf.message import Message

from services.scheduler import metrics
from services.scheduler.framework import Evaluation, Profile
from services.scheduler.preemption import plan
from services.scheduler.queue import FLUSH_PERIOD, QueuedPod, SchedulingQueue
from services.scheduler.snapshot import Change, Snapshot
from services.scheduler.template import PodInfo, Template
from tillerman.api.status import StatusError, is_not_found
from tillerman.client.clock import Clock
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import policy_v1_pb2 as policy

# Pods per cycle; the event loop waits for a cycle to end.
CYCLE = 128


class Recorder(Protocol):
    def event(self, obj: Message, type: str, reason: str, message: str) -> None: ...


class Writes(Protocol):
    def bind(self, info: PodInfo, outcome: Callable[[StatusError | None], None]) -> None: ...
    def mark_unschedulable(self, pod: core.Pod, message: str, *, reason: str = ..., node: str = ...) -> None: ...
    def evict(self, victim: PodInfo, why: str) -> None: ...


class Scheduler:
    """`budgets` lists the PodDisruptionBudgets there are."""

    def __init__(
        self,
        *,
        name: str,
        profile: Profile,
        snapshot: Snapshot,
        queue: SchedulingQueue,
        writer: Writes,
        recorder: Recorder,
        clock: Clock,
        budgets: Callable[[], Sequence[policy.PodDisruptionBudget]],
    ) -> None:
        self.name = name
        self.profile = profile
        self.snapshot = snapshot
        self.queue = queue
        # Pods on their way to a node, by key, and room kept free for pods whose victims are leaving.
        self.assumed: dict[str, PodInfo] = {}
        self.nominated: dict[str, PodInfo] = {}
        self._writer = writer
        self._recorder = recorder
        self._clock = clock
        self._budgets = budgets
        self._scheduled = metrics.ATTEMPTS.labels("scheduled", name)
        self._scheduled_duration = metrics.ATTEMPT_DURATION.labels("scheduled", name)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._flush(), name="scheduler-flush")
            while True:
                await self.queue.wait()
                self.cycle()
                await asyncio.sleep(0)

    def cycle(self, most: int = CYCLE) -> int:
        """Tries up to `most` pods; how many were tried."""
        popped = self.queue.pop(most)
        for group in _groups(popped):
            self._schedule(group)
        metrics.CACHE_SIZE.labels("nodes").set(self.snapshot.node_count)
        metrics.CACHE_SIZE.labels("pods").set(self.snapshot.pod_count)
        metrics.CACHE_SIZE.labels("assumed_pods").set(len(self.assumed))
        return len(popped)

    def forget(self, key: str) -> None:
        """The pod is no longer assumed to be where we put it."""
        if self.assumed.pop(key, None) is not None:
            self.snapshot.remove_pod(key)

    def reserved_for_others(self, template: Template, keys: Iterable[str]) -> list[PodInfo]:
        """Nominated pods that a pod of this template must leave room for."""
        mine = set(keys)
        return [n for n in self.nominated.values() if n.priority >= template.priority and n.key not in mine]

    def _schedule(self, group: list[QueuedPod]) -> None:
        template = group[0].info.template
        began = self._clock.monotonic()
        placed: list[PodInfo] = []
        with self.snapshot.reserving(self.reserved_for_others(template, (q.info.key for q in group))):
            evaluation: Evaluation | None = None
            for queued in group:
                row = self._nominated_row(queued)
                if row is None:
                    evaluation = evaluation or Evaluation(self.profile, template, self.snapshot)
                    row = evaluation.pick()
                if row is None:
                    break
                assumed = queued.info.on(self.snapshot.names[row])
                self.snapshot.add_pod(assumed)
                if evaluation is not None:
                    evaluation.placed(row)
                placed.append(assumed)
            refused = group[len(placed) :]
            diagnosis = self.profile.diagnose(template, self.snapshot) if refused else None
        seconds = (self._clock.monotonic() - began) / max(len(placed) + bool(refused), 1)
        for queued, assumed in zip(group, placed, strict=False):
            metrics.ALGORITHM_DURATION.observe(seconds)
            self._bind(queued, assumed, began)
        # What does not help one pod does not help the next one of the same template either.
        in_vain: str | None = None
        for queued in refused:
            assert diagnosis is not None
            metrics.ATTEMPTS.labels("unschedulable", self.name).inc()
            metrics.ATTEMPT_DURATION.labels("unschedulable", self.name).observe(seconds)
            in_vain = self._refuse(queued, diagnosis.message, diagnosis.plugins, in_vain)

    def _nominated_row(self, queued: QueuedPod) -> int | None:
        """Where room was made for the pod, if it fits there by now."""
        nominated = self.nominated.get(queued.info.key)
        row = self.snapshot.row_of.get(nominated.node if nominated is not None else queued.nominated)
        if row is not None and self.profile.feasible(queued.info.template, self.snapshot, row):
            return row
        return None

    def _bind(self, queued: QueuedPod, assumed: PodInfo, began: float) -> None:
        key = assumed.key
        self.assumed[key] = assumed
        self.nominated.pop(key, None)

        def outcome(error: StatusError | None) -> None:
            if error is None:
                self._bound(queued, assumed, began)
            elif self.assumed.get(key) is assumed:
                self._not_bound(queued, assumed, error)

        self._writer.bind(assumed, outcome)

    def _bound(self, queued: QueuedPod, assumed: PodInfo, began: float) -> None:
        """It stays assumed until the informer shows it on its node."""
        now = self._clock.monotonic()
        self._scheduled.inc()
        self._scheduled_duration.observe(now - began)
        metrics.POD_ATTEMPTS.observe(queued.attempts)
        metrics.SLI_DURATION.labels(str(min(queued.attempts, 16))).observe(now - queued.added)
        message = f"Successfully assigned {assumed.key} to {assumed.node}"
        self._recorder.event(assumed.pod, "Normal", "Scheduled", message)
        if self.queue.get(assumed.key) is queued:
            self.queue.done(assumed.key)

    def _not_bound(self, queued: QueuedPod, assumed: PodInfo, error: StatusError) -> None:
        metrics.ATTEMPTS.labels("error", self.name).inc()
        self.forget(assumed.key)
        self.queue.changed({Change.POD_REMOVE})
        # A pod or namespace that is gone: the informer will say so. A missing node is worth another try.
        if is_not_found(error) and "node" not in error.message:
            self.queue.done(assumed.key)
            return
        self.queue.failed(queued, error.message)
        self._recorder.event(assumed.pod, "Warning", "FailedScheduling", f"binding rejected: {error.message}")

    def _refuse(self, queued: QueuedPod, message: str, plugins: frozenset[str], in_vain: str | None) -> str | None:
        """No node will do: wait for a change, and make room if priority allows. `in_vain` says why making room does not
        help, where that is known already; the answer says it for the next pod of the template."""
        info = queued.info
        self.queue.unschedulable(queued, plugins, message)
        nominated = self.nominated.get(info.key)
        if self._victims_leave(info, nominated):
            self._tell(queued, message, nominated.node if nominated is not None else "")
            return None
        self.nominated.pop(info.key, None)
        preempt, why_not = None, in_vain
        if why_not is None:
            with self.snapshot.reserving(self.reserved_for_others(info.template, [info.key])):
                preempt, why_not = plan(info, self.profile, self.snapshot, self._budgets())
        if preempt is None:
            self._tell(queued, f"{message} preemption: {why_not}" if why_not else message, "")
            return why_not
        metrics.PREEMPTIONS.inc()
        metrics.VICTIMS.observe(len(preempt.victims))
        for other in [n for n in self.nominated.values() if n.node == preempt.node and n.priority < info.priority]:
            del self.nominated[other.key]
        self.nominated[info.key] = info.on(preempt.node)
        self._tell(queued, message, preempt.node)
        for victim in preempt.victims:
            self._evict(victim, info, preempt.node)
        return None

    def _evict(self, victim: PodInfo, preemptor: PodInfo, node: str) -> None:
        if victim.terminating:
            return
        self._recorder.event(victim.pod, "Normal", "Preempted", f"Preempted by pod {preemptor.uid} on node {node}")
        self._writer.evict(victim, f"{self.name}: preempting to accommodate a higher priority pod")

    def _victims_leave(self, info: PodInfo, nominated: PodInfo | None) -> bool:
        """Whether pods are on their way out where this pod is nominated: then no more need to go."""
        row = self.snapshot.row_of.get(nominated.node) if nominated is not None else None
        if row is None:
            return False
        return any(pod.terminating and pod.priority < info.priority for pod in self.snapshot.pods_on[row].values())

    def _tell(self, queued: QueuedPod, message: str, nominated: str) -> None:
        queued.message = message
        self._recorder.event(queued.info.pod, "Warning", "FailedScheduling", message)
        self._writer.mark_unschedulable(queued.info.pod, message, node=nominated)

    async def _flush(self) -> None:
        while True:
            await self._clock.sleep(FLUSH_PERIOD)
            self.queue.flush()


def _groups(pods: list[QueuedPod]) -> list[list[QueuedPod]]:
    """Pods of one template together, by priority, then by the first of each group."""
    groups: dict[Template, list[QueuedPod]] = {}
    for queued in pods:
        groups.setdefault(queued.info.template, []).append(queued)
    return sorted(groups.values(), key=lambda group: -group[0].info.priority)
