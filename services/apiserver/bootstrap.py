"""What every cluster has from the start: the namespaces, and the Service `kubernetes` that leads to this server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.apiserver.auth.policy import DNS_ROLE, cluster_role_bindings, cluster_roles, dns_role, dns_role_binding
from services.apiserver.registry.context import APISERVER, Context
from services.apiserver.registry.registry import Registry, Target
from tillerman.api.status import StatusError, is_already_exists, is_not_found
from tillerman.pb.k8s import core_v1_pb2, discovery_v1_pb2, intstr_pb2, scheduling_v1_pb2

SCHEDULING = "scheduling.k8s.io/v1"
RBAC = "rbac.authorization.k8s.io/v1"
SERVICE_ATTEMPTS, SERVICE_SECONDS = 10, 0.3
APPLY_ATTEMPTS = 5
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def bootstrap(
    registry: Registry, *, first_ip: str, advertise: str, https_port: int, repair: Callable[[], Awaitable[None]]
) -> None:
    """Creates what is missing. ``first_ip``: the cluster IP of the Service, ``advertise``: this server's address.

    ``repair`` gives back addresses that it finds unused for the second time.
    """
    await asyncio.gather(
        *(_namespace(registry, name) for name in NAMESPACES),
        *(_ensure(registry, Target(SCHEDULING, "priorityclasses", name=p.metadata.name), p) for p in priorities()),
        *(_ensure(registry, Target(RBAC, "clusterroles", name=r.metadata.name), r) for r in cluster_roles()),
        *(
            _ensure(registry, Target(RBAC, "clusterrolebindings", name=b.metadata.name), b)
            for b in cluster_role_bindings()
        ),
    )
    await asyncio.gather(
        _ensure(registry, Target(RBAC, "roles", "kube-system", DNS_ROLE), dns_role()),
        _ensure(registry, Target(RBAC, "rolebindings", "kube-system", DNS_ROLE), dns_role_binding()),
    )
    await _service(registry, first_ip, https_port, repair)
    if https_port:
        await _endpoints(registry, advertise, https_port)
    # Whoever is let in after this finds the roles in the caches.
    await registry.reader.confirm()


async def _namespace(registry: Registry, name: str) -> None:
    namespace = core_v1_pb2.Namespace()
    namespace.metadata.name = name
    await _ensure(registry, Target("v1", "namespaces", name=name), namespace)


def priorities() -> list[scheduling_v1_pb2.PriorityClass]:
    """The classes of what the cluster itself is made of."""
    found = []
    for name, value, description in (
        ("system-node-critical", 2_000_001_000, "must not be moved from their current node."),
        (
            "system-cluster-critical",
            2_000_000_000,
            "must run in the cluster, but can be moved to another node if necessary.",
        ),
    ):
        made = scheduling_v1_pb2.PriorityClass(value=value, preemptionPolicy="PreemptLowerPriority")
        made.metadata.name = name
        made.description = f"Used for system critical pods that {description}"
        found.append(made)
    return found


async def _service(registry: Registry, first_ip: str, https_port: int, repair: Callable[[], Awaitable[None]]) -> None:
    service = core_v1_pb2.Service()
    service.metadata.name = "kubernetes"
    service.metadata.labels.update({"component": "apiserver", "provider": "kubernetes"})
    service.spec.clusterIP = first_ip
    service.spec.type = "ClusterIP"
    service.spec.sessionAffinity = "None"
    service.spec.ports.add(
        name="https", protocol="TCP", port=443, targetPort=intstr_pb2.IntOrString(type=0, intVal=https_port or 6443)
    )
    for attempt in range(SERVICE_ATTEMPTS):
        try:
            await _ensure(registry, Target("v1", "services", "default", "kubernetes"), service)
            return
        except StatusError as error:
            if error.reason != "Invalid" or attempt == SERVICE_ATTEMPTS - 1:
                raise
        # Somebody has the address: another apiserver that is about to write the Service, or one that was killed before
        # it could.
        await asyncio.sleep(SERVICE_SECONDS)
        if attempt >= SERVICE_ATTEMPTS // 2:
            await repair()


async def _endpoints(registry: Registry, advertise: str, https_port: int) -> None:
    endpoints = core_v1_pb2.Endpoints()
    endpoints.metadata.name = "kubernetes"
    endpoints.metadata.labels["endpointslice.kubernetes.io/skip-mirror"] = "true"
    subset = endpoints.subsets.add()
    subset.addresses.add(ip=advertise)
    subset.ports.add(name="https", port=https_port, protocol="TCP")
    await _apply(registry, Target("v1", "endpoints", "default", "kubernetes"), endpoints)
    found = discovery_v1_pb2.EndpointSlice(addressType="IPv6" if ":" in advertise else "IPv4")
    found.metadata.name = "kubernetes"
    found.metadata.labels["kubernetes.io/service-name"] = "kubernetes"
    endpoint = found.endpoints.add(addresses=[advertise])
    endpoint.conditions.ready = True
    found.ports.add(name="https", port=https_port, protocol="TCP")
    await _apply(registry, Target("discovery.k8s.io/v1", "endpointslices", "default", "kubernetes"), found)


async def _ensure(registry: Registry, target: Target, obj: Any) -> None:
    try:
        await registry.get(target, Context(APISERVER), "0")
    except StatusError as error:
        if not is_not_found(error):
            raise
        try:
            await registry.create(target, obj, Context(APISERVER, field_manager="kube-apiserver"))
        except StatusError as failure:
            if not is_already_exists(failure):
                raise


async def _apply(registry: Registry, target: Target, obj: Any) -> None:
    """Updates or creates, also while another apiserver does the same."""
    context = Context(APISERVER, field_manager="kube-apiserver")
    for attempt in range(APPLY_ATTEMPTS):
        try:
            await registry.update(target, obj, context)
            return
        except StatusError as error:
            if not is_not_found(error) and (not is_already_exists(error) or attempt == APPLY_ATTEMPTS - 1):
                raise
        try:
            await registry.create(target, obj, context)
            return
        except StatusError as error:
            if not is_already_exists(error) or attempt == APPLY_ATTEMPTS - 1:
                raise
