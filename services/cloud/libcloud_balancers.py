"""Load balancers through libcloud's load balancer API.

MemberBalancers is for drivers whose members are address and port (most). ElbBalancers is for Amazon's classic ELB,
whose members are machines and whose listeners map ports to node ports: libcloud's driver can only make listeners with
equal ports, so these requests are written out here and sent through the driver's signed connection.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar
from xml.etree import ElementTree

from services.cloud.provider import Ingress, ProviderError, load_balancer_name
from tillerman.pb.k8s import core_v1_pb2 as core

T = TypeVar("T")

ELB_PATH = "/"
# Whatever namespace an endpoint answers in.
ELB_NAMESPACE = "{*}"

Listener = tuple[int, int, str]
"""(port, node port, "TCP")"""


class Blocking(Protocol):
    async def call(self, what: str, function: Callable[[Any], T]) -> T: ...


class Finder(Protocol):
    async def of(self, node: core.Node) -> Any | None: ...


class MemberBalancers:
    """One cloud load balancer per Service port: what most clouds' load balancers are."""

    def __init__(self, driver: Blocking, machines: Finder) -> None:
        self._driver = driver
        self._machines = machines

    def name(self, service: core.Service) -> str:
        return load_balancer_name(service)

    async def ensure(self, service: core.Service, nodes: Sequence[core.Node]) -> list[Ingress]:
        name = self.name(service)
        addresses = [address for node in nodes if (address := _internal_address(node))]
        listeners = listeners_of(service)

        def ensure(driver: Any) -> list[Ingress]:
            present = {b.name: b for b in driver.list_balancers() if b.name.startswith(name)}
            ingress = []
            for port, node_port, protocol in listeners:
                balancer = present.pop(f"{name}-{port}", None)
                if balancer is None:
                    balancer = self._create(driver, f"{name}-{port}", port, protocol, addresses, node_port)
                else:
                    self._set_members(driver, balancer, addresses, node_port)
                ingress.append(_ingress(balancer.ip))
            for stale in present.values():
                driver.destroy_balancer(stale)
            return list(dict.fromkeys(ingress))

        return await self._driver.call(f"set up the load balancer {name}", ensure)

    async def delete(self, service: core.Service) -> None:
        name = self.name(service)

        def delete(driver: Any) -> None:
            for balancer in driver.list_balancers():
                if balancer.name.startswith(name):
                    driver.destroy_balancer(balancer)

        await self._driver.call(f"delete the load balancer {name}", delete)

    @staticmethod
    def _create(driver: Any, name: str, port: int, protocol: str, addresses: list[str], node_port: int) -> Any:
        from libcloud.loadbalancer.base import Algorithm, Member

        members = [Member(None, address, node_port) for address in addresses]
        return driver.create_balancer(
            name=name, port=port, protocol=protocol.lower(), algorithm=Algorithm.ROUND_ROBIN, members=members
        )

    @staticmethod
    def _set_members(driver: Any, balancer: Any, addresses: list[str], node_port: int) -> None:
        from libcloud.loadbalancer.base import Member

        present = {(member.ip, member.port): member for member in balancer.list_members()}
        wanted = {(address, node_port) for address in addresses}
        for address, port in sorted(wanted - set(present)):
            driver.balancer_attach_member(balancer, Member(None, address, port))
        for key in set(present) - wanted:
            driver.balancer_detach_member(balancer, present[key])


class ElbBalancers:
    """A classic ELB per Service, in `subnets`, or without them in the zones of its machines."""

    def __init__(self, driver: Blocking, machines: Finder, *, subnets: Sequence[str] = ()) -> None:
        self._driver = driver
        self._machines = machines
        self._subnets = tuple(subnets)

    def name(self, service: core.Service) -> str:
        return load_balancer_name(service)

    async def ensure(self, service: core.Service, nodes: Sequence[core.Node]) -> list[Ingress]:
        name, listeners = self.name(service), listeners_of(service)
        if any(protocol != "TCP" for _, _, protocol in listeners):
            raise ProviderError(f"the load balancer {name} can only do TCP")
        found = [await self._machines.of(node) for node in nodes]
        machines = {machine.id: machine for machine in found if machine is not None}
        zones = sorted({str(m.extra["availability"]) for m in machines.values() if m.extra.get("availability")})
        if not self._subnets and not zones:
            raise ProviderError(f"the load balancer {name} needs a machine behind it, to know its zone")

        def ensure(driver: Any) -> list[Ingress]:
            elb = _Elb(driver)
            present = elb.describe(name)
            if present is None:
                where = _numbered("Subnets", self._subnets) or _numbered("AvailabilityZones", zones)
                elb.request("CreateLoadBalancer", name, {**where, **_listeners(listeners)})
                present = elb.describe(name)
                if present is None:
                    raise ProviderError(f"the load balancer {name} was made, but is not there")
            elb.set_listeners(name, present, listeners)
            elb.set_machines(name, present, set(machines))
            return [_ingress(_text(present, "DNSName"))]

        return await self._driver.call(f"set up the load balancer {name}", ensure)

    async def delete(self, service: core.Service) -> None:
        name = self.name(service)
        # Deleting what is not there succeeds.
        await self._driver.call(
            f"delete the load balancer {name}", lambda driver: _Elb(driver).request("DeleteLoadBalancer", name, {})
        )


class _Elb:
    """Requests of Amazon's API 2012-06-01 over a libcloud driver's connection."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def request(self, action: str, name: str, params: dict[str, str]) -> Any:
        sent = {"Action": action, "LoadBalancerName": name, **params}
        return self._driver.connection.request(ELB_PATH, params=sent).object

    def describe(self, name: str) -> Any | None:
        """Looks through the list: asking for one by name fails in other words on every cloud when it is missing."""
        document = self._driver.connection.request(ELB_PATH, params={"Action": "DescribeLoadBalancers"}).object
        for element in _all(document, "LoadBalancerDescriptions"):
            if _text(element, "LoadBalancerName") == name:
                return element
        return None

    def set_listeners(self, name: str, described: Any, wanted: Sequence[Listener]) -> None:
        present = {
            (int(_text(e, "LoadBalancerPort")), int(_text(e, "InstancePort")), _text(e, "Protocol").upper())
            for e in described.findall(f".//{ELB_NAMESPACE}Listener")
        }
        stale = sorted(present - set(wanted))
        missing = sorted(set(wanted) - present)
        for port, _, _ in stale:
            self.request("DeleteLoadBalancerListeners", name, _numbered("LoadBalancerPorts", [str(port)]))
        if missing:
            self.request("CreateLoadBalancerListeners", name, _listeners(missing))

    def set_machines(self, name: str, described: Any, wanted: set[str]) -> None:
        present = {e.text or "" for e in described.findall(f".//{ELB_NAMESPACE}InstanceId")}
        for action, ids in (
            ("RegisterInstancesWithLoadBalancer", wanted - present),
            ("DeregisterInstancesFromLoadBalancer", present - wanted),
        ):
            if ids:
                self.request(
                    action, name, {f"Instances.member.{i}.InstanceId": m for i, m in enumerate(sorted(ids), 1)}
                )


def listeners_of(service: core.Service) -> list[Listener]:
    """Raises ProviderError for a port without a node port: there is nothing to send to."""
    listeners = []
    for port in service.spec.ports:
        if not port.nodePort:
            raise ProviderError(f"port {port.port} has no nodePort, which this cloud's load balancers send to")
        listeners.append((port.port, port.nodePort, port.protocol or "TCP"))
    return listeners


def _listeners(listeners: Sequence[Listener]) -> dict[str, str]:
    params = {}
    for number, (port, node_port, protocol) in enumerate(listeners, 1):
        prefix = f"Listeners.member.{number}"
        params[f"{prefix}.LoadBalancerPort"] = str(port)
        params[f"{prefix}.InstancePort"] = str(node_port)
        params[f"{prefix}.Protocol"] = params[f"{prefix}.InstanceProtocol"] = protocol
    return params


def _numbered(name: str, values: Sequence[str]) -> dict[str, str]:
    return {f"{name}.member.{number}": value for number, value in enumerate(values, 1)}


def _all(document: ElementTree.Element, container: str) -> list[ElementTree.Element]:
    found = document.find(f".//{ELB_NAMESPACE}{container}")
    return [] if found is None else list(found)


def _text(element: Any, name: str) -> str:
    found = element.find(f".//{ELB_NAMESPACE}{name}")
    return "" if found is None else (found.text or "")


def _ingress(where: str) -> Ingress:
    """ip_mode "Proxy": the balancer sends from itself, so nodes must not answer on its address."""
    if where and where.replace(".", "").replace(":", "").isalnum() and where[-1].isdigit():
        return Ingress(ip=where, ip_mode="Proxy")
    return Ingress(hostname=where)


def _internal_address(node: core.Node) -> str:
    return next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
