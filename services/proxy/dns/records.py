"""What cluster DNS knows: pure answers from Services and EndpointSlices, after Kubernetes' DNS specification 1.1.0.

Names are handled as lower-case label tuples without the root. Nothing here encodes or sends anything.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from services.proxy.model import is_ipv4, service_of
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery

SPECIFICATION = "1.1.0"
SERVICE_TTL = 30
ENDPOINT_TTL = 5
NEGATIVE_TTL = 5

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record in presentation form: name without the last dot, type, data."""

    name: str
    type: str
    ttl: int
    data: str


@dataclass(slots=True)
class Answer:
    """`service` names the Service ("namespace/name") that the answer depends on, whether it exists or not; None when it
    depends on all. `cname` is a name outside the zone that has to be looked up for the rest of the answer."""

    code: str = "NOERROR"
    records: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)
    service: str | None = None
    cname: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the zone looks things up: a Service and its slices by "namespace/name", either of them by an address."""

    service: Callable[[str], core.Service | None]
    services: Callable[[], Iterable[core.Service]]
    slices: Callable[[str], list[discovery.EndpointSlice]]
    services_at: Callable[[str], Iterable[core.Service]]
    slices_at: Callable[[str], Iterable[discovery.EndpointSlice]]


@dataclass(frozen=True, slots=True)
class Member:
    """One endpoint of a headless Service: its name below the Service, address, and (name, protocol, number) ports."""

    name: str
    address: str
    ports: tuple[tuple[str, str, int], ...]


class Zone:
    """The names below the cluster domain and the reverse names of cluster addresses."""

    def __init__(self, domain: str, source: Source, *, networks: Sequence[ipaddress.IPv4Network] = ()) -> None:
        self.domain = domain.strip(".").lower()
        self._suffix = tuple(self.domain.split("."))
        self._source = source
        self._networks = networks

    def owns(self, name: Labels) -> bool:
        """True for names that only this zone can answer: its own, and reverse names of the cluster's networks."""
        if name[-len(self._suffix) :] == self._suffix:
            return True
        address = reverse_address(name)
        return address is not None and (
            any(address in network for network in self._networks)
            or next(self._names_of(str(address)), None) is not None
        )

    def answer(self, name: Labels, kind: str) -> Answer:
        """The answer to a question that `owns` accepts."""
        if (address := reverse_address(name)) is not None:
            return self._reverse(name, str(address), kind)
        rest = name[: -len(self._suffix)]
        if not rest:
            return self._apex(kind)
        match rest[-1]:
            case "svc":
                return self._service(name, rest[:-1], kind)
            case "pod":
                return self._pod(name, rest[:-1], kind)
            case "dns-version" if len(rest) == 1:
                return Answer(
                    records=[Record(".".join(name), "TXT", SERVICE_TTL, f'"{SPECIFICATION}"')] * (kind == "TXT")
                )
        return Answer("NXDOMAIN")

    def start_of_authority(self) -> Record:
        data = f"ns.dns.{self.domain}. hostmaster.{self.domain}. 1 7200 1800 86400 {NEGATIVE_TTL}"
        return Record(self.domain, "SOA", NEGATIVE_TTL, data)

    def _apex(self, kind: str) -> Answer:
        if kind == "SOA":
            return Answer(records=[self.start_of_authority()])
        if kind == "NS":
            return Answer(records=[Record(self.domain, "NS", SERVICE_TTL, f"ns.dns.{self.domain}.")])
        return Answer()

    # Services

    def _service(self, name: Labels, rest: Labels, kind: str) -> Answer:
        if not rest:
            return Answer()
        if len(rest) == 1:
            known = any(s.metadata.namespace == rest[0] for s in self._source.services())
            return Answer() if known else Answer("NXDOMAIN")
        key = f"{rest[-1]}/{rest[-2]}"
        service = self._source.service(key)
        below = rest[:-2]
        if service is None:
            return Answer("NXDOMAIN", service=key)
        answer = self._of_service(service, name, below, kind)
        answer.service = key
        return answer

    def _of_service(self, service: core.Service, name: Labels, below: Labels, kind: str) -> Answer:
        spec = service.spec
        if spec.type == "ExternalName":
            if below:
                return Answer("NXDOMAIN")
            target = spec.externalName.rstrip(".")
            return Answer(records=[Record(".".join(name), "CNAME", ENDPOINT_TTL, f"{target}.")], cname=target)
        headless = spec.clusterIP == "None"
        members = list(self._members(service)) if headless else []
        if not below:
            addresses = [m.address for m in members] if headless else cluster_ips(service)
            if kind == "SRV":
                return self._srv(service, name, members, "", "")
            if headless and not members:
                return Answer("NXDOMAIN")
            return self._addresses(name, addresses, kind, ENDPOINT_TTL if headless else SERVICE_TTL)
        if len(below) == 2 and below[0].startswith("_") and below[1].startswith("_"):
            answer = self._srv(service, name, members, below[0][1:], below[1][1:])
            if not answer.records:
                return Answer("NXDOMAIN")
            return answer if kind in ("SRV", "ANY") else Answer()
        if len(below) == 1:
            found = [m.address for m in members if m.name == below[0]]
            if found:
                return self._addresses(name, found, kind, ENDPOINT_TTL)
            # _tcp.web.default.svc exists as the parent of SRV names.
            if below[0].startswith("_") and any(
                f"_{(p.protocol or 'TCP').lower()}" == below[0] for p in service.spec.ports
            ):
                return Answer()
        return Answer("NXDOMAIN")

    def _addresses(self, name: Labels, addresses: Iterable[str], kind: str, ttl: int) -> Answer:
        if kind not in ("A", "ANY"):
            return Answer()
        return Answer(records=[Record(".".join(name), "A", ttl, ip) for ip in dict.fromkeys(addresses)])

    def _srv(self, service: core.Service, name: Labels, members: list[Member], port: str, protocol: str) -> Answer:
        """SRV records of the named port, of all ports when both are empty, with the addresses they point to."""
        answer, owner = Answer(), ".".join(name)
        base = self._base(service)

        def wanted(a_port: str, a_protocol: str) -> bool:
            return (not port and not protocol) or (a_port == port and a_protocol.lower() == protocol)

        if service.spec.clusterIP != "None":
            for p in service.spec.ports:
                if wanted(p.name, p.protocol or "TCP"):
                    answer.records.append(Record(owner, "SRV", SERVICE_TTL, f"0 100 {p.port} {base}."))
            if answer.records:
                answer.additional = [Record(base, "A", SERVICE_TTL, ip) for ip in cluster_ips(service)]
            return answer
        for member in members:
            target = f"{member.name}.{base}"
            numbers = {number for a_name, a_protocol, number in member.ports if wanted(a_name, a_protocol)}
            answer.records += [Record(owner, "SRV", ENDPOINT_TTL, f"0 100 {n} {target}.") for n in sorted(numbers)]
            if numbers:
                answer.additional.append(Record(target, "A", ENDPOINT_TTL, member.address))
        return answer

    def _members(self, service: core.Service) -> Iterator[Member]:
        """The ready endpoints; with publishNotReadyAddresses all of them."""
        everyone = service.spec.publishNotReadyAddresses
        for slice_ in self._source.slices(f"{service.metadata.namespace}/{service.metadata.name}"):
            ports = tuple((p.name, p.protocol or "TCP", p.port) for p in slice_.ports if p.port)
            for endpoint in slice_.endpoints:
                ready = endpoint.conditions.ready if endpoint.conditions.HasField("ready") else True
                if endpoint.addresses and is_ipv4(endpoint.addresses[0]) and (ready or everyone):
                    address = endpoint.addresses[0]
                    yield Member(endpoint.hostname or address.replace(".", "-"), address, ports)

    # Pods and reverse names

    def _pod(self, name: Labels, rest: Labels, kind: str) -> Answer:
        if len(rest) != 2:
            return Answer() if len(rest) < 2 else Answer("NXDOMAIN")
        address = rest[0].replace("-", ".")
        if rest[0].count("-") != 3 or not is_ipv4(address):
            return Answer("NXDOMAIN")
        return self._addresses(name, [address], kind, ENDPOINT_TTL)

    def _reverse(self, name: Labels, address: str, kind: str) -> Answer:
        names = list(dict.fromkeys(self._names_of(address)))
        if not names:
            return Answer("NXDOMAIN")
        if kind not in ("PTR", "ANY"):
            return Answer()
        return Answer(records=[Record(".".join(name), "PTR", ENDPOINT_TTL, f"{target}.") for target in names])

    def _names_of(self, address: str) -> Iterator[str]:
        for service in self._source.services_at(address):
            yield self._base(service)
        for slice_ in self._source.slices_at(address):
            service_key = service_of(slice_)
            owner = self._source.service(service_key) if service_key else None
            if owner is not None and owner.spec.clusterIP == "None":
                yield from (f"{m.name}.{self._base(owner)}" for m in self._members(owner) if m.address == address)

    def _base(self, service: core.Service) -> str:
        return f"{service.metadata.name}.{service.metadata.namespace}.svc.{self.domain}"


def cluster_ips(service: core.Service) -> list[str]:
    spec = service.spec
    return [ip for ip in (list(spec.clusterIPs) or [spec.clusterIP]) if is_ipv4(ip)]


def reverse_address(name: Labels) -> ipaddress.IPv4Address | None:
    """The address of d.c.b.a.in-addr.arpa."""
    if len(name) != 6 or name[-2:] != ("in-addr", "arpa"):
        return None
    try:
        return ipaddress.IPv4Address(".".join(reversed(name[:4])))
    except ValueError:
        return None
