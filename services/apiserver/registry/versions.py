"""Resources that are served in more than one version or under two groups: what is stored is one of them.

A View turns stored objects into the other form and back: autoscaling/v1 over autoscaling/v2, events.k8s.io/v1 over v1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from services.apiserver.cache import fields
from services.apiserver.cache.changes import WatchEvent
from services.apiserver.cache.entry import Entry, ProtoFramer
from tillerman.api import codec
from tillerman.api.scheme import SCHEME, ResourceInfo
from tillerman.pb.k8s import autoscaling_v1_pb2, autoscaling_v2_pb2, core_v1_pb2, events_v1_pb2

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class View:
    """``info``: the served form; ``stored``: (api version, resource) of the stored one. Conversions make new
    messages.
    """

    info: ResourceInfo
    stored: tuple[str, str]
    to_storage: Convert
    from_storage: Convert
    framer: ProtoFramer

    def entry(self, entry: Entry) -> Entry:
        message = self.from_storage(entry.message())
        message.metadata.ClearField("resourceVersion")
        return Entry(self.framer, entry.key, message.SerializeToString(), entry.revision)

    def event(self, event: WatchEvent) -> WatchEvent:
        return WatchEvent(event.type, self.entry(event.entry))

    def field_selector(self, text: str) -> str:
        """The selector with the stored form's names of the fields. Raises BadRequest."""
        return str(fields.resolve(fields.parse(text), self.info.api_version, self.info.resource))


def views() -> dict[tuple[str, str], View]:
    """By (api version, resource) as served."""
    return {
        ("autoscaling/v1", "horizontalpodautoscalers"): _view(
            "autoscaling/v1", "horizontalpodautoscalers", "autoscaling/v2", hpa_to_v2, hpa_to_v1
        ),
        ("events.k8s.io/v1", "events"): _view(
            "events.k8s.io/v1",
            "events",
            "v1",
            event_to_core,
            event_from_core,
        ),
    }


def _view(
    served: str,
    resource: str,
    stored: str,
    to_storage: Convert,
    from_storage: Convert,
) -> View:
    info = SCHEME.by_resource(served, resource)
    framer = ProtoFramer(info.message, info.type_url, info.api_version, info.kind)
    return View(info, (stored, resource), to_storage, from_storage, framer)


# -- events ------------------------------------------------------------------------------------------------------------

_EVENT_MESSAGES = {
    "metadata": "metadata",
    "eventTime": "eventTime",
    "regarding": "involvedObject",
    "related": "related",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
}
_EVENT_VALUES = {
    "reportingController": "reportingComponent",
    "reportingInstance": "reportingInstance",
    "action": "action",
    "reason": "reason",
    "note": "message",
    "type": "type",
    "deprecatedCount": "count",
}


def event_to_core(event: Any) -> core_v1_pb2.Event:
    found = core_v1_pb2.Event()
    for served, stored in _EVENT_MESSAGES.items():
        if event.HasField(served):
            getattr(found, stored).CopyFrom(getattr(event, served))
    for served, stored in _EVENT_VALUES.items():
        if event.HasField(served):
            setattr(found, stored, getattr(event, served))
    if event.HasField("series"):
        found.series.count = event.series.count
        found.series.lastObservedTime.CopyFrom(event.series.lastObservedTime)
    return found


def event_from_core(event: Any) -> events_v1_pb2.Event:
    found = events_v1_pb2.Event()
    for served, stored in _EVENT_MESSAGES.items():
        if event.HasField(stored):
            getattr(found, served).CopyFrom(getattr(event, stored))
    for served, stored in _EVENT_VALUES.items():
        if event.HasField(stored):
            setattr(found, served, getattr(event, stored))
    if event.HasField("series"):
        found.series.count = event.series.count
        found.series.lastObservedTime.CopyFrom(event.series.lastObservedTime)
    return found


# -- HorizontalPodAutoscaler -------------------------------------------------------------------------------------------

METRICS = "autoscaling.alpha.kubernetes.io/metrics"
BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"
_HPA_STATUS = ("observedGeneration", "currentReplicas", "desiredReplicas")


def hpa_to_v1(hpa: Any) -> autoscaling_v1_pb2.HorizontalPodAutoscaler:
    """CPU utilization is a field of v1; every other metric, the behavior and the conditions travel in annotations."""
    found = autoscaling_v1_pb2.HorizontalPodAutoscaler()
    found.metadata.CopyFrom(hpa.metadata)
    spec, status = hpa.spec, hpa.status
    _copy_reference(found.spec.scaleTargetRef, spec.scaleTargetRef)
    found.spec.maxReplicas = spec.maxReplicas
    if spec.HasField("minReplicas"):
        found.spec.minReplicas = spec.minReplicas
    others = []
    for metric in spec.metrics:
        if _is_cpu_utilization(metric) and not found.spec.HasField("targetCPUUtilizationPercentage"):
            found.spec.targetCPUUtilizationPercentage = metric.resource.target.averageUtilization
        else:
            others.append(metric)
    found.status.SetInParent()
    for name in _HPA_STATUS:
        if status.HasField(name):
            setattr(found.status, name, getattr(status, name))
    if status.HasField("lastScaleTime"):
        found.status.lastScaleTime.CopyFrom(status.lastScaleTime)
    current = []
    for metric in status.currentMetrics:
        if metric.type == "Resource" and metric.resource.name == "cpu":
            if metric.resource.current.HasField("averageUtilization"):
                found.status.currentCPUUtilizationPercentage = metric.resource.current.averageUtilization
        else:
            current.append(metric)
    _annotate(found, METRICS, [codec.to_dict(m) for m in others])
    _annotate(found, CURRENT_METRICS, [codec.to_dict(m) for m in current])
    _annotate(found, CONDITIONS, [codec.to_dict(c) for c in status.conditions])
    _annotate(found, BEHAVIOR, codec.to_dict(spec.behavior) if spec.HasField("behavior") else None)
    return found


def hpa_to_v2(hpa: Any) -> autoscaling_v2_pb2.HorizontalPodAutoscaler:
    found = autoscaling_v2_pb2.HorizontalPodAutoscaler()
    found.metadata.CopyFrom(hpa.metadata)
    spec, status = hpa.spec, hpa.status
    _copy_reference(found.spec.scaleTargetRef, spec.scaleTargetRef)
    found.spec.maxReplicas = spec.maxReplicas
    if spec.HasField("minReplicas"):
        found.spec.minReplicas = spec.minReplicas
    if spec.HasField("targetCPUUtilizationPercentage"):
        cpu = found.spec.metrics.add(type="Resource").resource
        cpu.name = "cpu"
        cpu.target.type = "Utilization"
        cpu.target.averageUtilization = spec.targetCPUUtilizationPercentage
    for content in _take(found, METRICS) or []:
        found.spec.metrics.append(_decoded(content, autoscaling_v2_pb2.MetricSpec))
    behavior = _take(found, BEHAVIOR)
    if behavior:
        found.spec.behavior.CopyFrom(_decoded(behavior, autoscaling_v2_pb2.HorizontalPodAutoscalerBehavior))
    for name in _HPA_STATUS:
        if status.HasField(name):
            setattr(found.status, name, getattr(status, name))
    if status.HasField("lastScaleTime"):
        found.status.lastScaleTime.CopyFrom(status.lastScaleTime)
    if status.HasField("currentCPUUtilizationPercentage"):
        now = found.status.currentMetrics.add(type="Resource").resource
        now.name = "cpu"
        now.current.averageUtilization = status.currentCPUUtilizationPercentage
    for content in _take(found, CURRENT_METRICS) or []:
        found.status.currentMetrics.append(_decoded(content, autoscaling_v2_pb2.MetricStatus))
    for content in _take(found, CONDITIONS) or []:
        found.status.conditions.append(_decoded(content, autoscaling_v2_pb2.HorizontalPodAutoscalerCondition))
    return found


def _is_cpu_utilization(metric: Any) -> bool:
    resource = metric.resource
    return bool(metric.type == "Resource" and resource.name == "cpu" and resource.target.HasField("averageUtilization"))


def _copy_reference(target: Any, source: Any) -> None:
    for name in ("kind", "name", "apiVersion"):
        if source.HasField(name):
            setattr(target, name, getattr(source, name))


def _annotate(obj: Any, name: str, content: Any) -> None:
    if content:
        obj.metadata.annotations[name] = orjson.dumps(content).decode()


def _take(obj: Any, name: str) -> Any:
    """The annotation's JSON, taken out; None when it is missing or not JSON."""
    if name not in obj.metadata.annotations:
        return None
    text = obj.metadata.annotations.pop(name)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _decoded(content: Any, message: Any) -> Any:
    return codec.from_dict(content, message)
