"""One metric of an autoscaler's spec, judged against what the pods use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from services.controller.autoscaling.replicas import (
    Caution,
    MetricsError,
    Proposal,
    Sample,
    by_average,
    by_utilization,
    group_pods,
    requests_of,
)
from tillerman.api.quantity import format_quantity, milli_value
from tillerman.pb.k8s import autoscaling_v2_pb2 as autoscaling
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import resource_pb2 as resource


@dataclass(frozen=True)
class Wanted:
    """What a Resource or ContainerResource metric asks for; `container` is empty for whole pods."""

    resource: str
    container: str
    target: autoscaling.MetricTarget

    @property
    def failure_reason(self) -> str:
        return "FailedGetContainerResourceMetric" if self.container else "FailedGetResourceMetric"

    @property
    def title(self) -> str:
        """As it is named in conditions and events."""
        what = f"{self.resource} container resource" if self.container else f"{self.resource} resource"
        if self.target.HasField("averageUtilization"):
            return f"{what} utilization (percentage of request)"
        return what


@dataclass(frozen=True)
class Judged:
    proposal: Proposal
    title: str
    status: autoscaling.MetricStatus


def wanted_of(spec: autoscaling.MetricSpec) -> Wanted:
    """Raises MetricsError for a metric type that has no source here."""
    if spec.type == "Resource":
        return Wanted(spec.resource.name, "", spec.resource.target)
    if spec.type == "ContainerResource":
        source = spec.containerResource
        return Wanted(source.name, source.container, source.target)
    raise MetricsError(f'metric source type "{spec.type}" needs a metrics adapter, and there is none')


def judge(
    wanted: Wanted,
    *,
    pods: Sequence[core.Pod],
    samples: Mapping[str, Sample],
    current: int,
    tolerance: float,
    caution: Caution,
    now: float,
) -> Judged:
    """Raises MetricsError."""
    groups = group_pods(pods, samples, wanted.resource, caution, now)
    target = wanted.target
    if target.HasField("averageUtilization"):
        proposal = by_utilization(
            current,
            target.averageUtilization,
            samples=samples,
            requests=requests_of(pods, wanted.resource, wanted.container),
            groups=groups,
            tolerance=tolerance,
        )
    elif target.HasField("averageValue") or target.HasField("value"):
        amount = target.averageValue if target.HasField("averageValue") else target.value
        per_pod = milli_value(amount)
        if not target.HasField("averageValue"):
            per_pod = max(per_pod // max(len(pods), 1), 1)
        proposal = by_average(current, per_pod, samples=samples, groups=groups, tolerance=tolerance)
    else:
        raise MetricsError("invalid resource metric source: neither a utilization target nor a value target was set")
    return Judged(proposal, wanted.title, _status(wanted, proposal))


def _status(wanted: Wanted, proposal: Proposal) -> autoscaling.MetricStatus:
    current = autoscaling.MetricValueStatus(averageValue=_quantity(wanted.resource, proposal.average))
    if proposal.utilization is not None:
        current.averageUtilization = proposal.utilization
    status = autoscaling.MetricStatus(type="ContainerResource" if wanted.container else "Resource")
    if wanted.container:
        status.containerResource.name = wanted.resource
        status.containerResource.container = wanted.container
        status.containerResource.current.CopyFrom(current)
    else:
        status.resource.name = wanted.resource
        status.resource.current.CopyFrom(current)
    return status


def _quantity(name: str, milli: int) -> resource.Quantity:
    if name == "memory":
        return resource.Quantity(string=format_quantity(milli // 1000))
    return resource.Quantity(string=format_quantity(Decimal(milli) / 1000))
