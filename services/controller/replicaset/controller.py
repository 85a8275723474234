"""The ReplicaSet controller: wires events to keys, carries the plan out, writes status.

Pod events arrive in bursts while replicas start, so a pod's change queues its ReplicaSet with a short delay: one
status write then covers all pods that changed meanwhile. Deletions are not delayed, a replacement waits for them.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from services.controller.children import CONTROLLER_INDEX, claim, index_by_owner
from services.controller.expectations import Expectations
from services.controller.framework import Controller, ControllerContext
from services.controller.overlay import Overlay
from services.controller.pod_control import PodControl, pod_from_template
from services.controller.replicaset.plan import next_available_in, plan_replicas, plan_status
from tillerman.api.meta import controller_of, key_of
from tillerman.api.pods import is_active
from tillerman.api.selectors import from_message
from tillerman.api.status import StatusError
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

# Seconds in which pod changes of one ReplicaSet are gathered into one reconcile.
GATHER = 0.01

SORTING_AGE_RATIO = Histogram(
    "replicaset_controller_sorting_deletion_age_ratio",
    "Ratio of the chosen deleted pod's age to the youngest pod's age, when pods were ranked for deletion.",
    buckets=(0.25, 0.5, 1, 2, 4, 8),
)
PODS_CREATED = Counter("replicaset_controller_pods_created_total", "Pods created by the ReplicaSet controller.")
PODS_DELETED = Counter("replicaset_controller_pods_deleted_total", "Pods deleted by the ReplicaSet controller.")


class ReplicaSetController(Controller):
    name = "replicaset"
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._expectations = Expectations(context.clock)
        self._recorder = context.recorder("replicaset-controller")
        self._pod_control = PodControl(context.client, self._recorder, self._expectations)
        self._replica_sets = self.informer(apps.ReplicaSet)
        self._written: Overlay[apps.ReplicaSet] = Overlay()
        self._pods = self.informer(core.Pod)
        index_by_owner(self._pods)
        index_by_owner(self._replica_sets)
        self._replica_sets.add_handler(
            on_add=self._replica_set_changed,
            on_update=lambda _, new: self._replica_set_changed(new),
            on_delete=self._replica_set_deleted,
        )
        self._pods.add_handler(on_add=self._pod_added, on_update=self._pod_updated, on_delete=self._pod_deleted)

    def known_keys(self) -> list[str]:
        return [key_of(replica_set) for replica_set in self._replica_sets.list()]

    def _replica_set_changed(self, replica_set: apps.ReplicaSet) -> None:
        self._written.seen(replica_set)
        self.enqueue(replica_set)

    def _replica_set_deleted(self, replica_set: apps.ReplicaSet) -> None:
        self._written.forget(replica_set)
        self._expectations.forget(key_of(replica_set))
        self.enqueue(replica_set)

    def _owner_key(self, pod: core.Pod) -> str | None:
        reference = controller_of(pod)
        if reference is None or reference.kind != "ReplicaSet":
            return None
        key = f"{pod.metadata.namespace}/{reference.name}"
        owner = self._replica_sets.get(key)
        return key if owner is not None and owner.metadata.uid == reference.uid else None

    def _queue_matching(self, pod: core.Pod) -> None:
        for replica_set in self._replica_sets.list(pod.metadata.namespace):
            selector = from_message(replica_set.spec.selector)
            if not selector.empty and selector.matches(pod.metadata.labels):
                self.enqueue(replica_set)

    def _pod_added(self, pod: core.Pod) -> None:
        if pod.metadata.HasField("deletionTimestamp"):
            self._pod_deleted(pod)
            return
        if controller_of(pod) is None:
            self._queue_matching(pod)
            return
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.creation_settled(key, pod.metadata.name)
            self.queue.add_after(key, GATHER)

    def _pod_updated(self, old: core.Pod, new: core.Pod) -> None:
        if new.metadata.HasField("deletionTimestamp") and not old.metadata.HasField("deletionTimestamp"):
            self._pod_deleted(new)
            return
        old_reference, reference = controller_of(old), controller_of(new)
        if old_reference is not None and (reference is None or reference.uid != old_reference.uid):
            key = self._owner_key(old)
            if key is not None:
                self.queue.add(key)
        if reference is None:
            if old.metadata.labels != new.metadata.labels or old_reference is not None:
                self._queue_matching(new)
            return
        key = self._owner_key(new)
        if key is not None:
            self.queue.add_after(key, GATHER)

    def _pod_deleted(self, pod: core.Pod) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.creation_settled(key, pod.metadata.name)
            self._expectations.deletion_settled(key, pod.metadata.uid)
            self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        cached = self._replica_sets.get(key)
        if cached is None:
            self._expectations.forget(key)
            return None
        replica_set = self._written.newest(cached)
        selector = from_message(replica_set.spec.selector)
        if selector.empty:
            return None
        settled_in = self._expectations.wait_seconds(key)
        pods = await self._claimed(replica_set)
        failure = None
        if settled_in is None and not replica_set.metadata.HasField("deletionTimestamp"):
            failure = await self._scale(replica_set, key, pods)
        await self._write_status(replica_set, pods, failure)
        if failure is not None:
            raise failure
        waits = [next_available_in(pods, replica_set.spec.minReadySeconds, self.clock.time()), settled_in]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _claimed(self, replica_set: apps.ReplicaSet) -> list[core.Pod]:
        return await claim(
            replica_set,
            children=self._pods,
            selector=from_message(replica_set.spec.selector),
            owner_client=self.client.resource(apps.ReplicaSet),
            child_client=self.client.resource(core.Pod),
        )

    async def _scale(self, replica_set: apps.ReplicaSet, key: str, pods: list[core.Pod]) -> StatusError | None:
        """Carries the plan out; returns the first refusal."""
        now = self.clock.time()
        plan = plan_replicas(replica_set, pods, self._related(replica_set, pods), now)
        if plan.create:
            outcome = await self._pod_control.create(
                replica_set, key, plan.create, lambda _: pod_from_template(replica_set.spec.template, replica_set)
            )
            PODS_CREATED.inc(outcome.succeeded)
            return outcome.failure
        if plan.delete:
            self._observe_ages(pods, plan.delete, now)
            outcome = await self._pod_control.delete(replica_set, key, plan.delete)
            PODS_DELETED.inc(outcome.succeeded)
            return outcome.failure
        return None

    def _related(self, replica_set: apps.ReplicaSet, pods: list[core.Pod]) -> list[core.Pod]:
        """Active pods of all ReplicaSets with the same controller."""
        reference = controller_of(replica_set)
        if reference is None:
            return pods
        siblings = self._replica_sets.by_index(CONTROLLER_INDEX, reference.uid)
        return [
            pod for sibling in siblings for pod in self._pods.by_index(CONTROLLER_INDEX, sibling.metadata.uid)
            if is_active(pod)
        ]  # fmt: skip

    def _observe_ages(self, pods: list[core.Pod], chosen: object, now: float) -> None:
        ages = [max(now - pod.metadata.creationTimestamp.seconds, 1.0) for pod in pods if is_active(pod)]
        youngest = min(ages, default=1.0)
        for pod in chosen:  # type: ignore[attr-defined]
            SORTING_AGE_RATIO.observe(max(now - pod.metadata.creationTimestamp.seconds, 1.0) / youngest)

    async def _write_status(
        self, replica_set: apps.ReplicaSet, pods: list[core.Pod], failure: StatusError | None
    ) -> None:
        told = None
        if failure is not None:
            surplus = len([pod for pod in pods if is_active(pod)]) > replica_set.spec.replicas
            told = ("FailedDelete" if surplus else "FailedCreate", failure.message)
        status = plan_status(replica_set, pods, told, self.clock.time())
        if status == replica_set.status:
            return
        changed = apps.ReplicaSet()
        changed.CopyFrom(replica_set)
        changed.status.CopyFrom(status)
        self._written.wrote(await self.client.resource(apps.ReplicaSet).update_status(changed))
