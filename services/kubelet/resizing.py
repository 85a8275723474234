"""Containers that get other resources while they run: what is to be done, and whether there is room. Pure functions."""

from collections.abc import Iterable, Mapping

from services.kubelet.admission import shortage
from services.kubelet.observed import ContainerView, Rejection
from tillerman.api.pods import resource_requests
from tillerman.pb.k8s import core_v1_pb2 as core


def resize_pending(container: core.Container, view: ContainerView) -> bool:
    """Whether a running container has other resources than its spec says by now."""
    return view.running and view.applied is not None and view.applied != container.resources


def needs_restart(container: core.Container, applied: core.ResourceRequirements) -> bool:
    for policy in container.resizePolicy:
        before = (applied.requests.get(policy.resourceName), applied.limits.get(policy.resourceName))
        wanted = container.resources
        after = (wanted.requests.get(policy.resourceName), wanted.limits.get(policy.resourceName))
        if policy.restartPolicy == "RestartContainer" and before != after:
            return True
    return False


def refuse_resize(pod: core.Pod, *, others: Iterable[core.Pod], allocatable: Mapping[str, int]) -> Rejection | None:
    """Why a running pod cannot have the cpu and memory that it asks for by now: never, or not beside the others."""
    used: dict[str, int] = {}
    for other in others:
        for name, amount in resource_requests(other).items():
            used[name] = used.get(name, 0) + amount
    deferred: Rejection | None = None
    for name, amount in resource_requests(pod).items():
        if name not in ("cpu", "memory"):
            continue
        capacity = allocatable.get(name, 0)
        if amount > capacity:
            words = f"Node didn't have enough capacity: {name}, requested: {amount}, capacity: {capacity}"
            return Rejection("Infeasible", words)
        if used.get(name, 0) + amount > capacity:
            deferred = deferred or Rejection("Deferred", shortage(name, amount, used.get(name, 0), capacity))
    return deferred
