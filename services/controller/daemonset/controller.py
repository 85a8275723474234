"""The DaemonSet controller. Its pods name their node by affinity; the scheduler binds them like all others."""

from __future__ import annotations

from typing import ClassVar

from services.controller.daemonset.plan import (
    DaemonPlan,
    plan_daemons,
    plan_rollout,
    plan_status,
    should_run,
    tolerations_of,
)
from services.controller.framework import ControllerContext
from services.controller.history import REVISION_LABEL, RevisionHistory, hash_of
from services.controller.pod_control import pod_from_template
from services.controller.pod_owner import PodOwner
from services.controller.replicaset.plan import next_available_in
from tillerman.api.meta import key_of
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core


class DaemonSetController(PodOwner[apps.DaemonSet]):
    name = "daemonset"
    message = apps.DaemonSet
    workers: ClassVar[int] = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._nodes = self.informer(core.Node)
        self._history = RevisionHistory(context.client, self.informer(apps.ControllerRevision))
        self._nodes.add_handler(on_add=self._node_changed, on_update=self._node_updated, on_delete=self._node_changed)

    def _node_changed(self, node: core.Node) -> None:
        for daemon in self.owners.list():
            self.enqueue(daemon)

    def _node_updated(self, old: core.Node, new: core.Node) -> None:
        if old.metadata.labels == new.metadata.labels and old.spec.taints == new.spec.taints:
            return
        for daemon in self.owners.list():
            if should_run(daemon, old) != should_run(daemon, new):
                self.enqueue(daemon)

    async def reconcile(self, key: str) -> float | None:
        daemon = self.newest(key)
        if daemon is None or self.selector_of(daemon).empty or daemon.metadata.HasField("deletionTimestamp"):
            return None
        pods = await self.claimed(daemon)
        revision = await self._history.current(daemon)
        digest = hash_of(revision)
        nodes, now = self._nodes.list(), self.clock.time()
        settled_in = self.expectations.wait_seconds(key)
        if settled_in is None:
            plan = plan_daemons(daemon, nodes, pods)
            await self._carry_out(daemon, key, plan, digest)
            if not plan.create and not plan.delete and daemon.spec.updateStrategy.type != "OnDelete":
                await self._carry_out(daemon, key, plan_rollout(daemon, nodes, pods, digest, now), digest)
        await self._history.truncate(daemon, {revision.metadata.name} | self._live(daemon, pods))
        await self.write_status(daemon, plan_status(daemon, nodes, pods, digest, now))
        waits = [next_available_in(pods, daemon.spec.minReadySeconds, now), settled_in]
        return min((wait for wait in waits if wait is not None), default=None)

    def _live(self, daemon: apps.DaemonSet, pods: list[core.Pod]) -> set[str]:
        digests = {pod.metadata.labels.get(REVISION_LABEL) for pod in pods}
        return {one.metadata.name for one in self._history.of(daemon) if hash_of(one) in digests}

    async def _carry_out(self, daemon: apps.DaemonSet, key: str, plan: DaemonPlan, digest: str) -> None:
        for pod in plan.failed:
            message = f"Found failed daemon pod {key_of(pod)} on node {pod.spec.nodeName}, will try to kill it"
            self.recorder.event(daemon, "Warning", "FailedDaemonPod", message)
        deleted = await self.pod_control.delete(daemon, key, plan.delete)
        created = await self.pod_control.create(
            daemon, key, len(plan.create), lambda number: make_pod(daemon, plan.create[number], digest)
        )
        failure = deleted.failure or created.failure
        if failure is not None:
            raise failure


def make_pod(daemon: apps.DaemonSet, node: str, digest: str) -> core.Pod:
    """A pod that fits one node only."""
    pod = pod_from_template(daemon.spec.template, daemon)
    pod.metadata.labels[REVISION_LABEL] = digest
    tolerations = tolerations_of(daemon)
    del pod.spec.tolerations[:]
    pod.spec.tolerations.extend(tolerations)
    required = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
    if not required.nodeSelectorTerms:
        required.nodeSelectorTerms.add()
    for term in required.nodeSelectorTerms:
        del term.matchFields[:]
        term.matchFields.add(key="metadata.name", operator="In", values=[node])
    return pod
