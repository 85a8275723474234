"""The ResourceQuota controller: status.used of each quota, as the objects of its namespace add up.

Admission counts while objects are created; this controller corrects the sum when they change or go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar

from services.controller.framework import Controller, ControllerContext, in_namespace, index_by_namespace
from tillerman.api.meta import key_of
from tillerman.api.pods import is_terminal, qos_class
from tillerman.api.quantity import format_quantity, parse_quantity
from tillerman.pb.k8s import core_v1_pb2 as core

GATHER = 0.1
# Seconds between two full counts of a quota, for what is counted by listing.
PERIOD = 300.0
_COUNTED = {
    "services": ("v1", "services"),
    "configmaps": ("v1", "configmaps"),
    "secrets": ("v1", "secrets"),
    "persistentvolumeclaims": ("v1", "persistentvolumeclaims"),
    "replicationcontrollers": ("v1", "replicationcontrollers"),
    "resourcequotas": ("v1", "resourcequotas"),
}
_BINARY = ("memory", "storage")


def in_scope(pod: core.Pod, scopes: Iterable[str]) -> bool:
    for scope in scopes:
        match scope:
            case "Terminating":
                fits = pod.spec.HasField("activeDeadlineSeconds")
            case "NotTerminating":
                fits = not pod.spec.HasField("activeDeadlineSeconds")
            case "BestEffort":
                fits = qos_class(pod) == "BestEffort"
            case "NotBestEffort":
                fits = qos_class(pod) != "BestEffort"
            case _:
                fits = True
        if not fits:
            return False
    return True


def pod_usage(pods: Iterable[core.Pod], scopes: Iterable[str]) -> dict[str, Decimal]:
    """The sum of what running pods request and are limited to, by quota resource name."""
    scopes = list(scopes)
    used: dict[str, Decimal] = {}
    for pod in pods:
        if is_terminal(pod) or not in_scope(pod, scopes):
            continue
        _add(used, "pods", Decimal(1))
        for kind in ("requests", "limits"):
            for name, amount in _totals(pod, kind).items():
                _add(used, f"{kind}.{name}", amount)
                if kind == "requests":
                    _add(used, name, amount)
    return used


def _totals(pod: core.Pod, kind: str) -> dict[str, Decimal]:
    """Containers add up; init containers, which run one by one, count by their largest."""
    total: dict[str, Decimal] = {}
    for container in pod.spec.containers:
        for name, amount in getattr(container.resources, kind).items():
            _add(total, name, parse_quantity(amount))
    for container in pod.spec.initContainers:
        for name, amount in getattr(container.resources, kind).items():
            total[name] = max(total.get(name, Decimal(0)), parse_quantity(amount))
    return total


def _add(total: dict[str, Decimal], name: str, amount: Decimal) -> None:
    total[name] = total.get(name, Decimal(0)) + amount


def formatted(name: str, amount: Decimal) -> str:
    return format_quantity(amount, "BinarySI" if name.endswith(_BINARY) else "DecimalSI")


class ResourceQuotaController(Controller):
    name = "resourcequota"
    workers: ClassVar[int] = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._quotas = self.informer(core.ResourceQuota)
        self._pods = self.informer(core.Pod)
        self._services = self.informer(core.Service)
        for informer in (self._quotas, self._pods, self._services):
            index_by_namespace(informer)
        self._quotas.add_handler(on_add=self.enqueue, on_update=self._updated)
        for watched in (self._pods, self._services):
            watched.add_handler(
                on_add=self._object_changed, on_update=self._object_updated, on_delete=self._object_changed
            )

    def known_keys(self) -> list[str]:
        return [key_of(quota) for quota in self._quotas.list()]

    def _updated(self, old: core.ResourceQuota, new: core.ResourceQuota) -> None:
        if old.spec != new.spec or old.status.hard != new.status.hard:
            self.enqueue(new)

    def _object_updated(self, old: Any, new: Any) -> None:
        if isinstance(new, core.Pod) and is_terminal(new) == is_terminal(old):
            return
        self._object_changed(new)

    def _object_changed(self, obj: Any) -> None:
        for quota in in_namespace(self._quotas, obj.metadata.namespace):
            self.queue.add_after(key_of(quota), GATHER)

    async def reconcile(self, key: str) -> float | None:
        quota = self._quotas.get(key)
        if quota is None or quota.metadata.HasField("deletionTimestamp"):
            return None
        used = await self._used(quota)
        changed = core.ResourceQuota()
        changed.CopyFrom(quota)
        changed.status.hard.clear()
        changed.status.used.clear()
        for name, amount in quota.spec.hard.items():
            changed.status.hard[name].CopyFrom(amount)
            changed.status.used[name].string = formatted(name, used.get(name, Decimal(0)))
        if _amounts(changed.status.used) != _amounts(quota.status.used) or changed.status.hard != quota.status.hard:
            await self.client.resource(core.ResourceQuota).update_status(changed)
        return PERIOD

    async def _used(self, quota: core.ResourceQuota) -> dict[str, Decimal]:
        namespace = quota.metadata.namespace
        used = pod_usage(in_namespace(self._pods, namespace), quota.spec.scopes)
        services = in_namespace(self._services, namespace)
        by_type: dict[str, Callable[[core.Service], bool]] = {
            "services": lambda _: True,
            "services.loadbalancers": lambda service: service.spec.type == "LoadBalancer",
            "services.nodeports": lambda service: service.spec.type in ("NodePort", "LoadBalancer"),
        }
        for name, counts in by_type.items():
            used[name] = Decimal(sum(1 for service in services if counts(service)))
        for name in quota.spec.hard:
            target = _counted_resource(name)
            if target is not None and name not in used:
                listed = await self.client.dynamic(*target, True).list(namespace)
                used[name] = Decimal(len(listed.items))
        return used


def _counted_resource(name: str) -> tuple[str, str] | None:
    """What "configmaps" or "count/deployments.apps" counts, as (api version, resource)."""
    if name in _COUNTED:
        return _COUNTED[name]
    if not name.startswith("count/"):
        return None
    resource, _, group = name.removeprefix("count/").partition(".")
    return (f"{group}/v1" if group else "v1", resource)


def _amounts(quantities: Mapping[str, Any]) -> dict[str, Decimal]:
    return {name: parse_quantity(amount) for name, amount in quantities.items()}
