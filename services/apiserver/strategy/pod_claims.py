"""A pod's resource claims, its containers' use of them, and the resources of the pod as a whole."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    invalid,
    invalid_all,
    named,
    not_found_value,
    not_supported,
    required,
)
from services.apiserver.strategy.names import dns_label, dns_subdomain
from services.apiserver.strategy.resources import is_huge_page, requirements
from tillerman.api.quantity import parse_quantity

_SOURCES = ("resourceClaimName", "resourceClaimTemplateName")
_AT_MOST_ONE = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
_ONE = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
_POD_LEVEL = ("cpu", "memory")


def resource_claims(path: str, claims: Any) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, claim in enumerate(claims):
        where = f"{path}[{index}]"
        if claim.name in names:
            causes.append(duplicate(f"{where}.name", claim.name))
        elif claim.name:
            causes += invalid_all(f"{where}.name", claim.name, dns_label(claim.name))
        else:
            causes.append(required(f"{where}.name"))
        names.add(claim.name)
        given = [field for field in _SOURCES if claim.HasField(field)]
        if len(given) != 1:
            causes.append(invalid(where, claim, _AT_MOST_ONE if given else _ONE))
        for field in given:
            causes += invalid_all(f"{where}.{field}", getattr(claim, field), dns_subdomain(getattr(claim, field)))
    return causes


def used_claims(path: str, used: Any, pod: Any) -> list[Cause]:
    """The claims that a container names among its resources: the pod's, each (or each request of it) once."""
    known = {claim.name for claim in pod.resourceClaims}
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, claim in enumerate(used):
        where, key = f"{path}[{index}]", (claim.name, claim.request)
        if not claim.name:
            causes.append(required(f"{where}.name"))
            continue
        whole = (claim.name, "")
        clash = key in seen or whole in seen or (not claim.request and any(name == claim.name for name, _ in seen))
        if clash:
            shown = f"{claim.name}/{claim.request}" if claim.request else claim.name
            causes.append(duplicate(where, shown))
        seen.add(key)
        if claim.request:
            causes += named(f"{where}.request", claim.request, dns_label)
        if claim.name not in known:
            causes.append(not_found_value(where, claim.name))
    return causes


def pod_resources(path: str, pod: Any) -> list[Cause]:
    """What the pod may use as a whole: at least as much as its containers ask for together."""
    resources = pod.resources
    causes: list[Cause] = []
    if resources.claims:
        causes += [not_supported(f"{path}.claims", "claims", ["limits", "requests"])]
    for side in ("limits", "requests"):
        causes += [
            not_supported(f"{path}.{side}[{name}]", name, _POD_LEVEL)
            for name in sorted(getattr(resources, side))
            if name not in _POD_LEVEL and not is_huge_page(name)
        ]
    causes += requirements(path, resources)
    for name in sorted(resources.requests):
        asked = sum(parse_quantity(c.resources.requests[name]) for c in pod.containers if name in c.resources.requests)
        if parse_quantity(resources.requests[name]) < asked:
            detail = f"must be greater than or equal to aggregate container requests of {asked:f}"
            causes.append(invalid(f"{path}.requests[{name}]", resources.requests[name].string, detail))
    for index, container in enumerate(pod.containers):
        for name, limit in sorted(container.resources.limits.items()):
            if name in resources.limits and parse_quantity(limit) > parse_quantity(resources.limits[name]):
                detail = f"must be less than or equal to pod limits of {resources.limits[name].string}"
                where = f"spec.containers[{index}].resources.limits[{name}]"
                causes.append(invalid(where, limit.string, detail))
    return causes
