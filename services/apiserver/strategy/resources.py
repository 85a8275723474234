"""Rules for resource names and amounts: containers' requests and limits, nodes, quotas."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from services.apiserver.strategy.causes import (
    NEGATIVE,
    Cause,
    forbidden,
    invalid,
    invalid_all,
    qualified_name,
    required,
)
from tillerman.api.quantity import parse_quantity, value

_COMPUTE = {"cpu", "memory", "ephemeral-storage"}
_COUNTED = {
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
}
_QUOTA = (
    _COMPUTE
    | _COUNTED
    | {f"requests.{name}" for name in (*_COMPUTE, "storage")}
    | {f"limits.{name}" for name in _COMPUTE}
)
_STANDARD = _QUOTA | {"storage"}
_STANDARD_DETAIL = "must be a standard resource type or fully qualified"
_INTEGER_DETAIL = "must be an integer"


def is_huge_page(name: str) -> bool:
    return name.startswith("hugepages-")


def is_native(name: str) -> bool:
    """Kubernetes' own: no domain, or one of kubernetes.io's."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """A device plugin's or an administrator's own resource."""
    return not is_native(name) and not name.startswith("requests.") and not qualified_name(f"requests.{name}")


def resource_name(path: str, name: str) -> list[Cause]:
    """The rule that every resource name obeys."""
    problems = qualified_name(name)
    if problems:
        return invalid_all(path, name, problems)
    if "/" not in name and name not in _STANDARD and not is_huge_page(name.removeprefix("requests.")):
        return [invalid(path, name, _STANDARD_DETAIL)]
    return []


def container_resource_name(path: str, name: str) -> list[Cause]:
    causes = resource_name(path, name)
    if "/" not in name:
        if name not in _COMPUTE and not is_huge_page(name):
            causes.append(invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        causes.append(invalid(path, name, "doesn't follow extended resource name standard"))
    return causes


def quota_resource_name(path: str, name: str) -> list[Cause]:
    causes = resource_name(path, name)
    if "/" not in name and name not in _QUOTA and not is_huge_page(name.removeprefix("requests.")):
        causes.append(invalid(path, name, "must be a standard resource for quota"))
    return causes


def amount(path: str, name: str, quantity: Any) -> list[Cause]:
    """Not negative, and whole where the resource is counted."""
    number = parse_quantity(quantity)
    causes = [invalid(path, quantity.string, NEGATIVE)] if number < 0 else []
    if (name in _COUNTED or is_extended(name)) and number != number.to_integral_value():
        causes.append(invalid(path, quantity.string, _INTEGER_DETAIL))
    return causes


def requirements(path: str, resources: Any) -> list[Cause]:
    """A container's limits and requests, and one against the other."""
    causes: list[Cause] = []
    limits, requests = resources.limits, resources.requests
    for name in sorted(limits):
        causes += container_resource_name(f"{path}.limits[{name}]", name)
        causes += amount(f"{path}.limits[{name}]", name, limits[name])
        causes += _whole_pages(f"{path}.limits[{name}]", name, limits[name])
    for name in sorted(requests):
        causes += container_resource_name(f"{path}.requests[{name}]", name)
        causes += amount(f"{path}.requests[{name}]", name, requests[name])
        overcommit = is_native(name) and not is_huge_page(name)
        if name in limits:
            asked, allowed = parse_quantity(requests[name]), parse_quantity(limits[name])
            if asked != allowed and not overcommit:
                causes.append(invalid(f"{path}.requests", requests[name].string, f"must be equal to {name} limit"))
            elif asked > allowed:
                detail = f"must be less than or equal to {name} limit"
                causes.append(invalid(f"{path}.requests", requests[name].string, detail))
        elif not overcommit:
            causes.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
        causes += _whole_pages(f"{path}.requests[{name}]", name, requests[name])
    names = {*limits, *requests}
    if any(is_huge_page(name) for name in names) and not names & {"cpu", "memory"}:
        causes.append(forbidden(path, "HugePages require cpu or memory"))
    return causes


def _whole_pages(path: str, name: str, quantity: Any) -> list[Cause]:
    """Huge pages are used one by one; the size of one is in their name."""
    if not is_huge_page(name):
        return []
    try:
        size = parse_quantity(name.removeprefix("hugepages-"))
    except ValueError:
        size = Decimal(0)
    if size > 0 and size == size.to_integral_value() and value(quantity) % size == 0:
        return []
    return [invalid(path, quantity.string, f"{quantity.string} is not positive integer multiple of {name}")]


def whole_resource_list(path: str, resources: Any) -> list[Cause]:
    """Each amount of a plain resource list (a node's capacity, an overhead)."""
    causes: list[Cause] = []
    for name in sorted(resources):
        causes += resource_name(f"{path}[{name}]", name)
        causes += amount(f"{path}[{name}]", name, resources[name])
    return causes
