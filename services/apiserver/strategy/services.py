"""Service."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    label_map,
    not_supported,
    one_of,
    qualified_name,
    required,
)
from services.apiserver.strategy.endpoints import reachable
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns1035_label, dns_label, dns_subdomain
from services.apiserver.strategy.ports import (
    BAD_IP,
    BAD_IP_LONG,
    PROTOCOLS,
    parse_cidr,
    parse_ip,
    port_number,
    port_number_or_name,
)
from tillerman.pb.k8s import core_v1_pb2 as core

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"
_TIMEOUT_RANGE = "must be greater than 0 and less than 86400"


_KUBELET_PORT = 10250
_MIXED = "may specify no more than one IP for each IP family"


def _create_service(service: Any) -> None:
    """Who knows clusterIPs says both."""
    spec = service.spec
    if spec.clusterIP and not spec.clusterIPs:
        spec.clusterIPs.append(spec.clusterIP)


def _normalize(service: Any) -> None:
    """clusterIP and the first of clusterIPs are one."""
    _create_service(service)
    spec = service.spec
    if spec.clusterIPs and not spec.clusterIP:
        spec.clusterIP = spec.clusterIPs[0]


def _update_service(new: Any, old: Any) -> None:
    after, before = new.spec, old.spec
    if after.type != "ExternalName" and before.type != "ExternalName":
        if after.clusterIP != before.clusterIP and list(after.clusterIPs) == list(before.clusterIPs):
            del after.clusterIPs[:]
    elif after.type == "ExternalName" and before.type != "ExternalName" and after.clusterIP == before.clusterIP:
        after.ClearField("clusterIP")
        del after.clusterIPs[:]
    _normalize(new)
    if after.type != "ExternalName" and before.type != "ExternalName":
        if not after.ipFamilies:
            after.ipFamilies.extend(before.ipFamilies)
        if not after.HasField("ipFamilyPolicy") and before.HasField("ipFamilyPolicy"):
            after.ipFamilyPolicy = before.ipFamilyPolicy
    else:
        _drop_of_other_type(after, before)
    if before.type == "LoadBalancer" != after.type:
        _drop_same(after, before, ("allocateLoadBalancerNodePorts", "loadBalancerClass"))
    if after.type in ("NodePort", "LoadBalancer"):
        _keep_node_ports(after, before)
    elif before.type in ("NodePort", "LoadBalancer"):
        _drop_node_ports(after, before)
    if not _needs_health_port(after) and after.healthCheckNodePort == before.healthCheckNodePort:
        after.ClearField("healthCheckNodePort")
    elif _needs_health_port(before) and not after.healthCheckNodePort:
        after.healthCheckNodePort = before.healthCheckNodePort


def _drop_of_other_type(after: Any, before: Any) -> None:
    """A Service that turns ExternalName keeps nothing of what was allotted to it."""
    if after.type != "ExternalName" or before.type == "ExternalName":
        return
    _drop_same(after, before, ("ipFamilyPolicy",))
    if list(after.ipFamilies) == list(before.ipFamilies):
        del after.ipFamilies[:]


def _drop_same(after: Any, before: Any, fields: tuple[str, ...]) -> None:
    """What the client only sent back as it was doesn't stay where it no longer belongs."""
    for field in fields:
        if getattr(after, field) == getattr(before, field):
            after.ClearField(field)


def _keep_node_ports(after: Any, before: Any) -> None:
    allotted = {(p.protocol, p.port): p.nodePort for p in before.ports if p.nodePort}
    named = {(p.protocol, p.nodePort) for p in after.ports if p.nodePort}
    for port in after.ports:
        known = allotted.get((port.protocol, port.port))
        if not port.nodePort and known and (port.protocol, known) not in named:
            port.nodePort = known


def _drop_node_ports(after: Any, before: Any) -> None:
    """A Service that turns ClusterIP gives back the node ports that it had."""
    if [p.nodePort for p in after.ports] == [p.nodePort for p in before.ports]:
        for port in after.ports:
            port.ClearField("nodePort")
    if after.externalTrafficPolicy == before.externalTrafficPolicy:
        after.ClearField("externalTrafficPolicy")


def _needs_health_port(spec: Any) -> bool:
    return bool(spec.type == "LoadBalancer" and spec.externalTrafficPolicy == "Local")


def _validate_service(service: Any) -> list[Cause]:
    spec = service.spec
    headless = list(spec.clusterIPs) == ["None"]
    causes: list[Cause] = []
    if not spec.ports and not headless and spec.type != "ExternalName":
        causes.append(required("spec.ports"))
    if spec.type in ("NodePort", "LoadBalancer") and headless:
        detail = f"may not be set to 'None' for {spec.type} services"
        causes.append(invalid("spec.clusterIPs[0]", "None", detail))
    if spec.type == "LoadBalancer":
        detail = f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet"
        causes += [
            invalid(f"spec.ports[{index}]", port.port, detail)
            for index, port in enumerate(spec.ports)
            if port.port == _KUBELET_PORT
        ]
    elif spec.type == "ExternalName":
        causes += _external_name(spec)
    causes += _cluster_ips(spec)
    causes += _service_ports(spec)
    causes += label_map("spec.selector", spec.selector)
    causes += one_of("spec.sessionAffinity", spec.sessionAffinity, ("ClientIP", "None"))
    if spec.sessionAffinity == "ClientIP":
        causes += _affinity_timeout(spec.sessionAffinityConfig)
    elif spec.sessionAffinity == "None" and spec.HasField("sessionAffinityConfig"):
        detail = "must not be set when session affinity is None"
        causes.append(forbidden("spec.sessionAffinityConfig", detail))
    causes += one_of("spec.type", spec.type, TYPES)
    causes += _external_ips(spec)
    causes += _traffic_policies(spec) + _source_ranges(service)
    # What makes no sense together is told once all else makes sense.
    return causes or _external_traffic(spec)


def _external_name(spec: Any) -> list[Cause]:
    given = {
        "clusterIPs": bool(spec.clusterIPs),
        "ipFamilies": bool(spec.ipFamilies),
        "ipFamilyPolicy": spec.HasField("ipFamilyPolicy"),
    }
    detail = "may not be set for ExternalName services"
    causes = [forbidden(f"spec.{field}", detail) for field, is_set in given.items() if is_set]
    name = spec.externalName.removesuffix(".")
    if not name:
        return [*causes, required("spec.externalName")]
    return causes + invalid_all("spec.externalName", name, dns_subdomain(name))


def _cluster_ips(spec: Any) -> list[Cause]:
    if spec.type == "ExternalName":
        return []
    causes: list[Cause] = []
    path, addresses = "spec.clusterIPs", spec.clusterIPs
    if addresses and not spec.clusterIP:
        causes.append(invalid(path, addresses, "must be empty when `clusterIP` is not specified"))
    elif addresses and addresses[0] != spec.clusterIP:
        causes.append(invalid(path, addresses, "first value must match `clusterIP`"))
    wrong: list[Cause] = []
    if "None" in addresses[:1] and len(addresses) > 1:
        wrong.append(invalid(path, addresses, "'None' must be the first and only value"))
    wrong += [
        invalid(f"{path}[{index}]", address, BAD_IP_LONG)
        for index, address in enumerate(addresses)
        if parse_ip(address) is None and (index or address != "None")
    ]
    # Families of what is no address make no sense.
    return causes + (wrong or _families(spec))


def _families(spec: Any) -> list[Cause]:
    """Which families a Service has, and that its addresses are of them in this order."""
    causes: list[Cause] = []
    families, addresses = spec.ipFamilies, spec.clusterIPs
    for index, family in enumerate(families):
        path = f"spec.ipFamilies[{index}]"
        if family not in ("IPv4", "IPv6"):
            causes.append(not_supported(path, family, ["IPv4", "IPv6"]))
        if family in families[:index]:
            causes.append(duplicate(path, family))
    for field, values in (("ipFamilies", families), ("clusterIPs", addresses)):
        if len(values) > 2:
            causes.append(invalid(f"spec.{field}", values, "may only hold up to 2 values"))
    several = len(families) > 1 or len(addresses) > 1
    if spec.HasField("ipFamilyPolicy") and spec.ipFamilyPolicy == "SingleStack" and several:
        detail = "may not be 'SingleStack' when more than one IP family or address is specified"
        causes.append(invalid("spec.ipFamilyPolicy", spec.ipFamilyPolicy, detail))
    versions = [getattr(parse_ip(address), "version", 0) for address in addresses if address != "None"]
    for index, version in enumerate(versions):
        if version and index < len(families) and families[index] != f"IPv{version}":
            detail = f"expected an {families[index]} value as indicated by `ipFamilies[{index}]`"
            causes.append(invalid(f"spec.clusterIPs[{index}]", addresses[index], detail))
    if len(versions) == 2 and versions[0] == versions[1] != 0:
        causes.append(invalid("spec.clusterIPs", addresses, _MIXED))
    return causes


def _service_ports(spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    taken: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.ports):
        path = f"spec.ports[{index}]"
        if not port.name:
            if len(spec.ports) > 1:
                causes.append(required(f"{path}.name"))
        else:
            causes += invalid_all(f"{path}.name", port.name, dns_label(port.name))
            if port.name in names:
                causes.append(duplicate(f"{path}.name", port.name))
            names.add(port.name)
        causes += port_number(f"{path}.port", port.port)
        causes += one_of(f"{path}.protocol", port.protocol, PROTOCOLS)
        causes += port_number_or_name(f"{path}.targetPort", port.targetPort)
        if port.HasField("appProtocol"):
            causes += invalid_all(f"{path}.appProtocol", port.appProtocol, qualified_name(port.appProtocol))
        if port.nodePort:
            if spec.type == "ClusterIP":
                causes.append(forbidden(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'"))
            key = (port.protocol, port.nodePort)
            if key in node_ports:
                causes.append(duplicate(f"{path}.nodePort", port.nodePort))
            node_ports.add(key)
        if (port.protocol, port.port) in taken:
            causes.append(Cause(path, "FieldValueDuplicate", f"Duplicate value: {_port_key(port)}"))
        taken.add((port.protocol, port.port))
    return causes


def _port_key(port: Any) -> str:
    return f'{{"port":{port.port},"protocol":"{port.protocol}"}}'


def _affinity_timeout(config: Any) -> list[Cause]:
    seconds = config.clientIP.timeoutSeconds
    if 0 < seconds <= 86400:
        return []
    return [invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, _TIMEOUT_RANGE)]


def _external_ips(spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, address in enumerate(spec.externalIPs):
        path = f"spec.externalIPs[{index}]"
        if parse_ip(address) is None:
            causes.append(invalid(path, address, BAD_IP_LONG))
        else:
            causes += reachable(path, address)
    return causes


def _external_traffic(spec: Any) -> list[Cause]:
    """That the type of a Service goes with how it treats traffic from outside."""
    causes: list[Cause] = []
    policy = spec.externalTrafficPolicy
    if policy and spec.type not in ("NodePort", "LoadBalancer"):
        detail = "ExternalTrafficPolicy can only be set on NodePort and LoadBalancer service"
        causes.append(invalid("spec.externalTrafficPolicy", policy, detail))
    if spec.healthCheckNodePort and not _needs_health_port(spec):
        detail = "HealthCheckNodePort can only be set on LoadBalancer service with ExternalTrafficPolicy=Local"
        causes.append(invalid("spec.healthCheckNodePort", spec.healthCheckNodePort, detail))
    return causes


def _traffic_policies(spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    policy = spec.externalTrafficPolicy
    if policy not in ("", "Cluster", "Local"):
        detail = "ExternalTrafficPolicy must be empty, Cluster or Local"
        causes.append(invalid("spec.externalTrafficPolicy", policy, detail))
    if spec.healthCheckNodePort < 0:
        detail = "HealthCheckNodePort must be not less than 0"
        causes.append(invalid("spec.healthCheckNodePort", spec.healthCheckNodePort, detail))
    if spec.HasField("internalTrafficPolicy") and spec.internalTrafficPolicy not in ("Cluster", "Local"):
        causes.append(not_supported("spec.internalTrafficPolicy", spec.internalTrafficPolicy, ["Cluster", "Local"]))
    causes += _load_balancer_only(spec)
    if spec.HasField("trafficDistribution") and spec.trafficDistribution not in _DISTRIBUTIONS:
        causes.append(not_supported("spec.trafficDistribution", spec.trafficDistribution, _DISTRIBUTIONS))
    if spec.HasField("ipFamilyPolicy"):
        allowed = ("PreferDualStack", "RequireDualStack", "SingleStack")
        causes += one_of("spec.ipFamilyPolicy", spec.ipFamilyPolicy, allowed, needed=False)
    return causes


def _load_balancer_only(spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if not spec.HasField(field):
            continue
        if spec.type != "LoadBalancer":
            causes.append(forbidden(f"spec.{field}", "may only be used when `type` is 'LoadBalancer'"))
        elif field == "loadBalancerClass":
            causes += invalid_all(f"spec.{field}", spec.loadBalancerClass, qualified_name(spec.loadBalancerClass))
    return causes


def _source_ranges(service: Any) -> list[Cause]:
    # The capital L is Kubernetes' own.
    spec, path = service.spec, "spec.LoadBalancerSourceRanges"
    annotation = service.metadata.annotations.get(_RANGES_ANNOTATION)
    if spec.loadBalancerSourceRanges:
        ranges, shown = list(spec.loadBalancerSourceRanges), f"[{' '.join(spec.loadBalancerSourceRanges)}]"
    elif annotation is not None:
        path, shown = f"metadata.annotations[{_RANGES_ANNOTATION}]", annotation
        # An empty one means everybody.
        ranges = annotation.split(",") if annotation.strip() else []
    else:
        return []
    causes: list[Cause] = []
    if spec.type != "LoadBalancer":
        causes.append(forbidden(path, "may only be used when `type` is 'LoadBalancer'"))
    if not all(parse_cidr(text.strip()) for text in ranges):
        detail = "must be a list of IP ranges. For example, 10.240.0.0/24,10.250.0.0/24 "
        causes.append(invalid(path, shown, detail))
    return causes


def _validate_service_update(new: Any, old: Any) -> list[Cause]:
    """An address once allotted stays, unless the Service turns into or from ExternalName."""
    if new.spec.type == "ExternalName" or old.spec.type == "ExternalName":
        return []
    causes: list[Cause] = []
    before, after = old.spec.clusterIPs, new.spec.clusterIPs
    if before and not after:
        causes.append(invalid("spec.clusterIPs[0]", after, "primary clusterIP can not be unset"))
    elif before and after[0] != before[0]:
        causes.append(invalid("spec.clusterIPs[0]", after, "may not change once set"))
    families, known = new.spec.ipFamilies, old.spec.ipFamilies
    if known and not families:
        causes.append(invalid("spec.ipFamilies[0]", families, "primary ipFamily can not be unset"))
    elif known and families[0] != known[0]:
        causes.append(invalid("spec.ipFamilies[0]", families, "may not change once set"))
    if _needs_health_port(new.spec) and _needs_health_port(old.spec):
        path = "spec.healthCheckNodePort"
        causes += immutable(path, new.spec.healthCheckNodePort, old.spec.healthCheckNodePort)
    if new.spec.type == old.spec.type == "LoadBalancer":
        causes += immutable("spec.loadBalancerClass", new.spec.loadBalancerClass, old.spec.loadBalancerClass)
    return causes


def _validate_service_status(new: Any, old: Any) -> list[Cause]:
    return load_balancer("status.loadBalancer", new.status.loadBalancer)


def _ip_mode(path: str, ingress: Any) -> list[Cause]:
    # An Ingress' addresses have no modes.
    if "ipMode" not in ingress.DESCRIPTOR.fields_by_name or not ingress.HasField("ipMode"):
        return []
    if not ingress.ip:
        return [forbidden(path, "may not be set when `ip` is not set")]
    return one_of(path, ingress.ipMode, ("Proxy", "VIP"))


def load_balancer(path: str, status: Any) -> list[Cause]:
    """The addresses under which a load balancer is reached (Service and Ingress)."""
    causes: list[Cause] = []
    for index, ingress in enumerate(status.ingress):
        where = f"{path}.ingress[{index}]"
        if ingress.ip and parse_ip(ingress.ip) is None:
            causes.append(invalid(f"{where}.ip", ingress.ip, BAD_IP))
        causes += _ip_mode(f"{where}.ipMode", ingress)
        if ingress.hostname:
            causes += invalid_all(f"{where}.hostname", ingress.hostname, dns_subdomain(ingress.hostname))
            if parse_ip(ingress.hostname) is not None:
                detail = "must be a DNS name, not an IP address"
                causes.append(invalid(f"{where}.hostname", ingress.hostname, detail))
    return causes


KINDS = {
    core.Service: Kind(
        name=dns1035_label,
        status=True,
        unconditional_update=False,
        version_among_causes=True,
        create=_create_service,
        update=_update_service,
        validate=_validate_service,
        validate_update=_validate_service_update,
        validate_status=_validate_service_status,
    ),
}
