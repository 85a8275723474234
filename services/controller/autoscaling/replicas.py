"""How many replicas the usage asks for: Kubernetes' arithmetic, with its caution about pods that do not report.

Amounts are milli-units (millicores, thousandths of a byte), as in Kubernetes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tillerman.api.meta import get_condition
from tillerman.api.quantity import milli_value
from tillerman.api.times import to_seconds
from tillerman.pb.k8s import core_v1_pb2 as core


class MetricsError(Exception):
    """The usage cannot be judged; the text says why, in Kubernetes' words."""


@dataclass(frozen=True)
class Sample:
    """A pod's usage of one resource. `time` is epoch seconds, `window` the seconds it was measured over."""

    value: int
    time: float
    window: float


@dataclass(frozen=True)
class Caution:
    """When a pod's CPU usage is not believed, in seconds after its start."""

    cpu_initialization: float = 300.0
    initial_readiness: float = 30.0


@dataclass
class Groups:
    """Pods by how far their usage counts; all but `ready` are names."""

    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Proposal:
    """Replicas, and the usage they follow from: percent of the requests (or None), and milli-units per pod."""

    replicas: int
    utilization: int | None
    average: int


def group_pods(
    pods: Iterable[core.Pod], samples: Mapping[str, Sample], resource: str, caution: Caution, now: float
) -> Groups:
    groups = Groups()
    for pod in pods:
        name = pod.metadata.name
        if pod.metadata.HasField("deletionTimestamp") or pod.status.phase == "Failed":
            groups.ignored.add(name)
        elif pod.status.phase == "Pending":
            groups.unready.add(name)
        elif name not in samples:
            groups.missing.add(name)
        elif resource == "cpu" and _cpu_not_believed(pod, samples[name], caution, now):
            groups.unready.add(name)
        else:
            groups.ready += 1
    return groups


def _cpu_not_believed(pod: core.Pod, sample: Sample, caution: Caution, now: float) -> bool:
    ready = get_condition(pod.status.conditions, "Ready")
    if ready is None or not pod.status.HasField("startTime"):
        return True
    started, changed = to_seconds(pod.status.startTime), to_seconds(ready.lastTransitionTime)
    if started + caution.cpu_initialization > now:
        return ready.status == "False" or sample.time < changed + sample.window
    return ready.status == "False" and started + caution.initial_readiness > changed


def requests_of(pods: Iterable[core.Pod], resource: str, container: str = "") -> dict[str, int]:
    """Requested milli-units by pod name. Raises MetricsError for a container without a request."""
    requests: dict[str, int] = {}
    for pod in pods:
        total = 0
        sidecars = [one for one in pod.spec.initContainers if one.restartPolicy == "Always"]
        for one in [*pod.spec.containers, *sidecars]:
            if container and one.name != container:
                continue
            if resource not in one.resources.requests:
                raise MetricsError(f"missing request for {resource} in container {one.name} of Pod {pod.metadata.name}")
            total += milli_value(one.resources.requests[resource])
        requests[pod.metadata.name] = total
    return requests


def by_utilization(
    current: int,
    target_percent: int,
    *,
    samples: Mapping[str, Sample],
    requests: Mapping[str, int],
    groups: Groups,
    tolerance: float,
) -> Proposal:
    """For targets of type Utilization. Raises MetricsError."""
    usage = _believed(samples, groups)
    if not usage:
        raise MetricsError("did not receive metrics for targeted pods (pods might be unready)")
    utilization = _utilization(usage, requests)
    average = sum(usage.values()) // len(usage)

    def ratio(values: Mapping[str, int]) -> float:
        return _utilization(values, requests) / target_percent

    fallback = {name: requests.get(name, 0) * max(100, target_percent) // 100 for name in groups.missing}
    return Proposal(_replicas(current, usage, groups, fallback, ratio, tolerance), utilization, average)


def by_average(
    current: int, target: int, *, samples: Mapping[str, Sample], groups: Groups, tolerance: float
) -> Proposal:
    """For targets of type AverageValue, in milli-units. Raises MetricsError."""
    usage = _believed(samples, groups)
    if not usage:
        raise MetricsError("did not receive metrics for targeted pods (pods might be unready)")

    def ratio(values: Mapping[str, int]) -> float:
        return sum(values.values()) // len(values) / target

    fallback = dict.fromkeys(groups.missing, target)
    replicas = _replicas(current, usage, groups, fallback, ratio, tolerance)
    return Proposal(replicas, None, sum(usage.values()) // len(usage))


def _believed(samples: Mapping[str, Sample], groups: Groups) -> dict[str, int]:
    left_out = groups.ignored | groups.unready
    return {name: sample.value for name, sample in samples.items() if name not in left_out}


def _utilization(usage: Mapping[str, int], requests: Mapping[str, int]) -> int:
    """Percent of what is requested. Raises MetricsError when nothing is."""
    used = sum(value for name, value in usage.items() if name in requests)
    requested = sum(requests[name] for name in usage if name in requests)
    if requested == 0:
        raise MetricsError("no metrics returned matched known pods")
    return used * 100 // requested


def _replicas(
    current: int,
    usage: Mapping[str, int],
    groups: Groups,
    fallback: Mapping[str, int],
    ratio: Callable[[Mapping[str, int]], float],
    tolerance: float,
) -> int:
    """Assumes the least favourable usage of pods that do not report, so that neither direction overshoots."""
    first = ratio(usage)
    up_with_unready = bool(groups.unready) and first > 1.0
    if not up_with_unready and not groups.missing:
        return current if abs(1.0 - first) <= tolerance else math.ceil(first * groups.ready)
    assumed = dict(usage)
    if groups.missing:
        if first < 1.0:
            assumed |= fallback
        elif first > 1.0:
            assumed |= dict.fromkeys(groups.missing, 0)
    if up_with_unready:
        assumed |= dict.fromkeys(groups.unready, 0)
    second = ratio(assumed)
    if abs(1.0 - second) <= tolerance or (first < 1.0 < second) or (second < 1.0 < first):
        return current
    wanted = math.ceil(second * len(assumed))
    if (second < 1.0 and wanted > current) or (second > 1.0 and wanted < current):
        return current
    return wanted
