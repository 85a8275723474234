"""The disruption controller: how many pods of each PodDisruptionBudget may be evicted now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from services.controller.deployment.sizes import replicas_of, scaled_value
from services.controller.framework import Controller, ControllerContext, in_namespace, index_by_namespace
from tillerman.api.meta import controller_of, get_condition, key_of
from tillerman.api.pods import is_active, is_ready
from tillerman.api.selectors import from_message
from tillerman.api.times import from_seconds, to_seconds
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import policy_v1_pb2 as policy

# Seconds for which an evicted pod may take to get its deletionTimestamp.
EVICTION_TIMEOUT = 120.0
GATHER = 0.05


def plan_status(
    budget: policy.PodDisruptionBudget, pods: Sequence[core.Pod], expected: int, now: float
) -> policy.PodDisruptionBudgetStatus:
    """`pods` are those that the budget selects, `expected` how many their owners want."""
    status = policy.PodDisruptionBudgetStatus()
    status.CopyFrom(budget.status)
    by_name = {pod.metadata.name: pod for pod in pods}
    for name, moment in list(status.disruptedPods.items()):
        pod = by_name.get(name)
        expired = to_seconds(moment) + EVICTION_TIMEOUT < now
        if pod is None or pod.metadata.HasField("deletionTimestamp") or expired:
            del status.disruptedPods[name]
    healthy = sum(
        1 for pod in pods if is_active(pod) and is_ready(pod) and pod.metadata.name not in status.disruptedPods
    )
    spec = budget.spec
    if spec.HasField("maxUnavailable"):
        desired = max(expected - scaled_value(spec.maxUnavailable, expected, round_up=True), 0)
    elif spec.HasField("minAvailable"):
        if spec.minAvailable.type == 0:
            expected = len([pod for pod in pods if is_active(pod)])
        desired = scaled_value(spec.minAvailable, expected, round_up=True)
    else:
        desired = expected
    status.expectedPods, status.currentHealthy, status.desiredHealthy = expected, healthy, desired
    status.disruptionsAllowed = max(healthy - desired, 0) if expected > 0 else 0
    status.observedGeneration = budget.metadata.generation
    _tell(budget, status, now)
    return status


def _tell(budget: policy.PodDisruptionBudget, status: policy.PodDisruptionBudgetStatus, now: float) -> None:
    allowed = status.disruptionsAllowed > 0
    condition = get_condition(status.conditions, "DisruptionAllowed")
    if condition is None:
        condition = status.conditions.add(type="DisruptionAllowed", message="")
    value = "True" if allowed else "False"
    if condition.status != value:
        condition.lastTransitionTime.CopyFrom(from_seconds(now))
    condition.status = value
    condition.reason = "SufficientPods" if allowed else "InsufficientPods"
    condition.observedGeneration = budget.metadata.generation


class DisruptionController(Controller):
    name = "disruption"
    workers: ClassVar[int] = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._budgets = self.informer(policy.PodDisruptionBudget)
        self._pods = self.informer(core.Pod)
        self._replica_sets = self.informer(apps.ReplicaSet)
        self._deployments = self.informer(apps.Deployment)
        self._stateful_sets = self.informer(apps.StatefulSet)
        index_by_namespace(self._pods)
        index_by_namespace(self._budgets)
        self._budgets.add_handler(on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new))
        self._pods.add_handler(
            on_add=self._pod_changed, on_update=lambda _, new: self._pod_changed(new), on_delete=self._pod_changed
        )

    def known_keys(self) -> list[str]:
        return [key_of(budget) for budget in self._budgets.list()]

    def _pod_changed(self, pod: core.Pod) -> None:
        for budget in in_namespace(self._budgets, pod.metadata.namespace):
            if from_message(budget.spec.selector).matches(pod.metadata.labels):
                self.queue.add_after(key_of(budget), GATHER)

    async def reconcile(self, key: str) -> float | None:
        budget = self._budgets.get(key)
        if budget is None or budget.metadata.HasField("deletionTimestamp"):
            return None
        selector = from_message(budget.spec.selector)
        pods = [
            pod for pod in in_namespace(self._pods, budget.metadata.namespace) if selector.matches(pod.metadata.labels)
        ]
        status = plan_status(budget, pods, self._expected(pods), self.clock.time())
        if status != budget.status:
            changed = policy.PodDisruptionBudget()
            changed.CopyFrom(budget)
            changed.status.CopyFrom(status)
            await self.client.resource(policy.PodDisruptionBudget).update_status(changed)
        return EVICTION_TIMEOUT if status.disruptedPods else None

    def _expected(self, pods: Sequence[core.Pod]) -> int:
        """What the pods' owners want in sum; a pod without a scalable owner counts as one."""
        scales: dict[str, int] = {}
        sizes: dict[str, Callable[[str], int | None]] = {
            "ReplicaSet": self._replica_set_size,
            "StatefulSet": self._stateful_size,
        }
        for pod in pods:
            reference = controller_of(pod)
            size = sizes.get(reference.kind) if reference is not None else None
            wanted = size(f"{pod.metadata.namespace}/{reference.name}") if size and reference is not None else None
            if wanted is None or reference is None:
                scales[pod.metadata.uid] = 1 if is_active(pod) else 0
                continue
            owner = self._replica_sets.get(f"{pod.metadata.namespace}/{reference.name}")
            top = controller_of(owner) if owner is not None and reference.kind == "ReplicaSet" else None
            scales[top.uid if top is not None else reference.uid] = wanted
        return sum(scales.values())

    def _replica_set_size(self, key: str) -> int | None:
        owner = self._replica_sets.get(key)
        if owner is None:
            return None
        reference = controller_of(owner)
        if reference is not None and reference.kind == "Deployment":
            deployment = self._deployments.get(f"{owner.metadata.namespace}/{reference.name}")
            if deployment is not None:
                return replicas_of(deployment)
        return owner.spec.replicas

    def _stateful_size(self, key: str) -> int | None:
        owner = self._stateful_sets.get(key)
        return owner.spec.replicas if owner is not None else None
