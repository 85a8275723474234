"""What a cloud has to offer: instances, load balancers, routes. The controllers know providers only through this page.

Every method may be called again at any moment and must converge. What cannot be done is a ProviderError, whose message
says what failed on which thing; it is shown in an Event and tried again later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tillerman.pb.k8s import core_v1_pb2 as core


class ProviderError(Exception):
    """The cloud refused or could not be reached."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine as the cloud knows it. addresses: pairs such as ("InternalIP", "10.0.0.1")."""

    provider_id: str
    type: str = ""
    zone: str = ""
    region: str = ""
    addresses: tuple[tuple[str, str], ...] = ()
    shutdown: bool = False
    labels: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Ingress:
    """Where a load balancer answers: an address or a host name. ip_mode "VIP": the nodes themselves answer on it."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Packets to `cidr` go to `node`; the name is the provider's, empty before it exists. `node` is empty when the
    target is no longer one of ours."""

    name: str
    node: str
    cidr: str


class Instances(Protocol):
    async def find(self, node: core.Node) -> Instance | None:
        """None when the cloud has no such machine."""
        ...


class LoadBalancers(Protocol):
    def name(self, service: core.Service) -> str:
        """What the load balancer of a Service is called in the cloud."""
        ...

    async def ensure(self, service: core.Service, nodes: Sequence[core.Node]) -> list[Ingress]:
        """Makes or updates the load balancer, with these nodes behind it."""
        ...

    async def delete(self, service: core.Service) -> None:
        """Leaves nothing of it; fine if there is nothing."""
        ...


class Routes(Protocol):
    async def list(self, nodes: Sequence[core.Node]) -> Sequence[Route]: ...

    async def create(self, node: core.Node, cidr: str) -> None: ...

    async def delete(self, route: Route) -> None: ...


class Provider(Protocol):
    """`load_balancers` and `routes` are None where the cloud has none, or needs none."""

    name: str
    instances: Instances
    load_balancers: LoadBalancers | None
    routes: Routes | None
    # Whether nodes without the "uninitialized" taint are set up too.
    adopts_all_nodes: bool


def load_balancer_name(service: core.Service) -> str:
    """Kubernetes' name: "a" and the uid's first 31 hex digits; what most clouds accept."""
    return ("a" + service.metadata.uid.replace("-", ""))[:32]
