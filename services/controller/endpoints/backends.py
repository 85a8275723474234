"""A Service's backends as the pods have them: pure functions from Service and pods to endpoints and ports."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tillerman.api.pods import is_ready, is_terminal
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery


@dataclass(frozen=True, order=True)
class Port:
    """One port of a backend; `number` is 0 when the slice lists no number."""

    name: str
    protocol: str
    number: int
    app_protocol: str = ""


Ports = tuple[Port, ...]


def is_selected(service: core.Service) -> bool:
    """Whether this controller fills in the Service's backends."""
    return service.spec.type != "ExternalName" and bool(service.spec.selector)


def is_headless(service: core.Service) -> bool:
    return service.spec.clusterIP == "None"


def address_types(service: core.Service) -> list[str]:
    """ "IPv4" and "IPv6" as the Service's families say."""
    families = list(service.spec.ipFamilies)
    if not families:
        address = service.spec.clusterIP
        families = ["IPv6" if ":" in address else "IPv4"]
    return families


def pod_address(pod: core.Pod, address_type: str) -> str:
    """The pod's IP of that family, or ""."""
    wanted = 6 if address_type == "IPv6" else 4
    for address in [*(entry.ip for entry in pod.status.podIPs), pod.status.podIP]:
        if address and ipaddress.ip_address(address).version == wanted:
            return address
    return ""


def has_endpoint(pod: core.Pod) -> bool:
    """A pod with an address that has not come to its end; a terminating one is still listed."""
    return not is_terminal(pod) and bool(pod.status.podIP or pod.status.podIPs)


def is_published_ready(service: core.Service, pod: core.Pod) -> bool:
    if service.spec.publishNotReadyAddresses:
        return True
    return is_ready(pod) and not pod.metadata.HasField("deletionTimestamp")


def resolve_ports(service: core.Service, pod: core.Pod) -> Ports:
    """The Service's target ports on this pod; a named port that the pod lacks is left out."""
    found: list[Port] = []
    for port in service.spec.ports:
        number = _target_number(port, pod)
        if number is not None:
            found.append(Port(port.name, port.protocol or "TCP", number, port.appProtocol))
    return tuple(found)


def _target_number(port: core.ServicePort, pod: core.Pod) -> int | None:
    target = port.targetPort
    if target.type == 0:
        return target.intVal or port.port
    protocol = port.protocol or "TCP"
    sidecars = [container for container in pod.spec.initContainers if container.restartPolicy == "Always"]
    for container in [*pod.spec.containers, *sidecars]:
        for candidate in container.ports:
            if candidate.name == target.strVal and (candidate.protocol or "TCP") == protocol:
                return candidate.containerPort
    return None


def endpoint_of(
    service: core.Service, pod: core.Pod, address: str, zone_of: Callable[[str], str]
) -> discovery.Endpoint:
    endpoint = discovery.Endpoint(
        addresses=[address],
        conditions=discovery.EndpointConditions(
            ready=is_published_ready(service, pod),
            serving=is_ready(pod),
            terminating=pod.metadata.HasField("deletionTimestamp"),
        ),
        targetRef=pod_reference(pod),
    )
    if pod.spec.nodeName:
        endpoint.nodeName = pod.spec.nodeName
        zone = zone_of(pod.spec.nodeName)
        if zone:
            endpoint.zone = zone
    if pod.spec.hostname and pod.spec.subdomain == service.metadata.name:
        endpoint.hostname = pod.spec.hostname
    return endpoint


def pod_reference(pod: core.Pod) -> core.ObjectReference:
    return core.ObjectReference(
        kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid
    )


def backends(
    service: core.Service, pods: Iterable[core.Pod], address_type: str, zone_of: Callable[[str], str]
) -> dict[Ports, list[discovery.Endpoint]]:
    """Endpoints grouped by the ports they share, each group by pod name. `zone_of` maps a node name to its zone."""
    groups: dict[Ports, list[discovery.Endpoint]] = defaultdict(list)
    for pod in sorted(pods, key=lambda pod: pod.metadata.name):
        address = pod_address(pod, address_type)
        if not address or not has_endpoint(pod):
            continue
        ports = resolve_ports(service, pod)
        if service.spec.ports and not ports:
            continue
        groups[ports].append(endpoint_of(service, pod, address, zone_of))
    return dict(groups)
