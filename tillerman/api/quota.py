"""What a ResourceQuota limits: which objects it is about, and how much of what each of them uses.

The API server charges by these rules when objects are written, the controller counts anew by the same ones. Amounts
keep the notation of the quantities they come from, as they are shown to people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from tillerman.api import times
from tillerman.api.pods import is_terminal, qos_class, resource_limits, resource_requests
from tillerman.api.quantity import Style, format_quantity, parse_quantity, style_of
from tillerman.pb.k8s import core_v1_pb2 as core

PODS, SERVICES, CLAIMS = ("", "pods"), ("", "services"), ("", "persistentvolumeclaims")
COMPUTE = ("cpu", "memory", "ephemeral-storage")
# Counted under their bare names too.
ALIASES = frozenset({"configmaps", "resourcequotas", "replicationcontrollers", "secrets"})
ATTRIBUTES_SCOPE = "VolumeAttributesClass"
CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
# A pod must say how much of these it wants where a quota limits them.
_TO_SPECIFY = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
_POD_NAMES = frozenset({"pods", *COMPUTE, *(f"{side}.{name}" for side in ("requests", "limits") for name in COMPUTE)})
_SERVICE_NAMES = frozenset({"services", "services.nodeports", "services.loadbalancers"})
_CLAIM_NAMES = frozenset({"persistentvolumeclaims", "requests.storage"})


class Amount(NamedTuple):
    value: Decimal
    style: Style = "DecimalSI"

    def __str__(self) -> str:
        return format_quantity(self.value, self.style)


Usage = dict[str, Amount]
NOTHING, ONE = Amount(Decimal(0)), Amount(Decimal(1))


def amounts_of(quantities: Mapping[str, Any]) -> Usage:
    """Of a resource list."""
    return {name: Amount(parse_quantity(q), style_of(q)) for name, q in quantities.items()}


def add(total: Usage, more: Mapping[str, Amount]) -> None:
    """In place; a zero takes the other's notation."""
    for name, amount in more.items():
        known = total.get(name)
        if known is None or not known.value:
            total[name] = amount
        else:
            total[name] = Amount(known.value + amount.value, known.style)


def shown(usage: Mapping[str, Amount], names: Iterable[str]) -> str:
    """As in "pods=1,requests.cpu=500m"."""
    return ",".join(f"{name}={usage.get(name, NOTHING)}" for name in sorted(names))


def counted_name(group: str, resource: str) -> str:
    return f"count/{resource}.{group}" if group else f"count/{resource}"


def kind_counted(name: str) -> tuple[str, str] | None:
    """(group, resource) of the objects that an entry of ``spec.hard`` is about; None for a name of no meaning."""
    if name.startswith("count/"):
        resource, _, group = name.removeprefix("count/").partition(".")
        return group, resource
    for kind in (PODS, SERVICES, CLAIMS):
        if matching((name,), *kind):
            return kind
    return ("", name) if name in ALIASES else None


def matching(names: Iterable[str], group: str, resource: str) -> list[str]:
    """Those of the names that limit such objects."""
    count = counted_name(group, resource)
    kind = (group, resource)
    if kind == PODS:
        return [n for n in names if n == count or n in _POD_NAMES or _huge_or_extended(n)]
    if kind == SERVICES:
        return [n for n in names if n == count or n in _SERVICE_NAMES]
    if kind == CLAIMS:
        return [n for n in names if n == count or n in _CLAIM_NAMES or CLASS_SUFFIX in n]
    alias = resource if not group and resource in ALIASES else None
    return [n for n in names if n in (count, alias)]


def _huge_or_extended(name: str) -> bool:
    if name.removeprefix("requests.").startswith("hugepages-"):
        return True
    return name.startswith("requests.") and "/" in name and "kubernetes.io/" not in name


def applies(spec: Any, names: Iterable[str], group: str, resource: str, obj: Any) -> bool:
    """Whether a quota of this spec, which limits ``names``, is about this object."""
    return bool(matching(names, group, resource)) and in_scopes(spec, group, resource, obj)


def in_scopes(spec: Any, group: str, resource: str, obj: Any) -> bool:
    """Scopes are about pods, but for the one that is about claims: no other object is in any."""
    scopes = [(scope, "Exists", ()) for scope in spec.scopes]
    if spec.HasField("scopeSelector"):
        scopes += [(r.scopeName, r.operator, tuple(r.values)) for r in spec.scopeSelector.matchExpressions]
    if not scopes:
        return True
    if (group, resource) == CLAIMS:
        name = obj.spec.volumeAttributesClassName
        return all(
            scope == ATTRIBUTES_SCOPE and _has_class(name, operator, values) for scope, operator, values in scopes
        )
    return (group, resource) == PODS and all(_in_scope(obj, *scope) for scope in scopes)


def _in_scope(pod: core.Pod, scope: str, operator: str, values: tuple[str, ...]) -> bool:
    spec = pod.spec
    match scope:
        case "Terminating":
            return spec.HasField("activeDeadlineSeconds")
        case "NotTerminating":
            return not spec.HasField("activeDeadlineSeconds")
        case "BestEffort":
            return qos_class(pod) == "BestEffort"
        case "NotBestEffort":
            return qos_class(pod) != "BestEffort"
        case "PriorityClass":
            return _has_class(spec.priorityClassName, operator, values)
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(spec.affinity)
    return False


def _has_class(name: str, operator: str, values: tuple[str, ...]) -> bool:
    match operator:
        case "Exists":
            return bool(name)
        case "DoesNotExist":
            return not name
        case "In":
            return bool(name) and name in values
    return name not in values


def _crosses_namespaces(affinity: core.Affinity) -> bool:
    terms: list[core.PodAffinityTerm] = []
    for part in (affinity.podAffinity, affinity.podAntiAffinity):
        terms += part.requiredDuringSchedulingIgnoredDuringExecution
        terms += [weighted.podAffinityTerm for weighted in part.preferredDuringSchedulingIgnoredDuringExecution]
    return any(term.namespaces or term.HasField("namespaceSelector") for term in terms)


def usage(group: str, resource: str, obj: Any, *, now: float) -> Usage:
    """What one object uses, by the names that quotas limit. ``now``: epoch seconds."""
    used = {counted_name(group, resource): ONE}
    match (group, resource):
        case ("", "pods"):
            used |= _pod_usage(obj, now)
        case ("", "services"):
            used |= _service_usage(obj)
        case ("", "persistentvolumeclaims"):
            used |= _claim_usage(obj)
        case ("", alias) if alias in ALIASES:
            used[alias] = ONE
    return used


def _pod_usage(pod: core.Pod, now: float) -> Usage:
    """Nothing for a pod that has ended, or that should have by now."""
    meta = pod.metadata
    if is_terminal(pod):
        return {}
    # A pod outstays its grace when its node is gone: that is nobody's quota.
    leaving = meta.HasField("deletionTimestamp") and meta.HasField("deletionGracePeriodSeconds")
    if leaving and now > times.to_seconds(meta.deletionTimestamp) + meta.deletionGracePeriodSeconds:
        return {}
    used: Usage = {"pods": ONE}
    styles = _styles(pod)
    for name, whole in resource_requests(pod).items():
        if name == "pods":
            continue
        amount = _amount(name, whole, styles)
        if name in COMPUTE or name.startswith("hugepages-"):
            used[name] = used[f"requests.{name}"] = amount
        elif _huge_or_extended(f"requests.{name}"):
            used[f"requests.{name}"] = amount
    for name, whole in resource_limits(pod).items():
        if name in COMPUTE:
            used[f"limits.{name}"] = _amount(name, whole, styles)
    return used


def _amount(name: str, whole: int, styles: Mapping[str, Style]) -> Amount:
    return Amount(Decimal(whole) / 1000 if name == "cpu" else Decimal(whole), styles.get(name, "DecimalSI"))


def _styles(pod: core.Pod) -> dict[str, Style]:
    """The notation in which each resource is first written."""
    found: dict[str, Style] = {}
    for container in (*pod.spec.containers, *pod.spec.initContainers):
        for amounts in (container.resources.requests, container.resources.limits):
            for name, quantity in amounts.items():
                if name not in found:
                    found[name] = style_of(quantity)
    return found


def _service_usage(service: core.Service) -> Usage:
    used: Usage = {"services": ONE}
    spec, ports = service.spec, len(service.spec.ports)
    if spec.type == "NodePort":
        used["services.nodeports"] = Amount(Decimal(ports))
    elif spec.type == "LoadBalancer":
        if spec.HasField("allocateLoadBalancerNodePorts") and not spec.allocateLoadBalancerNodePorts:
            ports = sum(1 for port in spec.ports if port.nodePort)
        used["services.nodeports"] = Amount(Decimal(ports))
        used["services.loadbalancers"] = ONE
    return used


def claim_class(claim: core.PersistentVolumeClaim) -> str:
    """The name of the claim's storage class; "" for none."""
    name: str = claim.metadata.annotations.get(BETA_CLASS, claim.spec.storageClassName)
    return name


def _claim_usage(claim: core.PersistentVolumeClaim) -> Usage:
    used: Usage = {"persistentvolumeclaims": ONE}
    requests = claim.spec.resources.requests
    if "storage" in requests:
        storage = Amount(parse_quantity(requests["storage"]), style_of(requests["storage"]))
        allocated = claim.status.allocatedResources
        if "storage" in allocated and parse_quantity(allocated["storage"]) > storage.value:
            # A volume that is being made larger stays charged for what it was given.
            storage = Amount(parse_quantity(allocated["storage"]), style_of(allocated["storage"]))
        used["requests.storage"] = storage
    if name := claim_class(claim):
        used[f"{name}{CLASS_SUFFIX}persistentvolumeclaims"] = ONE
        if "requests.storage" in used:
            used[f"{name}{CLASS_SUFFIX}requests.storage"] = used["requests.storage"]
    return used


def unspecified(pod: core.Pod, limited: Iterable[str]) -> list[str]:
    """Which of the limited resources some container says nothing about."""
    required = _TO_SPECIFY & set(limited)
    missing: set[str] = set()
    for container in (*pod.spec.containers, *pod.spec.initContainers):
        requests, limits = container.resources.requests, container.resources.limits
        given = {name for r in requests for name in (r, f"requests.{r}")} | {f"limits.{name}" for name in limits}
        missing |= required - given
    return sorted(missing)
