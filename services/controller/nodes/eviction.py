"""Taint-based eviction: a pod leaves a node with a NoExecute taint at once, or after the seconds it tolerates.

The key is a pod. Its time runs from the taint's timeAdded, so a restart of this process does not start it again.
"""

from __future__ import annotations

from typing import ClassVar

from prometheus_client import Counter, Histogram

from services.controller.framework import Controller, ControllerContext
from services.controller.nodes.health import tolerated_seconds
from services.controller.nodes.lifecycle import NODE_INDEX
from tillerman.api.meta import get_condition, key_of
from tillerman.api.pods import is_terminal
from tillerman.api.status import StatusError, is_conflict, is_not_found
from tillerman.api.times import from_seconds, to_seconds
from tillerman.pb.k8s import core_v1_pb2 as core

DELETIONS = Counter("taint_eviction_controller_pod_deletions", "Pods deleted for a NoExecute taint.")
LATENCY = Histogram(
    "taint_eviction_controller_pod_deletion_duration_seconds",
    "Seconds between the moment a pod's eviction was due and its deletion.",
    buckets=(0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 30, 60, 120, 180, 240),
)


class TaintEvictionController(Controller):
    name = "taint-eviction"
    workers: ClassVar[int] = 16

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder("taint-eviction-controller")
        self._nodes = self.informer(core.Node)
        self._pods = self.informer(core.Pod)
        self._marked: set[str] = set()
        self._pods.add_index(NODE_INDEX, lambda pod: (pod.spec.nodeName,) if pod.spec.nodeName else ())
        self._nodes.add_handler(on_add=self._node_changed, on_update=self._node_updated)
        self._pods.add_handler(
            on_add=self._pod_changed,
            on_update=self._pod_updated,
            on_delete=lambda pod: self._marked.discard(key_of(pod)),
        )

    def known_keys(self) -> list[str]:
        return [key_of(pod) for pod in self._pods.list() if pod.spec.nodeName]

    def _node_changed(self, node: core.Node) -> None:
        if _no_execute(node):
            self._queue_pods(node)

    def _node_updated(self, old: core.Node, new: core.Node) -> None:
        if _no_execute(old) != _no_execute(new):
            self._queue_pods(new)

    def _queue_pods(self, node: core.Node) -> None:
        for pod in self._pods.by_index(NODE_INDEX, node.metadata.name):
            self.enqueue(pod)

    def _pod_changed(self, pod: core.Pod) -> None:
        node = self._nodes.get(pod.spec.nodeName) if pod.spec.nodeName else None
        if node is not None and _no_execute(node):
            self.enqueue(pod)

    def _pod_deleted(self, pod: core.Pod) -> None:
        self._marked.discard(key_of(pod))

    def _pod_updated(self, old: core.Pod, new: core.Pod) -> None:
        if old.spec.nodeName != new.spec.nodeName or old.spec.tolerations != new.spec.tolerations:
            self._pod_changed(new)

    async def reconcile(self, key: str) -> float | None:
        pod = self._pods.get(key)
        if pod is None or pod.metadata.HasField("deletionTimestamp") or is_terminal(pod):
            self._marked.discard(key)
            return None
        node = self._nodes.get(pod.spec.nodeName) if pod.spec.nodeName else None
        taints = _no_execute(node) if node is not None else []
        if not taints:
            self._cancel(pod, key)
            return None
        tolerated, seconds = tolerated_seconds(taints, pod.spec.tolerations)
        if tolerated and seconds is None:
            self._cancel(pod, key)
            return None
        since = min((to_seconds(taint.timeAdded) for taint in taints if taint.HasField("timeAdded")), default=0.0)
        due = (since or self.clock.time()) + (seconds or 0.0)
        wait = due - self.clock.time() if seconds else 0.0
        if wait > 0:
            self._marked.add(key)
            return wait
        await self._evict(pod)
        LATENCY.observe(max(-wait, 0.0))
        return None

    def _cancel(self, pod: core.Pod, key: str) -> None:
        if key in self._marked:
            self._marked.discard(key)
            self._recorder.event(pod, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {key}")

    async def _evict(self, pod: core.Pod) -> None:
        key = key_of(pod)
        self._recorder.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key}")
        client = self.client.resource(core.Pod)
        try:
            if get_condition(pod.status.conditions, "DisruptionTarget") is None:
                changed = core.Pod()
                changed.CopyFrom(pod)
                changed.status.conditions.add(
                    type="DisruptionTarget",
                    status="True",
                    reason="DeletionByTaintManager",
                    message="Taint manager: deleting due to NoExecute taint",
                    lastTransitionTime=from_seconds(self.clock.time()),
                )
                await client.update_status(changed)
            await client.delete(pod.metadata.name, pod.metadata.namespace, uid=pod.metadata.uid)
        except StatusError as error:
            if is_not_found(error):
                return
            if is_conflict(error):
                self.log.debug("pod changed while being evicted", pod=key)
            raise
        self._marked.discard(key)
        DELETIONS.inc()


def _no_execute(node: core.Node) -> list[core.Taint]:
    return [taint for taint in node.spec.taints if taint.effect == "NoExecute"]
