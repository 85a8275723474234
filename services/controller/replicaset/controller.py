"""The controllers of ReplicaSets and ReplicationControllers, which differ in their selectors only."""

from __future__ import annotations

from typing import Any, ClassVar

from prometheus_client import Counter, Histogram

from services.controller.children import CONTROLLER_INDEX, index_by_owner
from services.controller.framework import ControllerContext
from services.controller.pod_control import pod_from_template
from services.controller.pod_owner import PodOwner
from services.controller.replicaset.plan import next_available_in, plan_replicas, plan_status
from tillerman.api.meta import controller_of
from tillerman.api.pods import is_active
from tillerman.api.selectors import LabelSelector, from_map
from tillerman.api.status import StatusError
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

SORTING_AGE_RATIO = Histogram(
    "replicaset_controller_sorting_deletion_age_ratio",
    "Ratio of the chosen deleted pod's age to the youngest pod's age, when pods were ranked for deletion.",
    buckets=(0.25, 0.5, 1, 2, 4, 8),
)
PODS_CREATED = Counter(
    "replicaset_controller_pods_created_total",
    "Pods created by the controllers of ReplicaSets and ReplicationControllers.",
)
PODS_DELETED = Counter(
    "replicaset_controller_pods_deleted_total",
    "Pods deleted by the controllers of ReplicaSets and ReplicationControllers.",
)


class ReplicaSetController(PodOwner[apps.ReplicaSet]):
    name = "replicaset"
    message: ClassVar[Any] = apps.ReplicaSet
    gather = 0.01

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        index_by_owner(self.owners)

    async def reconcile(self, key: str) -> float | None:
        replica_set = self.newest(key)
        if replica_set is None or self.selector_of(replica_set).empty:
            return None
        settled_in = self.expectations.wait_seconds(key)
        pods = await self.claimed(replica_set)
        failure = None
        if settled_in is None and not replica_set.metadata.HasField("deletionTimestamp"):
            failure = await self._scale(replica_set, key, pods)
        await self._tell(replica_set, pods, failure)
        if failure is not None:
            raise failure
        waits = [next_available_in(pods, replica_set.spec.minReadySeconds, self.clock.time()), settled_in]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _scale(self, replica_set: apps.ReplicaSet, key: str, pods: list[core.Pod]) -> StatusError | None:
        """Carries the plan out; returns the first refusal."""
        now = self.clock.time()
        plan = plan_replicas(replica_set, pods, self._related(replica_set, pods), now)
        if plan.create:
            outcome = await self.pod_control.create(
                replica_set, key, plan.create, lambda _: pod_from_template(replica_set.spec.template, replica_set)
            )
            PODS_CREATED.inc(outcome.succeeded)
            return outcome.failure
        if plan.delete:
            self._observe_ages(pods, plan.delete, now)
            outcome = await self.pod_control.delete(replica_set, key, plan.delete)
            PODS_DELETED.inc(outcome.succeeded)
            return outcome.failure
        return None

    def _related(self, replica_set: apps.ReplicaSet, pods: list[core.Pod]) -> list[core.Pod]:
        """Active pods of all ReplicaSets with the same controller."""
        reference = controller_of(replica_set)
        if reference is None:
            return pods
        siblings = self.owners.by_index(CONTROLLER_INDEX, reference.uid)
        return [
            pod for sibling in siblings for pod in self.pods.by_index(CONTROLLER_INDEX, sibling.metadata.uid)
            if is_active(pod)
        ]  # fmt: skip

    def _observe_ages(self, pods: list[core.Pod], chosen: object, now: float) -> None:
        ages = [max(now - pod.metadata.creationTimestamp.seconds, 1.0) for pod in pods if is_active(pod)]
        youngest = min(ages, default=1.0)
        for pod in chosen:  # type: ignore[attr-defined]
            SORTING_AGE_RATIO.observe(max(now - pod.metadata.creationTimestamp.seconds, 1.0) / youngest)

    async def _tell(self, replica_set: apps.ReplicaSet, pods: list[core.Pod], failure: StatusError | None) -> None:
        """Writes the status."""
        told = None
        if failure is not None:
            surplus = len([pod for pod in pods if is_active(pod)]) > replica_set.spec.replicas
            told = ("FailedDelete" if surplus else "FailedCreate", failure.message)
        await self.write_status(replica_set, plan_status(replica_set, pods, told, self.clock.time()))


class ReplicationControllerController(ReplicaSetController):
    name = "replicationcontroller"
    message = core.ReplicationController

    def selector_of(self, owner: Any) -> LabelSelector:
        return from_map(owner.spec.selector)
