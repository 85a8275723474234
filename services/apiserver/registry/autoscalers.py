"""HorizontalPodAutoscaler between autoscaling/v2, which is stored, and v1.

v1 has one metric, the target CPU utilization. All else travels in annotations of v1 objects: other metrics and the
metrics' status in v1's own form of them, conditions, and the behavior as Go writes its internal type (names in
capitals). An annotation that cannot be read says nothing, as in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from google.protobuf.message import Message

from tillerman.api import codec
from tillerman.pb.k8s import autoscaling_v1_pb2 as v1
from tillerman.pb.k8s import autoscaling_v2_pb2 as v2

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"
_SPEC = ("minReplicas", "maxReplicas")
_STATUS = ("observedGeneration", "currentReplicas", "desiredReplicas", "lastScaleTime")

# Per metric source: v1's field, and where v2 keeps it.
_RESOURCE = (
    ("name", "name"),
    ("targetAverageUtilization", "target.averageUtilization"),
    ("targetAverageValue", "target.averageValue"),
)
_SOURCES: dict[str, tuple[tuple[str, str], ...]] = {
    "object": (
        ("target", "describedObject"),
        ("metricName", "metric.name"),
        ("targetValue", "target.value"),
        ("selector", "metric.selector"),
        ("averageValue", "target.averageValue"),
    ),
    "pods": (
        ("metricName", "metric.name"),
        ("targetAverageValue", "target.averageValue"),
        ("selector", "metric.selector"),
    ),
    "resource": _RESOURCE,
    "external": (
        ("metricName", "metric.name"),
        ("metricSelector", "metric.selector"),
        ("targetValue", "target.value"),
        ("targetAverageValue", "target.averageValue"),
    ),
    "containerResource": (*_RESOURCE, ("container", "container")),
}
_RESOURCE_NOW = (
    ("name", "name"),
    ("currentAverageUtilization", "current.averageUtilization"),
    ("currentAverageValue", "current.averageValue"),
)
_STATUSES: dict[str, tuple[tuple[str, str], ...]] = {
    "object": (
        ("target", "describedObject"),
        ("metricName", "metric.name"),
        ("currentValue", "current.value"),
        ("selector", "metric.selector"),
        ("averageValue", "current.averageValue"),
    ),
    "pods": (
        ("metricName", "metric.name"),
        ("currentAverageValue", "current.averageValue"),
        ("selector", "metric.selector"),
    ),
    "resource": _RESOURCE_NOW,
    "external": (
        ("metricName", "metric.name"),
        ("metricSelector", "metric.selector"),
        ("currentValue", "current.value"),
        ("currentAverageValue", "current.averageValue"),
    ),
    "containerResource": (*_RESOURCE_NOW, ("container", "container")),
}


def to_v1(autoscaler: Any) -> Any:
    found = v1.HorizontalPodAutoscaler()
    found.metadata.CopyFrom(autoscaler.metadata)
    _drop_annotations(found)
    spec, status = autoscaler.spec, autoscaler.status
    _copy_message(spec.scaleTargetRef, found.spec.scaleTargetRef)
    _copy_fields(spec, found.spec, _SPEC)
    cpu = [metric for metric in spec.metrics if _is_cpu_utilization(metric)]
    if cpu:
        found.spec.targetCPUUtilizationPercentage = cpu[0].resource.target.averageUtilization
    found.status.SetInParent()
    _copy_fields(status, found.status, _STATUS)
    for metric in status.currentMetrics:
        now = metric.resource
        if metric.type == "Resource" and now.name == "cpu" and now.current.HasField("averageUtilization"):
            found.status.currentCPUUtilizationPercentage = now.current.averageUtilization
    others = [_metric_to_v1(m, v1.MetricSpec(), _SOURCES) for m in spec.metrics if not _is_cpu_utilization(m)]
    _annotate(found, _METRICS, [codec.to_dict(m) for m in others])
    # The CPU's too: its raw value has no field of its own.
    current = [_metric_to_v1(m, v1.MetricStatus(), _STATUSES) for m in status.currentMetrics]
    _annotate(found, _CURRENT_METRICS, [codec.to_dict(m) for m in current])
    conditions = [_copy_message(c, v1.HorizontalPodAutoscalerCondition()) for c in status.conditions]
    _annotate(found, _CONDITIONS, [codec.to_dict(c) for c in conditions])
    if spec.HasField("behavior"):
        _annotate(found, _BEHAVIOR, _renamed(codec.to_dict(spec.behavior), str.upper))
    return found


def to_v2(autoscaler: Any) -> Any:
    found = v2.HorizontalPodAutoscaler()
    found.metadata.CopyFrom(autoscaler.metadata)
    spec, status = autoscaler.spec, autoscaler.status
    _copy_message(spec.scaleTargetRef, found.spec.scaleTargetRef)
    _copy_fields(spec, found.spec, _SPEC)
    for metric in _read(autoscaler, _METRICS, v1.MetricSpec) or ():
        _metric_to_v2(metric, found.spec.metrics.add(), _SOURCES)
    if spec.HasField("targetCPUUtilizationPercentage"):
        cpu = found.spec.metrics.add(type="Resource").resource
        cpu.name, cpu.target.type = "cpu", "Utilization"
        cpu.target.averageUtilization = spec.targetCPUUtilizationPercentage
    behavior = _json(autoscaler, _BEHAVIOR)
    if isinstance(behavior, dict):
        decoded = _decoded(_renamed(behavior, str.lower), v2.HorizontalPodAutoscalerBehavior)
        if decoded is not None:
            found.spec.behavior.CopyFrom(decoded)
    found.status.SetInParent()
    _copy_fields(status, found.status, _STATUS)
    current = _read(autoscaler, _CURRENT_METRICS, v1.MetricStatus)
    if current is not None:
        for metric in current:
            _metric_to_v2(metric, found.status.currentMetrics.add(), _STATUSES)
    elif status.HasField("currentCPUUtilizationPercentage"):
        now = found.status.currentMetrics.add(type="Resource").resource
        now.name, now.current.averageUtilization = "cpu", status.currentCPUUtilizationPercentage
    for condition in _read(autoscaler, _CONDITIONS, v1.HorizontalPodAutoscalerCondition) or ():
        _copy_message(condition, found.status.conditions.add())
    _drop_annotations(found)
    return found


def _is_cpu_utilization(metric: Any) -> bool:
    resource = metric.resource
    return bool(metric.type == "Resource" and resource.name == "cpu" and resource.target.HasField("averageUtilization"))


def _metric_to_v1(metric: Any, found: Any, sources: dict[str, tuple[tuple[str, str], ...]]) -> Any:
    found.type = metric.type
    for name, fields in sources.items():
        if metric.HasField(name):
            getattr(found, name).SetInParent()
            for old, new in fields:
                _move(getattr(metric, name), new, getattr(found, name), old)
    return found


def _metric_to_v2(metric: Any, found: Any, sources: dict[str, tuple[tuple[str, str], ...]]) -> None:
    found.type = metric.type
    for name, fields in sources.items():
        if not metric.HasField(name):
            continue
        source = getattr(found, name)
        source.SetInParent()
        for old, new in fields:
            _move(getattr(metric, name), old, source, new)
        if sources is _SOURCES:
            source.target.type = _target_type(name, source.target)


def _target_type(source: str, target: Any) -> str:
    """v1 does not say which target it means: the fields that are set do."""
    if source in ("resource", "containerResource"):
        return "Utilization" if target.HasField("averageUtilization") else "AverageValue"
    if source == "object":
        return "AverageValue" if target.HasField("averageValue") else "Value"
    return "Value" if source == "external" and target.HasField("value") else "AverageValue"


def _move(source: Any, read: str, target: Any, write: str) -> None:
    """Copies one field between messages, each named by a path; what is not set stays unset."""
    *above, last = read.split(".")
    for name in above:
        source = getattr(source, name)
    if not source.HasField(last):
        return
    value = getattr(source, last)
    *above, last = write.split(".")
    for name in above:
        target = getattr(target, name)
    if isinstance(value, Message):
        _copy_message(value, getattr(target, last))
    else:
        setattr(target, last, value)


def _copy_message(source: Any, target: Any) -> Any:
    """Between the two versions of a message; they have the same numbers for the same fields."""
    target.SetInParent()
    target.MergeFromString(source.SerializeToString())
    return target


def _copy_fields(source: Any, target: Any, names: tuple[str, ...]) -> None:
    for name in names:
        _move(source, name, target, name)


def _renamed(value: Any, case: Callable[[str], str]) -> Any:
    """Every key with its first letter in the other case."""
    if isinstance(value, dict):
        return {case(key[:1]) + key[1:]: _renamed(part, case) for key, part in value.items()}
    return [_renamed(part, case) for part in value] if isinstance(value, list) else value


def _annotate(autoscaler: Any, name: str, content: Any) -> None:
    if content:
        autoscaler.metadata.annotations[name] = orjson.dumps(content).decode()


def _json(autoscaler: Any, name: str) -> Any:
    try:
        return orjson.loads(autoscaler.metadata.annotations.get(name, "null"))
    except orjson.JSONDecodeError:
        return None


def _read(autoscaler: Any, name: str, message: type[Message]) -> list[Any] | None:
    """The messages of an annotation; None when there is none that can be read."""
    content = _json(autoscaler, name)
    if not isinstance(content, list):
        return None
    decoded = [_decoded(item, message) for item in content]
    return None if None in decoded else decoded


def _decoded(content: Any, message: type[Message]) -> Any:
    try:
        return codec.from_dict(content, message)
    except codec.DecodeError:
        return None


def _drop_annotations(autoscaler: Any) -> None:
    for name in (_METRICS, _BEHAVIOR, _CONDITIONS, _CURRENT_METRICS):
        autoscaler.metadata.annotations.pop(name, None)
