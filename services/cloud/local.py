"""The provider of a laptop: nodes are processes of this machine, a load balancer is an address the proxy answers on.

Addresses come from a pool beside the Service range, so they are reachable exactly where ClusterIPs are: see
docs/decisions on load balancer addresses. What is in use is read from the Services' own status: nothing is kept here
but the addresses given out since.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence

from services.cloud.provider import (
    Ingress,
    Instance,
    Instances,
    LoadBalancers,
    ProviderError,
    Routes,
    load_balancer_name,
)
from tillerman.pb.k8s import core_v1_pb2 as core

REGION = "local"
ZONE = "local-a"
INSTANCE_TYPE = "local"

# The pool of a cluster lies so many /16 networks above its Service range.
POOL_DISTANCE = 24
POOL_PREFIX = 24


def pool_beside(cluster_ip: str) -> ipaddress.IPv4Network:
    """10.96.0.1 -> 10.120.0.0/24. Clusters of one machine have different /16 Service ranges, hence different pools.
    Raises ValueError for what is no IPv4 address, or has no room above it."""
    address = ipaddress.IPv4Address(cluster_ip)
    octets = address.packed
    if octets[1] + POOL_DISTANCE > 255:
        raise ValueError(f"no room for a pool above {cluster_ip}")
    return ipaddress.IPv4Network((bytes((octets[0], octets[1] + POOL_DISTANCE, 0, 0)), POOL_PREFIX))


class LocalInstances:
    """Every node exists and runs: its machine is this one. `default_address` is for nodes that report none."""

    def __init__(self, *, default_address: str = "127.0.0.1") -> None:
        self._default_address = default_address

    async def find(self, node: core.Node) -> Instance | None:
        name = node.metadata.name
        internal = [a.address for a in node.status.addresses if a.type == "InternalIP"] or [self._default_address]
        others = [(a.type, a.address) for a in node.status.addresses if a.type not in ("InternalIP", "Hostname")]
        addresses = [("InternalIP", address) for address in internal] + [("Hostname", name)] + others
        return Instance(f"local://{name}", INSTANCE_TYPE, ZONE, REGION, tuple(addresses))


class LocalLoadBalancers:
    """One address per Service. `services` lists all there are; `pool` is asked when the first address is needed."""

    def __init__(
        self,
        *,
        services: Callable[[], Iterable[core.Service]],
        pool: Callable[[], ipaddress.IPv4Network],
    ) -> None:
        self._services = services
        self._pool = pool
        self._given: dict[str, str] = {}

    def name(self, service: core.Service) -> str:
        return load_balancer_name(service)

    async def ensure(self, service: core.Service, nodes: Sequence[core.Node]) -> list[Ingress]:
        """An address stays its Service's own. Raises ProviderError when the wanted one is taken, or none is left."""
        uid, pool = service.metadata.uid, self._pool()
        taken = self._taken(uid)
        wanted = service.spec.loadBalancerIP
        if wanted:
            self._check(wanted, pool, taken)
            address = wanted
        else:
            present = [i.ip for i in service.status.loadBalancer.ingress] + [self._given.get(uid, "")]
            address = next((ip for ip in present if ip and _inside(ip, pool) and ip not in taken), "")
            if not address:
                free = (str(host) for host in pool.hosts() if str(host) not in taken)
                address = next(free, "")
            if not address:
                raise ProviderError(f"no address is left in {pool}; delete a Service or widen --load-balancer-pool")
        self._given[uid] = address
        return [Ingress(ip=address, ip_mode="VIP")]

    async def delete(self, service: core.Service) -> None:
        self._given.pop(service.metadata.uid, None)

    def _taken(self, uid: str) -> set[str]:
        taken = {address for owner, address in self._given.items() if owner != uid}
        for other in self._services():
            if other.metadata.uid != uid:
                taken.update(ingress.ip for ingress in other.status.loadBalancer.ingress)
        return taken

    @staticmethod
    def _check(wanted: str, pool: ipaddress.IPv4Network, taken: set[str]) -> None:
        if not _inside(wanted, pool):
            raise ProviderError(f'spec.loadBalancerIP "{wanted}" is not in the pool {pool}')
        if wanted in taken:
            raise ProviderError(f'spec.loadBalancerIP "{wanted}" belongs to another Service')


class LocalProvider:
    name = "local"
    adopts_all_nodes = True

    def __init__(self, instances: LocalInstances, load_balancers: LocalLoadBalancers) -> None:
        self.instances: Instances = instances
        self.load_balancers: LoadBalancers | None = load_balancers
        self.routes: Routes | None = None


def _inside(address: str, pool: ipaddress.IPv4Network) -> bool:
    try:
        return ipaddress.IPv4Address(address) in pool
    except ValueError:
        return False
