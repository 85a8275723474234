"""Services and what routes to them: Endpoints, EndpointSlices, Ingresses, NetworkPolicies."""

from typing import Any

from tillerman.api.printers.ages import age
from tillerman.api.printers.labels import NONE, few, label_text, selector_text

UNSET = "<unset>"


def service(obj: Any, now: float) -> list[Any]:
    spec = obj.spec
    address = spec.clusterIPs[0] if spec.clusterIPs else spec.clusterIP
    return [
        obj.metadata.name,
        spec.type,
        address or NONE,
        external_address(obj),
        ",".join(_service_port(port) for port in spec.ports) or NONE,
        age(obj.metadata.creationTimestamp, now),
        label_text(spec.selector),
    ]


def external_address(obj: Any) -> str:
    """Where a Service is reached from outside, by its type."""
    spec = obj.spec
    own = list(spec.externalIPs)
    if spec.type == "ExternalName":
        return str(spec.externalName)
    if spec.type == "LoadBalancer":
        balanced = sorted(entry.ip or entry.hostname for entry in obj.status.loadBalancer.ingress)
        return ",".join([*balanced, *own]) or "<pending>"
    return ",".join(own) or NONE


def _service_port(port: Any) -> str:
    return f"{port.port}:{port.nodePort}/{port.protocol}" if port.nodePort else f"{port.port}/{port.protocol}"


def endpoints(obj: Any, now: float) -> list[Any]:
    addresses: list[str] = []
    for subset in obj.subsets:
        if not subset.ports:
            addresses.extend(address.ip for address in subset.addresses)
        for port in subset.ports:
            addresses.extend(_host_port(address.ip, port.port) for address in subset.addresses)
    return [obj.metadata.name, few(addresses) or NONE, age(obj.metadata.creationTimestamp, now)]


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoint_slice(obj: Any, now: float) -> list[Any]:
    ports = [str(port.port) if port.HasField("port") else "*" for port in obj.ports]
    addresses = [address for endpoint in obj.endpoints for address in endpoint.addresses]
    return [
        obj.metadata.name,
        obj.addressType,
        few(ports) or UNSET,
        few(addresses) or UNSET,
        age(obj.metadata.creationTimestamp, now),
    ]


def ingress(obj: Any, now: float) -> list[Any]:
    hosts = [rule.host for rule in obj.spec.rules if rule.host]
    return [
        obj.metadata.name,
        obj.spec.ingressClassName or NONE,
        few(hosts) or "*",
        ",".join(sorted(entry.ip or entry.hostname for entry in obj.status.loadBalancer.ingress)),
        "80, 443" if obj.spec.tls else "80",
        age(obj.metadata.creationTimestamp, now),
    ]


def ingress_class(obj: Any, now: float) -> list[Any]:
    parameters = NONE
    if obj.spec.HasField("parameters"):
        found = obj.spec.parameters
        parameters = f"{found.kind}.{found.aPIGroup}/{found.name}" if found.aPIGroup else f"{found.kind}/{found.name}"
    return [obj.metadata.name, obj.spec.controller, parameters, age(obj.metadata.creationTimestamp, now)]


def network_policy(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, selector_text(obj.spec.podSelector), age(obj.metadata.creationTimestamp, now)]


PRINTERS = {
    "Service": service,
    "Endpoints": endpoints,
    "EndpointSlice": endpoint_slice,
    "Ingress": ingress,
    "IngressClass": ingress_class,
    "NetworkPolicy": network_policy,
}
