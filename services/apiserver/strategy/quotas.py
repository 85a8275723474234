"""LimitRange and ResourceQuota."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    qualified_name,
    required,
)
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.resources import (
    amount,
    container_resource_name,
    is_huge_page,
    is_native,
    quota_resource_name,
    resource_name,
)
from tillerman.api.quantity import parse_quantity
from tillerman.pb.k8s import core_v1_pb2 as core

_LIMIT_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_POD_SCOPES = (
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
)
_SCOPES = (*_POD_SCOPES, "VolumeAttributesClass")
# These say all that there is to say by being named.
_WITHOUT_VALUES = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity")
_CLAIM_RESOURCES = {"persistentvolumeclaims", "requests.storage"}
_POD_RESOURCES = {"pods", "cpu", "memory"} | {
    f"{side}.{name}" for side in ("requests", "limits") for name in ("cpu", "memory")
}
_CONFLICTS = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
# What must not exceed what, in Kubernetes' order: low, high, the field to blame, and the one whose value is told.
_ORDER = (
    ("min", "max", "min", "min"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest"),
    ("min", "default", "default", "min"),
    ("default", "max", "default", "max"),
)
_WORDS = {"defaultRequest": "default request"}


def _validate_limit_range(limit_range: Any) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, item in enumerate(limit_range.spec.limits):
        path = f"spec.limits[{index}]"
        problems = _limit_type(f"{path}.type", item.type)
        causes += problems
        if item.type in seen:
            causes.append(duplicate(f"{path}.type", item.type))
        seen.add(item.type)
        causes += _limit_item(path, item)
    return causes


def _limit_type(path: str, name: str) -> list[Cause]:
    problems = qualified_name(name)
    if problems:
        return invalid_all(path, name, problems)
    if "/" not in name and name not in _LIMIT_TYPES:
        return [invalid(path, name, "must be a standard limit type or fully qualified")]
    return []


def _limit_item(path: str, item: Any) -> list[Cause]:
    causes: list[Cause] = []
    parts = {
        field: getattr(item, field) for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
    }
    for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        if field in ("default", "defaultRequest") and item.type == "Pod":
            if parts[field]:
                causes.append(forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
            parts[field] = {}
            continue
        for name in sorted(parts[field]):
            rule = container_resource_name if item.type in ("Pod", "Container") else resource_name
            causes += rule(f"{path}.{field}[{name}]", name)
    if item.type == "PersistentVolumeClaim" and "storage" not in item.min and "storage" not in item.max:
        causes.append(
            required(f"{path}.limits", "either minimum or maximum storage value is required, but neither was provided")
        )
    for name in sorted({name for part in parts.values() for name in part}):
        causes += _limit_order(path, name, parts)
    return causes


def _limit_order(path: str, name: str, parts: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for low, high, blamed, told in _ORDER:
        if name not in parts[low] or name not in parts[high]:
            continue
        lower, upper = parts[low][name], parts[high][name]
        if parse_quantity(lower) <= parse_quantity(upper):
            continue
        # Only against a request is the default called a limit.
        other = "default limit" if (low, high) == ("defaultRequest", "default") else _WORDS.get(high, high)
        detail = f"{_WORDS.get(low, low)} value {lower.string} is greater than {other} value {upper.string}"
        causes.append(invalid(f"{path}.{blamed}[{name}]", parts[told][name].string, detail))
    ratios = parts["maxLimitRequestRatio"]
    if name in ratios:
        where, ratio = f"{path}.maxLimitRequestRatio[{name}]", parse_quantity(ratios[name])
        if ratio < 1:
            causes.append(invalid(where, ratios[name].string, f"ratio {ratios[name].string} is less than 1"))
        if name in parts["max"] and name in parts["min"] and parse_quantity(parts["min"][name]):
            limit = parse_quantity(parts["max"][name]) / parse_quantity(parts["min"][name])
            if ratio > limit:
                detail = f"ratio {ratios[name].string} is greater than max/min = {float(limit):f}"
                causes.append(invalid(where, ratios[name].string, detail))
    if (is_huge_page(name) or not is_native(name)) and name in parts["defaultRequest"] and name in parts["default"]:
        request, limit_value = parts["defaultRequest"][name], parts["default"][name]
        if parse_quantity(request) != parse_quantity(limit_value):
            detail = f"default value {limit_value.string} must equal to defaultRequest value {request.string} in {name}"
            causes.append(invalid(f"{path}.defaultRequest[{name}]", request.string, detail))
    return causes


def _validate_quota(quota: Any) -> list[Cause]:
    spec = quota.spec
    causes: list[Cause] = []
    for name in sorted(spec.hard):
        causes += quota_resource_name(f"spec.hard[{name}]", name)
        causes += amount(f"spec.hard[{name}]", name, spec.hard[name])
    causes += _scopes(spec)
    return causes + _scope_selector("spec.scopeSelector", spec)


def _scopes(spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    scopes = list(spec.scopes)
    for scope in scopes:
        if scope not in _SCOPES:
            causes.append(invalid("spec.scopes", scopes, "unsupported scope"))
        causes += _scope_fits("spec.scopes", scope, scopes, spec.hard)
    return causes + _scope_conflicts("spec.scopes", scopes)


def _scope_fits(path: str, scope: str, shown: Any, hard: Any) -> list[Cause]:
    """Scopes select pods, so they limit only what pods use (best effort ones: nothing but their number), or claims."""
    if scope == "BestEffort":
        allowed = {"pods"}
    elif scope == "VolumeAttributesClass":
        allowed = _CLAIM_RESOURCES
    elif scope in _POD_SCOPES:
        allowed = _POD_RESOURCES
    else:
        return []
    unfit = [name for name in sorted(hard) if name not in allowed and "/" not in name]
    return [invalid(path, shown, "unsupported scope applied to resource") for _ in unfit]


def _scope_conflicts(path: str, scopes: Any) -> list[Cause]:
    return [invalid(path, scopes, "conflicting scopes") for pair in _CONFLICTS if all(name in scopes for name in pair)]


def _scope_selector(path: str, spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    if not spec.HasField("scopeSelector"):
        return causes
    where = f"{path}.matchExpressions"
    names = [requirement.scopeName for requirement in spec.scopeSelector.matchExpressions]
    for requirement in spec.scopeSelector.matchExpressions:
        if requirement.scopeName not in _SCOPES:
            causes.append(invalid(f"{where}.scopeName", requirement.scopeName, "unsupported scope"))
        causes += _scope_fits(where, requirement.scopeName, names, spec.hard)
        only_exists = requirement.scopeName in _WITHOUT_VALUES
        if only_exists and requirement.operator != "Exists":
            detail = f"must be 'Exist' when scope is any of {', '.join(sorted(_CONFLICTS[0] + _CONFLICTS[1]))}"
            causes.append(invalid(f"{where}.operator", requirement.operator, detail))
        if requirement.operator in ("In", "NotIn"):
            if not requirement.values:
                detail = "must be atleast one value when `operator` is 'In' or 'NotIn' for scope selector"
                causes.append(required(f"{where}.values", detail))
        elif requirement.operator in ("Exists", "DoesNotExist"):
            if requirement.values:
                detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                causes.append(invalid(f"{where}.values", requirement.values, detail))
        else:
            causes.append(invalid(f"{where}.operator", requirement.operator, "not a valid selector operator"))
    return causes + _scope_conflicts(where, names)


def _update_quota(new: Any, old: Any) -> list[Cause]:
    if set(new.spec.scopes) != set(old.spec.scopes):
        return [invalid("spec.scopes", list(new.spec.scopes), "field is immutable")]
    return []


def _quota_status(new: Any, old: Any) -> list[Cause]:
    causes = [] if new.metadata.resourceVersion else [required("resourceVersion")]
    for field in ("hard", "used"):
        values = getattr(new.status, field)
        for name in sorted(values):
            causes += quota_resource_name(f"status.{field}[{name}]", name)
            causes += amount(f"status.{field}[{name}]", name, values[name])
    return causes


KINDS = {
    core.LimitRange: Kind(create_on_update=True, validate=_validate_limit_range),
    core.ResourceQuota: Kind(
        status=True, validate=_validate_quota, validate_update=_update_quota, validate_status=_quota_status
    ),
}
