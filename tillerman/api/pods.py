"""What components ask about a pod: readiness, liveness, resources, quality of service."""

from collections.abc import Iterable, Mapping

from tillerman.api import quantity
from tillerman.api.meta import get_condition
from tillerman.pb.k8s import core_v1_pb2 as core


def is_ready(pod: core.Pod) -> bool:
    """Whether the pod's Ready condition is True."""
    condition = get_condition(pod.status.conditions, "Ready")
    return condition is not None and condition.status == "True"


def is_terminal(pod: core.Pod) -> bool:
    """Succeeded or Failed: it will never run again."""
    return pod.status.phase in ("Succeeded", "Failed")


def is_active(pod: core.Pod) -> bool:
    """Neither terminal nor being deleted: what a ReplicaSet counts."""
    return not is_terminal(pod) and not pod.metadata.HasField("deletionTimestamp")


def is_restartable_init(container: core.Container) -> bool:
    """A sidecar: an init container that stays."""
    return container.restartPolicy == "Always"


def resource_requests(pod: core.Pod) -> dict[str, int]:
    """What the scheduler reserves: cpu in millicores, others in whole units, and "pods" 1."""
    return {**_totals(pod, limits=False), "pods": 1}


def resource_limits(pod: core.Pod) -> dict[str, int]:
    """The pod's limits by the same rule; a resource that some container does not limit counts what the others do."""
    return _totals(pod, limits=True)


def _totals(pod: core.Pod, *, limits: bool) -> dict[str, int]:
    spec = pod.spec
    totals: dict[str, int] = {}
    for container in spec.containers:
        _add(totals, _amounts(container.resources, limits))
    # Sidecars run beside everything after them; a plain init container runs alone with the sidecars before it.
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.initContainers:
        amounts = _amounts(container.resources, limits)
        if is_restartable_init(container):
            _add(totals, amounts)
            _add(sidecars, amounts)
            amounts = {}
        _raise(peak, {k: amounts.get(k, 0) + sidecars.get(k, 0) for k in amounts.keys() | sidecars.keys()})
    _raise(totals, peak)
    if spec.HasField("resources"):
        totals.update(_amounts(spec.resources, limits))
    if not limits or totals:
        _add(totals, amounts_of(spec.overhead))
    return totals


def amounts_of(resources: Mapping[str, object]) -> dict[str, int]:
    """A resource list in whole units, cpu in millicores."""
    return {
        name: quantity.milli_value(amount.string)  # type: ignore[attr-defined]
        if name == "cpu"
        else quantity.value(amount.string)  # type: ignore[attr-defined]
        for name, amount in resources.items()
    }


def _amounts(resources: core.ResourceRequirements, limits: bool) -> dict[str, int]:
    return amounts_of(resources.limits if limits else resources.requests)


def _add(totals: dict[str, int], more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        totals[name] = totals.get(name, 0) + amount


def _raise(totals: dict[str, int], floor: Mapping[str, int]) -> None:
    for name, amount in floor.items():
        totals[name] = max(totals.get(name, 0), amount)


def qos_class(pod: core.Pod) -> str:
    """Guaranteed, Burstable or BestEffort, by cpu and memory of all containers (or of the pod, when it states them)."""
    spec = pod.spec
    if spec.HasField("resources") and (spec.resources.requests or spec.resources.limits):
        return _qos([spec.resources])
    return _qos([c.resources for c in (*spec.initContainers, *spec.containers)])


def _qos(requirements: Iterable[core.ResourceRequirements]) -> str:
    guaranteed, anything = True, False
    for resources in requirements:
        requests = {k: v for k, v in amounts_of(resources.requests).items() if k in ("cpu", "memory") and v}
        limits = {k: v for k, v in amounts_of(resources.limits).items() if k in ("cpu", "memory") and v}
        anything = anything or bool(requests or limits)
        whole = len(limits) == 2 and all(requests.get(name, limit) == limit for name, limit in limits.items())
        guaranteed = guaranteed and whole
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
