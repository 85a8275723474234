"""The provider for clouds that Apache Libcloud speaks to: EC2, OpenStack, GCE and others.

Its settings are a YAML file:

    compute:                       # any libcloud compute driver and its arguments
      driver: ec2
      args: [ACCESS_KEY, SECRET]
      region: eu-west-1            # other keys are passed on: host, port, secure, project, ex_force_auth_url, …
    loadBalancer:                  # left out: no load balancers
      driver: elb
      args: [ACCESS_KEY, SECRET]
      region: eu-west-1
      subnets: [subnet-1]          # elb only; without it, zones
    routeTable: rtb-1              # left out: no routes (EC2 route tables)

Libcloud blocks, and a driver's connection serves one call at a time: every call runs in a thread, under its driver's
lock. The list of machines is kept for a moment, since many nodes ask for theirs at once.
"""

import asyncio
import ipaddress
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from libcloud.compute.providers import get_driver as compute_driver
from libcloud.loadbalancer.providers import get_driver as balancer_driver

from services.cloud.libcloud_balancers import ElbBalancers, MemberBalancers
from services.cloud.provider import Instance, Instances, LoadBalancers, ProviderError, Route, Routes
from tillerman.pb.k8s import core_v1_pb2 as core

T = TypeVar("T")

# Seconds for which a list of machines is believed.
LIST_FRESH = 3.0

GONE = frozenset({"terminated", "shutting-down", "error"})
_EC2_NAMESPACE = re.compile(r'xmlns="http://ec2\.amazonaws\.com/doc/[^"]*"')
STOPPED = frozenset({"stopped", "stopping", "paused", "suspended"})


class BlockingDriver:
    """A libcloud driver, called one call at a time in threads; its errors become ProviderError."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._lock = threading.Lock()

    async def call(self, what: str, function: Callable[[Any], T]) -> T:
        """`what` completes "cannot …" in the error."""

        def locked() -> T:
            with self._lock:
                return function(self.driver)

        try:
            return await asyncio.to_thread(locked)
        except ProviderError:
            raise
        except Exception as error:
            # Drivers raise whatever their transport and their cloud come up with.
            raise ProviderError(f"cannot {what}: {type(error).__name__}: {error}") from error


class Machines:
    """The cloud's machines, by libcloud's Node objects; kept for LIST_FRESH seconds."""

    def __init__(self, compute: BlockingDriver, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._compute = compute
        self._monotonic = monotonic
        self._listed: list[Any] = []
        self._listed_at = -LIST_FRESH
        self._one_at_a_time = asyncio.Lock()

    async def list(self) -> Sequence[Any]:
        async with self._one_at_a_time:
            if self._monotonic() - self._listed_at >= LIST_FRESH:
                self._listed = list(await self._compute.call("list machines", lambda driver: driver.list_nodes()))
                self._listed_at = self._monotonic()
        return self._listed

    async def of(self, node: core.Node) -> Any | None:
        """A node's machine: by its providerID, else by name or address. Terminated machines don't count."""
        wanted = machine_id(node.spec.providerID)
        machines = [machine for machine in await self.list() if str(machine.state) not in GONE]
        if wanted:
            return next((machine for machine in machines if machine.id == wanted), None)
        return next((machine for machine in machines if node.metadata.name in _names(machine)), None)


class LibcloudInstances:
    def __init__(self, machines: Machines, scheme: str, region: str) -> None:
        self._machines = machines
        self._scheme = scheme
        self._region = region

    async def find(self, node: core.Node) -> Instance | None:
        machine = await self._machines.of(node)
        if machine is None:
            return None
        zone = _zone(machine)
        return Instance(
            provider_id=f"{self._scheme}:///{zone}/{machine.id}" if zone else f"{self._scheme}:///{machine.id}",
            type=str(_extra(machine, "instance_type", "machineType", "flavorId")).rsplit("/", 1)[-1],
            zone=zone,
            region=self._region or _region_of(zone),
            addresses=(
                *(("InternalIP", address) for address in machine.private_ips if _is_address(address)),
                *(("ExternalIP", address) for address in machine.public_ips if _is_address(address)),
                *(("InternalDNS", name) for name in [_extra(machine, "private_dns")] if name),
                *(("ExternalDNS", name) for name in [_extra(machine, "dns_name")] if name),
                ("Hostname", node.metadata.name),
            ),
            shutdown=str(machine.state) in STOPPED,
        )


class Ec2Routes:
    """Entries of one EC2 route table. Machines must not check packets' sources and destinations: that is turned off."""

    def __init__(self, compute: BlockingDriver, machines: Machines, table: str) -> None:
        self._compute = compute
        self._machines = machines
        self._table = table

    async def list(self, nodes: Sequence[core.Node]) -> Sequence[Route]:
        table = await self._compute.call("list routes", self._find_table)
        by_id = {machine_id(node.spec.providerID): node.metadata.name for node in nodes if node.spec.providerID}
        return [
            Route(f"{self._table}/{route.cidr}", by_id.get(route.instance_id, ""), route.cidr)
            for route in table.routes
            if route.instance_id
        ]

    async def create(self, node: core.Node, cidr: str) -> None:
        machine = await self._machines.of(node)
        if machine is None:
            raise ProviderError(f"node {node.metadata.name} has no machine to route to")

        def create(driver: Any) -> None:
            driver.ex_modify_instance_attribute(machine, {"SourceDestCheck.Value": "false"})
            table = self._find_table(driver)
            if any(route.cidr == cidr for route in table.routes):
                driver.ex_delete_route(table, cidr)
            driver.ex_create_route(table, cidr, node=machine)

        await self._compute.call(f"create the route {cidr} to {machine.id}", create)

    async def delete(self, route: Route) -> None:
        def delete(driver: Any) -> None:
            driver.ex_delete_route(self._find_table(driver), route.cidr)

        await self._compute.call(f"delete the route {route.cidr}", delete)

    def _find_table(self, driver: Any) -> Any:
        return driver.ex_list_route_tables(route_table_ids=[self._table])[0]


@dataclass
class LibcloudProvider:
    name: str
    instances: Instances
    load_balancers: LoadBalancers | None
    routes: Routes | None
    adopts_all_nodes: bool = False


def load_provider(path: Path) -> LibcloudProvider:
    """Raises OSError, ValueError."""
    settings = yaml.safe_load(path.read_text())
    if not isinstance(settings, dict) or not isinstance(settings.get("compute"), dict):
        raise ValueError(f"{path}: `compute:` with `driver:` is missing")
    return make_provider(settings)


def make_provider(settings: dict[str, Any]) -> LibcloudProvider:
    """Raises ValueError for settings that the drivers refuse."""
    compute_settings = dict(settings["compute"])
    kind = str(compute_settings.get("driver", ""))
    region = str(compute_settings.get("region") or "")
    if kind.startswith("ec2"):
        # Libcloud's default is version 2, which Amazon no longer takes.
        compute_settings.setdefault("signature_version", "4")
    driver = _construct("compute", compute_driver, compute_settings)
    if kind.startswith("ec2"):
        accept_any_api_version(driver)
    compute = BlockingDriver(driver)
    machines = Machines(compute)
    scheme = "aws" if kind.startswith("ec2") else kind
    load_balancers: LoadBalancers | None = None
    if balancing := settings.get("loadBalancer"):
        balancing = dict(balancing)
        subnets = list(balancing.pop("subnets", ()))
        blocking = BlockingDriver(_construct("loadBalancer", balancer_driver, balancing))
        if balancing["driver"] == "elb":
            load_balancers = ElbBalancers(blocking, machines, subnets=subnets)
        else:
            load_balancers = MemberBalancers(blocking, machines)
    routes: Routes | None = None
    if table := settings.get("routeTable"):
        if not hasattr(compute.driver, "ex_create_route"):
            raise ValueError(f"routeTable: libcloud's driver {kind} has no route tables")
        routes = Ec2Routes(compute, machines, str(table))
    return LibcloudProvider(f"libcloud/{kind}", LibcloudInstances(machines, scheme, region), load_balancers, routes)


def accept_any_api_version(driver: Any) -> None:
    """Libcloud's EC2 driver finds nothing in answers whose XML namespace names another API version than its own, which
    is what EC2-compatible endpoints send."""
    from libcloud.compute.drivers.ec2 import NAMESPACE

    parsing: Any = driver.connection.responseCls

    class AnyVersion(parsing):  # type: ignore[misc]
        body: Any

        def parse_body(self) -> Any:
            if isinstance(self.body, str):
                self.body = _EC2_NAMESPACE.sub(f'xmlns="{NAMESPACE}"', self.body, count=1)
            return super().parse_body()

    driver.connection.responseCls = AnyVersion


def machine_id(provider_id: str) -> str:
    """aws:///eu-west-1a/i-1 -> i-1"""
    return provider_id.rsplit("/", 1)[-1]


def _construct(section: str, find: Callable[[str], Any], settings: dict[str, Any]) -> Any:
    kind = settings.get("driver")
    if not kind:
        raise ValueError(f"{section}.driver is missing")
    passed = {key: value for key, value in settings.items() if key not in ("driver", "args")}
    endpoint = {
        key: passed.pop(key) for key in ("host", "port", "secure") if section == "loadBalancer" and key in passed
    }
    try:
        driver = find(str(kind))(*settings.get("args", ()), **passed)
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{section}: {kind}: {error}") from error
    # Load balancer drivers know no endpoint but their cloud's own; a private cloud, or a test, has another.
    for key, value in endpoint.items():
        setattr(driver.connection, key, value)
    if endpoint:
        driver.connection.connect()
    return driver


def _names(machine: Any) -> set[str]:
    known = {machine.id, machine.name, *machine.private_ips, *machine.public_ips}
    for key in ("private_dns", "dns_name"):
        name = _extra(machine, key)
        known |= {name, name.split(".", 1)[0]}
    return known - {"", None}


def _zone(machine: Any) -> str:
    zone = _extra(machine, "availability", "zone", "availability_zone")
    return str(getattr(zone, "name", zone)).rsplit("/", 1)[-1]


def _region_of(zone: str) -> str:
    """eu-west-1a -> eu-west-1; europe-west1-b -> europe-west1"""
    return re.sub(r"(?<=\d)[a-z]$|-[a-z]$", "", zone)


def _extra(machine: Any, *keys: str) -> Any:
    return next((machine.extra[key] for key in keys if (machine.extra or {}).get(key)), "")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
