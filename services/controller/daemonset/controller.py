"""The DaemonSet controller. Its pods name their node by affinity; the scheduler binds them like all others."""

from __future__ import annotations

from typing import ClassVar

from services.controller.children import claim, index_by_owner
from services.controller.daemonset.plan import (
    DaemonPlan,
    plan_daemons,
    plan_rollout,
    plan_status,
    should_run,
    tolerations_of,
)
from services.controller.expectations import Expectations
from services.controller.framework import Controller, ControllerContext
from services.controller.history import REVISION_LABEL, RevisionHistory, hash_of
from services.controller.overlay import Overlay
from services.controller.pod_control import PodControl, pod_from_template
from services.controller.replicaset.plan import next_available_in
from tillerman.api.meta import controller_of, key_of
from tillerman.api.selectors import from_message
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

# Seconds in which pod changes of one DaemonSet are gathered into one reconcile.
GATHER = 0.02


class DaemonSetController(Controller):
    name = "daemonset"
    workers: ClassVar[int] = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._expectations = Expectations(context.clock)
        self._recorder = context.recorder("daemonset-controller")
        self._pod_control = PodControl(context.client, self._recorder, self._expectations)
        self._daemons = self.informer(apps.DaemonSet)
        self._pods = self.informer(core.Pod)
        self._nodes = self.informer(core.Node)
        revisions = self.informer(apps.ControllerRevision)
        index_by_owner(revisions)
        index_by_owner(self._pods)
        self._history = RevisionHistory(context.client, revisions)
        self._written: Overlay[apps.DaemonSet] = Overlay()
        self._daemons.add_handler(
            on_add=self._changed, on_update=lambda _, new: self._changed(new), on_delete=self._deleted
        )
        self._pods.add_handler(
            on_add=self._pod_seen, on_update=lambda _, new: self._pod_seen(new), on_delete=self._pod_deleted
        )
        self._nodes.add_handler(on_add=self._node_changed, on_update=self._node_updated, on_delete=self._node_changed)

    def known_keys(self) -> list[str]:
        return [key_of(daemon) for daemon in self._daemons.list()]

    def _changed(self, daemon: apps.DaemonSet) -> None:
        self._written.seen(daemon)
        self.enqueue(daemon)

    def _deleted(self, daemon: apps.DaemonSet) -> None:
        self._written.forget(daemon)
        self._expectations.forget(key_of(daemon))

    def _owner_key(self, pod: core.Pod) -> str | None:
        reference = controller_of(pod)
        return f"{pod.metadata.namespace}/{reference.name}" if reference and reference.kind == "DaemonSet" else None

    def _pod_seen(self, pod: core.Pod) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.creation_settled(key, pod.metadata.name)
            if pod.metadata.HasField("deletionTimestamp"):
                self._expectations.deletion_settled(key, pod.metadata.uid)
            self.queue.add_after(key, GATHER)

    def _pod_deleted(self, pod: core.Pod) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.creation_settled(key, pod.metadata.name)
            self._expectations.deletion_settled(key, pod.metadata.uid)
            self.queue.add(key)

    def _node_changed(self, node: core.Node) -> None:
        for daemon in self._daemons.list():
            self.enqueue(daemon)

    def _node_updated(self, old: core.Node, new: core.Node) -> None:
        if old.metadata.labels == new.metadata.labels and old.spec.taints == new.spec.taints:
            return
        for daemon in self._daemons.list():
            if should_run(daemon, old) != should_run(daemon, new):
                self.enqueue(daemon)

    async def reconcile(self, key: str) -> float | None:
        cached = self._daemons.get(key)
        if cached is None:
            return None
        daemon = self._written.newest(cached)
        selector = from_message(daemon.spec.selector)
        if selector.empty or daemon.metadata.HasField("deletionTimestamp"):
            return None
        pods = await claim(
            daemon,
            children=self._pods,
            selector=selector,
            owner_client=self.client.resource(apps.DaemonSet),
            child_client=self.client.resource(core.Pod),
        )
        revision = await self._history.current(daemon)
        digest = hash_of(revision)
        nodes, now = self._nodes.list(), self.clock.time()
        settled_in = self._expectations.wait_seconds(key)
        if settled_in is None:
            plan = plan_daemons(daemon, nodes, pods)
            await self._carry_out(daemon, key, plan, digest)
            if not plan.create and not plan.delete and daemon.spec.updateStrategy.type != "OnDelete":
                await self._carry_out(daemon, key, plan_rollout(daemon, nodes, pods, digest, now), digest)
        await self._history.truncate(daemon, {revision.metadata.name} | self._live(daemon, pods))
        await self._write_status(daemon, plan_status(daemon, nodes, pods, digest, now))
        waits = [next_available_in(pods, daemon.spec.minReadySeconds, now), settled_in]
        return min((wait for wait in waits if wait is not None), default=None)

    def _live(self, daemon: apps.DaemonSet, pods: list[core.Pod]) -> set[str]:
        digests = {pod.metadata.labels.get(REVISION_LABEL) for pod in pods}
        return {one.metadata.name for one in self._history.of(daemon) if hash_of(one) in digests}

    async def _carry_out(self, daemon: apps.DaemonSet, key: str, plan: DaemonPlan, digest: str) -> None:
        for pod in plan.failed:
            message = f"Found failed daemon pod {key_of(pod)} on node {pod.spec.nodeName}, will try to kill it"
            self._recorder.event(daemon, "Warning", "FailedDaemonPod", message)
        deleted = await self._pod_control.delete(daemon, key, plan.delete)
        created = await self._pod_control.create(
            daemon, key, len(plan.create), lambda number: make_pod(daemon, plan.create[number], digest)
        )
        failure = deleted.failure or created.failure
        if failure is not None:
            raise failure

    async def _write_status(self, daemon: apps.DaemonSet, status: apps.DaemonSetStatus) -> None:
        if status == daemon.status:
            return
        changed = apps.DaemonSet()
        changed.CopyFrom(daemon)
        changed.status.CopyFrom(status)
        self._written.wrote(await self.client.resource(apps.DaemonSet).update_status(changed))


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
