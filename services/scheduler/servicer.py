"""The gRPC service Scheduler: what the scheduler thinks, without doing anything."""

from collections.abc import Callable
from typing import Any

import grpc

from services.scheduler.framework import Evaluation, Verdict
from services.scheduler.queue import GATED, IN_FLIGHT
from services.scheduler.scheduler import Scheduler
from services.scheduler.template import PodInfo, TemplateCache
from tillerman.client.clock import Clock
from tillerman.pb.api import scheduler_pb2 as pb
from tillerman.pb.api import scheduler_pb2_grpc
from tillerman.pb.k8s import core_v1_pb2 as core


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServicer):
    """`get_pod` reads the informer's pods by key."""

    def __init__(
        self,
        scheduler: Scheduler,
        templates: TemplateCache,
        get_pod: Callable[[str], core.Pod | None],
        clock: Clock,
    ) -> None:
        self._scheduler = scheduler
        self._templates = templates
        self._get_pod = get_pod
        self._clock = clock

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        """NOT_FOUND when the pod does not exist."""
        key = f"{request.namespace or 'default'}/{request.name}"
        pod = self._get_pod(key)
        if pod is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'pods "{request.name}" not found')
            raise AssertionError("abort raises")
        return self.explain(self._templates.info(pod))

    def explain(self, info: PodInfo) -> pb.ExplainResponse:
        scheduler, snapshot = self._scheduler, self._scheduler.snapshot
        placed = snapshot.pod(info.key)
        reserved = scheduler.reserved_for_others(info.template, [info.key])
        with snapshot.without([placed] if placed is not None else []), snapshot.reserving(reserved):
            verdicts = scheduler.profile.verdicts(info.template, snapshot)
            diagnosis = scheduler.profile.diagnose(info.template, snapshot)
        queued = scheduler.queue.get(info.key)
        response = pb.ExplainResponse(
            nodes=[_verdict(verdict) for verdict in verdicts], attempts=queued.attempts if queued is not None else 0
        )
        if placed is not None or info.node:
            response.state, response.node = "Scheduled", placed.node if placed is not None else info.node
            response.message = f"Successfully assigned {info.key} to {response.node}"
        elif queued is not None and queued.place == GATED:
            response.state = "Gated"
            gates = ", ".join(gate.name for gate in info.pod.spec.schedulingGates)
            response.message = f"Scheduling is blocked due to non-empty scheduling gates: {gates}"
        elif any(verdict.feasible for verdict in verdicts):
            response.state = "Pending"
        else:
            response.state, response.message = "Unschedulable", diagnosis.message
        if queued is None and not response.node and info.pod.spec.schedulerName not in ("", scheduler.name):
            response.message = f'waits for the scheduler "{info.pod.spec.schedulerName}"'
        return response

    async def Simulate(self, request: pb.SimulateRequest, context: Any) -> pb.SimulateResponse:
        """Pods are placed in order, each seeing those before it."""
        response = pb.SimulateResponse()
        snapshot, profile = self._scheduler.snapshot, self._scheduler.profile
        placed: list[str] = []
        try:
            for number, given in enumerate(request.pods):
                pod = core.Pod()
                pod.CopyFrom(given)
                pod.metadata.namespace = pod.metadata.namespace or "default"
                pod.metadata.name = pod.metadata.name or f"{pod.metadata.generateName}{number}"
                info = self._templates.info(pod, pinned=True)
                # A slash too many: no real pod has this key.
                info.key = f"simulated/{number}/{info.key}"
                placement = response.placements.add(namespace=pod.metadata.namespace, name=pod.metadata.name)
                with snapshot.reserving(self._scheduler.reserved_for_others(info.template, ())):
                    row = Evaluation(profile, info.template, snapshot).pick()
                    if row is None:
                        placement.message = profile.diagnose(info.template, snapshot).message
                        continue
                placement.node = snapshot.names[row]
                snapshot.add_pod(info.on(placement.node))
                placed.append(info.key)
        finally:
            for key in placed:
                snapshot.remove_pod(key)
        return response

    async def Queue(self, request: pb.QueueRequest, context: Any) -> pb.QueueResponse:
        now = self._clock.monotonic()
        response = pb.QueueResponse()
        for queued in sorted(self._scheduler.queue.items(), key=lambda q: q.order):
            metadata = queued.info.pod.metadata
            response.items.add(
                namespace=metadata.namespace,
                name=metadata.name,
                queue="active" if queued.place == IN_FLIGHT else queued.place,
                attempts=queued.attempts,
                priority=queued.info.priority,
                seconds_waiting=now - queued.added,
                message=queued.message,
            )
        return response


def _verdict(verdict: Verdict) -> pb.NodeVerdict:
    return pb.NodeVerdict(
        node=verdict.node,
        feasible=verdict.feasible,
        plugin=verdict.plugin,
        reasons=verdict.reasons,
        scores=verdict.scores,
        total_score=sum(verdict.scores.values()),
    )
