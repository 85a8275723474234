"""HorizontalPodAutoscaler, in the form of autoscaling/v2 (and v1, which says less)."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    NEGATIVE,
    Cause,
    forbidden,
    invalid,
    invalid_all,
    not_supported,
    required,
)
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import path_segment
from services.apiserver.strategy.selectors import label_selector
from tillerman.api.quantity import parse_quantity
from tillerman.pb.k8s import autoscaling_v1_pb2 as autoscaling_v1
from tillerman.pb.k8s import autoscaling_v2_pb2 as autoscaling

_SOURCES = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
_TO_ZERO = "must specify at least one Object or External metric to support scaling to zero replicas"
_MAX_WINDOW, _MAX_PERIOD = 3600, 1800


def _validate(autoscaler: Any) -> list[Cause]:
    spec = autoscaler.spec
    causes: list[Cause] = []
    if spec.HasField("minReplicas") and spec.minReplicas < 1:
        causes.append(invalid("spec.minReplicas", spec.minReplicas, "must be greater than or equal to 1"))
    if spec.maxReplicas < 1:
        causes.append(invalid("spec.maxReplicas", spec.maxReplicas, "must be greater than 0"))
    if spec.HasField("minReplicas") and spec.maxReplicas < spec.minReplicas:
        causes.append(invalid("spec.maxReplicas", spec.maxReplicas, "must be greater than or equal to `minReplicas`"))
    causes += _reference("spec.scaleTargetRef", spec.scaleTargetRef)
    if isinstance(spec, autoscaling_v1.HorizontalPodAutoscalerSpec):
        if spec.HasField("targetCPUUtilizationPercentage") and spec.targetCPUUtilizationPercentage < 1:
            path = "spec.metrics[0].resource.target.averageUtilization"
            causes.append(invalid(path, spec.targetCPUUtilizationPercentage, "must be greater than 0"))
        if spec.HasField("minReplicas") and spec.minReplicas == 0:
            causes.append(forbidden("spec.metrics", _TO_ZERO))
        return causes
    causes += _metrics(spec)
    for direction in ("scaleUp", "scaleDown"):
        if spec.HasField("behavior") and spec.behavior.HasField(direction):
            causes += _rules(f"spec.behavior.{direction}", getattr(spec.behavior, direction))
    return causes


def _reference(path: str, reference: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("kind", "name"):
        value = getattr(reference, field)
        causes += invalid_all(f"{path}.{field}", value, path_segment(value)) if value else [required(f"{path}.{field}")]
    return causes


def _metrics(spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, metric in enumerate(spec.metrics):
        causes += _metric(f"spec.metrics[{index}]", metric)
    scales_to_zero = any(metric.type in ("Object", "External") for metric in spec.metrics)
    if spec.HasField("minReplicas") and spec.minReplicas == 0 and not scales_to_zero:
        causes.append(forbidden("spec.metrics", _TO_ZERO))
    return causes


def _metric(path: str, metric: Any) -> list[Cause]:
    if not metric.type:
        return [required(f"{path}.type", "must specify a metric source type")]
    causes: list[Cause] = []
    given = [field for field in _SOURCES.values() if metric.HasField(field)]
    if given:
        # The first that is there is judged, whatever the type says; others are only refused.
        causes += _source(f"{path}.{given[0]}", given[0], getattr(metric, given[0]))
    expected = _SOURCES.get(metric.type, "")
    if not expected:
        causes.append(not_supported(f"{path}.type", metric.type, sorted(_SOURCES)))
    elif expected not in given:
        causes.append(required(f"{path}.{expected}", "must populate information for the given metric source"))
    if len(given) > 1:
        detail = "must populate the given metric source only"
        causes += [forbidden(f"{path}.{field}", detail) for field in given if field != expected]
    return causes


def _source(path: str, field: str, source: Any) -> list[Cause]:
    causes: list[Cause] = []
    target, where = source.target, f"{path}.target"
    if field == "object":
        causes += _reference(f"{path}.describedObject", source.describedObject)
    if field in ("resource", "containerResource"):
        if not source.name:
            causes.append(required(f"{path}.name", "must specify a resource name"))
        if field == "containerResource" and not source.container:
            causes.append(required(f"{path}.container", "must specify a container"))
    else:
        causes += _identifier(f"{path}.metric", source.metric)
    causes += _target(where, target)
    if field in ("resource", "containerResource"):
        if not target.HasField("averageUtilization") and not target.HasField("averageValue"):
            detail = "must set either a target raw value or a target utilization"
            causes.append(required(f"{where}.averageUtilization", detail))
        if target.HasField("averageUtilization") and target.HasField("averageValue"):
            detail = "may not set both a target raw value and a target utilization"
            causes.append(forbidden(f"{where}.averageValue", detail))
    elif field == "pods":
        if not target.HasField("averageValue") or parse_quantity(target.averageValue) <= 0:
            causes.append(required(f"{where}.averageValue", "must specify a positive target averageValue"))
    elif not target.HasField("value") and not target.HasField("averageValue"):
        other = (
            "a target value or averageValue" if field == "object" else "a target value for metric or a per-pod target"
        )
        detail = f"must set either {other}"
        causes.append(required(f"{where}.averageValue", detail))
    elif field == "external" and target.HasField("value") and target.HasField("averageValue"):
        detail = "may not set both a target value for metric and a per-pod target"
        causes.append(forbidden(f"{where}.value", detail))
    return causes


def _identifier(path: str, metric: Any) -> list[Cause]:
    causes = [] if metric.name else [required(f"{path}.name", "must specify a metric name")]
    if metric.name:
        causes += invalid_all(f"{path}.name", metric.name, path_segment(metric.name))
    if metric.HasField("selector"):
        causes += label_selector(f"{path}.selector", metric.selector)
    return causes


def _target(path: str, target: Any) -> list[Cause]:
    causes: list[Cause] = []
    if not target.type:
        causes.append(required(f"{path}.type", "must specify a metric target type"))
    if target.type not in ("Utilization", "Value", "AverageValue"):
        detail = "must be either Utilization, Value, or AverageValue"
        causes.append(invalid(f"{path}.type", target.type, detail))
    causes += [
        invalid(f"{path}.{field}", getattr(target, field).string, "must be positive")
        for field in ("value", "averageValue")
        if target.HasField(field) and parse_quantity(getattr(target, field)) <= 0
    ]
    if target.HasField("averageUtilization") and target.averageUtilization < 1:
        detail = "must be greater than 0"
        causes.append(invalid(f"{path}.averageUtilization", target.averageUtilization, detail))
    return causes


def _rules(path: str, rules: Any) -> list[Cause]:
    causes: list[Cause] = []
    if rules.HasField("stabilizationWindowSeconds"):
        window = rules.stabilizationWindowSeconds
        if window < 0:
            detail = "must be greater than or equal to zero"
            causes.append(invalid(f"{path}.stabilizationWindowSeconds", window, detail))
        elif window > _MAX_WINDOW:
            detail = f"must be less than or equal to {_MAX_WINDOW}"
            causes.append(invalid(f"{path}.stabilizationWindowSeconds", window, detail))
    if rules.HasField("tolerance") and parse_quantity(rules.tolerance) < 0:
        causes.append(invalid(f"{path}.tolerance", rules.tolerance.string, NEGATIVE))
    if rules.HasField("selectPolicy") and rules.selectPolicy not in ("Max", "Min", "Disabled"):
        causes.append(not_supported(f"{path}.selectPolicy", rules.selectPolicy, ["Disabled", "Max", "Min"]))
    if not rules.policies:
        causes.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(rules.policies):
        where = f"{path}.policies[{index}]"
        if policy.type not in ("Pods", "Percent"):
            causes.append(not_supported(f"{where}.type", policy.type, ["Percent", "Pods"]))
        causes += [
            invalid(f"{where}.{field}", getattr(policy, field), "must be greater than zero")
            for field in ("value", "periodSeconds")
            if getattr(policy, field) <= 0
        ]
        if policy.periodSeconds > _MAX_PERIOD:
            detail = f"must be less than or equal to {_MAX_PERIOD}"
            causes.append(invalid(f"{where}.periodSeconds", policy.periodSeconds, detail))
    return causes


def _validate_status(new: Any, old: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("currentReplicas", "desiredReplicas"):
        value = getattr(new.status, field)
        if value < 0:
            causes.append(invalid(f"status.{field}", value, "must be greater than or equal to 0"))
    return causes


_RULES = Kind(status=True, validate=_validate, validate_status=_validate_status)
KINDS = {autoscaling.HorizontalPodAutoscaler: _RULES, autoscaling_v1.HorizontalPodAutoscaler: _RULES}
