"""Pod garbage collection: pods that nobody will ever remove otherwise.

Too many terminated pods (the oldest go), pods of nodes that have vanished, and pods being deleted that never got a
node. One key, "pods", is looked at every 20 seconds and when a node goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar

from prometheus_client import Counter

from services.controller.framework import Controller, ControllerContext
from services.controller.outcomes import unless_gone
from tillerman.api.meta import get_condition, key_of
from tillerman.api.pods import is_terminal
from tillerman.api.times import from_seconds
from tillerman.pb.k8s import core_v1_pb2 as core

KEY = "pods"
PERIOD = 20.0
# Seconds for which a node must have been missing before its pods go.
QUARANTINE = 40.0
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"

DELETED = Counter("pod_gc_collector_force_delete_pods", "Pods deleted by the collector, by reason.", ["reason"])


def surplus_terminated(pods: Iterable[core.Pod], threshold: int) -> list[core.Pod]:
    """Terminated pods beyond the threshold, oldest first. 0 keeps all."""
    if threshold <= 0:
        return []
    ended = [pod for pod in pods if is_terminal(pod)]
    ended.sort(key=lambda pod: (pod.metadata.creationTimestamp.seconds, pod.metadata.name))
    return ended[: max(len(ended) - threshold, 0)]


def unscheduled_terminating(pods: Iterable[core.Pod]) -> list[core.Pod]:
    return [pod for pod in pods if pod.metadata.HasField("deletionTimestamp") and not pod.spec.nodeName]


def out_of_service_terminating(pods: Iterable[core.Pod], nodes: Iterable[core.Node]) -> list[core.Pod]:
    """Pods being deleted on nodes that are not ready and that someone has tainted as out of service."""
    names = {
        node.metadata.name
        for node in nodes
        if any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)
        and (ready := get_condition(node.status.conditions, "Ready")) is not None
        and ready.status != "True"
    }
    return [pod for pod in pods if pod.metadata.HasField("deletionTimestamp") and pod.spec.nodeName in names]


def homeless(pods: Iterable[core.Pod], nodes: Collection[str]) -> dict[str, list[core.Pod]]:
    """Pods by the name of a node that is not there."""
    result: dict[str, list[core.Pod]] = {}
    for pod in pods:
        if pod.spec.nodeName and pod.spec.nodeName not in nodes:
            result.setdefault(pod.spec.nodeName, []).append(pod)
    return result


class PodGCController(Controller):
    name = "podgc"
    workers: ClassVar[int] = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._missing_since: dict[str, float] = {}
        self._pods = self.informer(core.Pod)
        self._nodes = self.informer(core.Node)
        self._nodes.add_handler(on_delete=lambda _: self.queue.add(KEY))
        self.queue.add(KEY)

    def known_keys(self) -> list[str]:
        return [KEY]

    async def reconcile(self, key: str) -> float | None:
        pods = self._pods.list()
        nodes = self._nodes.list()
        for pod in surplus_terminated(pods, self.options.terminated_pod_gc_threshold):
            await self._delete(pod, "terminated")
        for pod in unscheduled_terminating(pods):
            await self._delete(pod, "unscheduled")
        for pod in out_of_service_terminating(pods, nodes):
            await self._delete(pod, "out-of-service")
        await self._collect_homeless(homeless(pods, {node.metadata.name for node in nodes}))
        return PERIOD

    async def _collect_homeless(self, orphans: dict[str, list[core.Pod]]) -> None:
        now = self.clock.monotonic()
        self._missing_since = {node: self._missing_since.get(node, now) for node in orphans}
        for node, pods in orphans.items():
            left = self._missing_since[node] + QUARANTINE - now
            if left > 0:
                self.queue.add_after(KEY, left)
                continue
            if await unless_gone(self.client.resource(core.Node).get(node)) is not None:
                continue
            for pod in pods:
                await self._delete(pod, "orphaned")

    async def _delete(self, pod: core.Pod, reason: str) -> None:
        client = self.client.resource(core.Pod)
        if not is_terminal(pod):
            changed = core.Pod()
            changed.CopyFrom(pod)
            changed.status.phase = "Failed"
            if reason == "orphaned" and get_condition(pod.status.conditions, "DisruptionTarget") is None:
                changed.status.conditions.add(
                    type="DisruptionTarget",
                    status="True",
                    reason="DeletionByPodGC",
                    message="PodGC: node no longer exists",
                    lastTransitionTime=from_seconds(self.clock.time()),
                )
            if await unless_gone(client.update_status(changed)) is None:
                return
        await unless_gone(
            client.delete(pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0, uid=pod.metadata.uid)
        )
        DELETED.labels(reason).inc()
        self.log.info("pod collected", pod=key_of(pod), reason=reason)
