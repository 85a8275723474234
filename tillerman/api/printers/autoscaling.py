"""HorizontalPodAutoscalers of both versions: current against target, metric by metric."""

from typing import Any

from tillerman.api.printers.ages import UNKNOWN, age
from tillerman.api.printers.labels import NONE


def horizontal_pod_autoscaler(obj: Any, now: float) -> list[Any]:
    reference = obj.spec.scaleTargetRef
    has_metrics = "metrics" in obj.spec.DESCRIPTOR.fields_by_name
    return [
        obj.metadata.name,
        f"{reference.kind}/{reference.name}",
        targets(obj) if has_metrics else _v1_targets(obj),
        str(obj.spec.minReplicas) if obj.spec.HasField("minReplicas") else "<unset>",
        obj.spec.maxReplicas,
        obj.status.currentReplicas,
        age(obj.metadata.creationTimestamp, now),
    ]


def _v1_targets(obj: Any) -> str:
    if not obj.spec.HasField("targetCPUUtilizationPercentage"):
        return NONE
    known = obj.status.HasField("currentCPUUtilizationPercentage")
    current = f"{obj.status.currentCPUUtilizationPercentage}%" if known else UNKNOWN
    return f"{current}/{obj.spec.targetCPUUtilizationPercentage}%"


def targets(obj: Any) -> str:
    """`55%/70%`, `100Mi/200Mi`, up to two metrics."""
    shown = []
    for i, metric in enumerate(obj.spec.metrics):
        current = obj.status.currentMetrics[i] if i < len(obj.status.currentMetrics) else None
        shown.append(_metric(metric, current))
    if not shown:
        return NONE
    return ", ".join(shown[:2]) + (f" + {len(shown) - 2} more..." if len(shown) > 2 else "")


_SOURCES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


def _metric(metric: Any, current: Any) -> str:
    field = _SOURCES.get(metric.type)
    if field is None:
        return "<unknown type>"
    target = getattr(metric, field).target
    value: Any = getattr(current, field).current if current is not None and current.HasField(field) else None
    if target.HasField("averageUtilization"):
        known = value is not None and value.HasField("averageUtilization")
        return f"{f'{value.averageUtilization}%' if known else UNKNOWN}/{target.averageUtilization}%"
    wanted = "averageValue" if target.HasField("averageValue") else "value"
    known = value is not None and value.HasField(wanted)
    average = " (avg)" if wanted == "averageValue" and metric.type in ("Object", "External") else ""
    return f"{getattr(value, wanted).string if known else UNKNOWN}/{getattr(target, wanted).string}{average}"


PRINTERS = {"HorizontalPodAutoscaler": horizontal_pod_autoscaler}
