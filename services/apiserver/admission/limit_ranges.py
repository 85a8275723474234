"""LimitRanger: defaults, minima, maxima and ratios that the LimitRanges of a namespace ask of pods and claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from operator import gt, lt
from typing import Any

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, BasePlugin, aggregate, refused
from services.apiserver.admission.parsed import Parsed
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.resource import Resource
from tillerman.api.pods import is_restartable_init
from tillerman.api.quantity import canonical, format_quantity, milli_value, parse_quantity, value

ANNOTATION = "kubernetes.io/limit-ranger"
PODS, CLAIMS = ("", "pods"), ("", "persistentvolumeclaims")

Amounts = Mapping[str, Any]
Rule = Callable[[str, str, Any, Amounts, Amounts], str | None]


class LimitRanger(BasePlugin):
    reads = frozenset({("v1", "limitranges")})

    def __init__(self, catalog: Catalog) -> None:
        self._by_namespace: Parsed[dict[str, list[Any]]] = Parsed(catalog, "v1", "limitranges", _by_namespace)

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        """A pod's containers are what they are once it exists, so its updates are not looked at; its resizes are."""
        kind = (resource.group, resource.name)
        if kind == CLAIMS:
            return operation in (CREATE, UPDATE) and subresource == ""
        return kind == PODS and (operation, subresource) in ((CREATE, ""), (UPDATE, "resize"))

    def _ranges(self, attributes: Attributes) -> list[Any]:
        found = self._by_namespace.value().get(attributes.namespace)
        if found is None:
            return []
        if attributes.old is not None and attributes.old.metadata.HasField("deletionTimestamp"):
            return []
        return found

    async def admit(self, attributes: Attributes) -> None:
        if (attributes.resource.group, attributes.resource.name) == PODS:
            for limit_range in self._ranges(attributes):
                fill_in(attributes.obj, limit_range)

    async def validate(self, attributes: Attributes) -> None:
        """Raises Forbidden."""
        check = check_pod if (attributes.resource.group, attributes.resource.name) == PODS else check_claim
        for limit_range in self._ranges(attributes):
            if faults := check(attributes.obj, limit_range):
                raise refused(attributes, aggregate(faults))


def _by_namespace(ranges: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for each in sorted(ranges, key=lambda each: each.metadata.name):
        found.setdefault(each.metadata.namespace, []).append(each)
    return found


def fill_in(pod: Any, limit_range: Any) -> None:
    """The defaults of containers that say nothing; an annotation tells what was set."""
    limits: dict[str, Any] = {}
    requests: dict[str, Any] = {}
    for item in limit_range.spec.limits:
        if item.type == "Container":
            limits.update(item.default)
            requests.update(item.defaultRequest)
    told: list[str] = []
    for containers, what in ((pod.spec.containers, "container"), (pod.spec.initContainers, "init container")):
        for container in containers:
            for side, defaults in (("request", requests), ("limit", limits)):
                target = getattr(container.resources, f"{side}s")
                missing = sorted(name for name in defaults if name not in target)
                for name in missing:
                    target[name].CopyFrom(defaults[name])
                if missing:
                    told.append(f"{', '.join(missing)} {side} for {what} {container.name}")
    if told:
        pod.metadata.annotations[ANNOTATION] = f"LimitRanger plugin set: {'; '.join(told)}"


def check_pod(pod: Any, limit_range: Any) -> list[str]:
    faults: list[str] = []
    for item in limit_range.spec.limits:
        if item.type == "Container":
            for container in (*pod.spec.containers, *pod.spec.initContainers):
                faults += _check(item, container.resources.requests, container.resources.limits)
        elif item.type == "Pod":
            faults += _check(item, pod_total(pod, "requests"), pod_total(pod, "limits"))
    return faults


def check_claim(claim: Any, limit_range: Any) -> list[str]:
    faults: list[str] = []
    requests = claim.spec.resources.requests
    for item in limit_range.spec.limits:
        if item.type == "PersistentVolumeClaim":
            faults += _each(minimum, item.type, item.min, requests, {})
            faults += _each(maximum_request, item.type, item.max, requests, {})
    return faults


def _check(item: Any, requests: Amounts, limits: Amounts) -> list[str]:
    return [
        *_each(minimum, item.type, item.min, requests, limits),
        *_each(maximum, item.type, item.max, requests, limits),
        *_each(ratio, item.type, item.maxLimitRequestRatio, requests, limits),
    ]


def _each(rule: Rule, kind: str, enforced: Amounts, requests: Amounts, limits: Amounts) -> Iterable[str]:
    found = (rule(kind, name, enforced[name], requests, limits) for name in sorted(enforced))
    return [fault for fault in found if fault is not None]


def minimum(kind: str, name: str, enforced: Any, requests: Amounts, limits: Amounts) -> str | None:
    return _bound("minimum", lt, kind, name, enforced, (("request", requests), ("limit", limits)))


def maximum(kind: str, name: str, enforced: Any, requests: Amounts, limits: Amounts) -> str | None:
    return _bound("maximum", gt, kind, name, enforced, (("limit", limits), ("request", requests)))


def maximum_request(kind: str, name: str, enforced: Any, requests: Amounts, limits: Amounts) -> str | None:
    return _bound("maximum", gt, kind, name, enforced, (("request", requests),))


def _bound(
    word: str,
    beyond: Callable[[Decimal, Decimal], bool],
    kind: str,
    name: str,
    enforced: Any,
    sides: tuple[tuple[str, Amounts], ...],
) -> str | None:
    """The first of the sides has to say something; none that does may be beyond the bound."""
    head = f"{word} {name} usage per {kind} is {canonical(enforced)}"
    needed, given = sides[0]
    if name not in given:
        return f"{head}.  No {needed} is specified"
    for side, amounts in sides:
        if name in amounts and beyond(parse_quantity(amounts[name]), parse_quantity(enforced)):
            return f"{head}, but {side} is {canonical(amounts[name])}"
    return None


def ratio(kind: str, name: str, enforced: Any, requests: Amounts, limits: Amounts) -> str | None:
    head = f"{name} max limit to request ratio per {kind} is {canonical(enforced)}, but"
    if not parse_quantity(requests[name]) if name in requests else True:
        return f"{head} no request is specified or request is 0"
    if not parse_quantity(limits[name]) if name in limits else True:
        return f"{head} no limit is specified or limit is 0"
    observed = parse_quantity(limits[name]) / parse_quantity(requests[name])
    if observed > parse_quantity(enforced):
        return f"{head} provided ratio is {float(observed):f}"
    return None


def pod_total(pod: Any, side: str) -> dict[str, str]:
    """What all containers together request or are limited to: only resources that every one of them speaks of.

    Init containers run alone, so the largest of them counts where it exceeds the sum.
    """
    init = pod.spec.initContainers
    beside = [*pod.spec.containers, *(c for c in init if is_restartable_init(c))]
    sums = [getattr(container.resources, side) for container in beside]
    total: dict[str, str] = {}
    for name in {name for amounts in sums for name in amounts}:
        if all(name in amounts for amounts in sums):
            total[name] = _sum(name, [amounts[name] for amounts in sums])
    for container in init:
        if is_restartable_init(container):
            continue
        for name, amount in getattr(container.resources, side).items():
            if name not in total or parse_quantity(amount) > parse_quantity(total[name]):
                total[name] = amount.string
    return total


def _sum(name: str, amounts: list[Any]) -> str:
    if name == "cpu":
        return format_quantity(Decimal(sum(milli_value(amount) for amount in amounts)) / 1000)
    return format_quantity(sum(value(amount) for amount in amounts))
