"""The desired state of the service proxy: pure functions from Services and EndpointSlices to ports and their backends.

Nothing here does I/O. Both backends (kernel and userspace), the gRPC service and DNS read what `service_ports` returns.
"""

import ipaddress
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field

from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
SERVICE_PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
DEFAULT_AFFINITY_SECONDS = 10800
PROTOCOL_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


@dataclass(frozen=True, slots=True, order=True)
class PortKey:
    """One port of one Service; what rules, counters and messages are kept by."""

    namespace: str
    service: str
    port_name: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}:{self.port_name or self.protocol.lower()}"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One address and port behind a Service port."""

    address: str
    port: int
    pod: str = ""
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False

    @property
    def target(self) -> tuple[str, int]:
        return self.address, self.port


Target = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service with everything needed to route to it.

    `targets` serve traffic from inside the cluster, `outside_targets` traffic from outside; both are sorted and free
    of duplicates. `external_local` says that outside traffic stays on this machine and keeps its source address.
    """

    key: PortKey
    cluster_ips: tuple[str, ...]
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    affinity_seconds: int = 0
    external_local: bool = False
    targets: tuple[Target, ...] = ()
    outside_targets: tuple[Target, ...] = ()
    remote: frozenset[str] = frozenset()
    endpoints: tuple[Endpoint, ...] = field(default=(), compare=False)

    @property
    def protocol_number(self) -> int:
        return PROTOCOL_NUMBERS[self.key.protocol]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address on which the port answers, NodePorts aside."""
        return (*self.cluster_ips, *self.external_ips)


def is_proxied(service: core.Service) -> bool:
    """Headless and ExternalName Services, and those that name another proxy, have no rules."""
    spec = service.spec
    return (
        spec.type != "ExternalName"
        and spec.clusterIP not in ("", "None")
        and SERVICE_PROXY_NAME_LABEL not in service.metadata.labels
    )


def service_of(slice_: discovery.EndpointSlice) -> str | None:
    """The "namespace/name" of the Service that an EndpointSlice belongs to."""
    name = slice_.metadata.labels.get(SERVICE_NAME_LABEL, "")
    return f"{slice_.metadata.namespace}/{name}" if name else None


def service_ports(
    service: core.Service,
    slices: Iterable[discovery.EndpointSlice],
    *,
    is_local: Callable[[Endpoint], bool],
    is_held: Callable[[PortKey, Endpoint], bool] = lambda key, endpoint: False,
) -> dict[PortKey, ServicePort]:
    """The ports of one Service with the endpoints of its slices. `is_local` tells endpoints on this machine, `is_held`
    ready ones that should not be used while others can."""
    if not is_proxied(service):
        return {}
    spec = service.spec
    slices = [s for s in slices if s.addressType in ("", "IPv4")]
    cluster_ips = tuple(ip for ip in (list(spec.clusterIPs) or [spec.clusterIP]) if is_ipv4(ip))
    external_ips = tuple(sorted({ip for ip in (*spec.externalIPs, *load_balancer_ips(service)) if is_ipv4(ip)}))
    external_local = spec.externalTrafficPolicy == "Local"
    internal_local = spec.internalTrafficPolicy == "Local"
    ports = {}
    for port in spec.ports:
        protocol = port.protocol or "TCP"
        if protocol not in PROTOCOL_NUMBERS:
            continue
        key = PortKey(service.metadata.namespace, service.metadata.name, port.name, protocol)
        endpoints = endpoints_of_port(slices, port.name, protocol)
        local = [e for e in endpoints if is_local(e)]
        held = frozenset(e.target for e in endpoints if e.ready and is_held(key, e))
        ports[key] = ServicePort(
            key=key,
            cluster_ips=cluster_ips,
            port=port.port,
            node_port=port.nodePort,
            external_ips=external_ips,
            affinity_seconds=affinity_seconds(service),
            external_local=external_local,
            targets=usable(local if internal_local else endpoints, held),
            outside_targets=usable(local if external_local else endpoints, held),
            remote=frozenset(e.address for e in endpoints if not is_local(e)),
            endpoints=tuple(endpoints),
        )
    return ports


def endpoints_of_port(slices: Iterable[discovery.EndpointSlice], name: str, protocol: str) -> list[Endpoint]:
    """Every endpoint of the named port, whatever its condition, sorted. Slices may differ in the port's number."""
    found: dict[Target, Endpoint] = {}
    for slice_ in slices:
        for port in slice_.ports:
            if port.name != name or (port.protocol or "TCP") != protocol or not port.port:
                continue
            for raw in slice_.endpoints:
                endpoint = endpoint_of(raw, port.port)
                if endpoint is None:
                    continue
                known = found.get(endpoint.target)
                # An address can appear twice while its pod moves between slices: the readier one counts.
                if known is None or (endpoint.ready, endpoint.serving) > (known.ready, known.serving):
                    found[endpoint.target] = endpoint
    return sorted(found.values())


def endpoint_of(raw: discovery.Endpoint, port: int) -> Endpoint | None:
    if not raw.addresses or not is_ipv4(raw.addresses[0]):
        return None
    conditions = raw.conditions
    # Absent conditions mean ready (and serving as ready), as the API defines them.
    ready = conditions.ready if conditions.HasField("ready") else True
    return Endpoint(
        address=raw.addresses[0],
        port=port,
        pod=raw.targetRef.name if raw.targetRef.kind in ("", "Pod") else "",
        node=raw.nodeName,
        ready=ready,
        serving=conditions.serving if conditions.HasField("serving") else ready,
        terminating=conditions.terminating,
    )


def usable(endpoints: Sequence[Endpoint], held: Container[Target] = ()) -> tuple[Target, ...]:
    """The ready endpoints that are not held; when there is none, those that terminate but serve; else the held ones."""
    ready = [e for e in endpoints if e.ready]
    chosen = (
        [e for e in ready if e.target not in held] or [e for e in endpoints if e.serving and e.terminating] or ready
    )
    return tuple(sorted({e.target for e in chosen}))


def load_balancer_ips(service: core.Service) -> list[str]:
    """The load balancer's addresses that the nodes themselves answer on (ipMode VIP, the default)."""
    if service.spec.type != "LoadBalancer":
        return []
    return [i.ip for i in service.status.loadBalancer.ingress if i.ip and i.ipMode != "Proxy"]


def affinity_seconds(service: core.Service) -> int:
    if service.spec.sessionAffinity != "ClientIP":
        return 0
    return service.spec.sessionAffinityConfig.clientIP.timeoutSeconds or DEFAULT_AFFINITY_SECONDS


def is_ipv4(value: str) -> bool:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return True
