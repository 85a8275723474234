"""The manager: chooses the provider, constructs the controllers over it, and runs them while this process leads."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from services.cloud.controllers.context import Context
from services.cloud.controllers.load_balancers import ServiceController
from services.cloud.controllers.nodes import NodeController
from services.cloud.controllers.routes import RouteController
from services.cloud.local import LocalInstances, LocalLoadBalancers, LocalProvider, pool_beside
from services.cloud.options import CloudOptions
from services.cloud.provider import Provider, ProviderError
from tillerman.client.client import Client
from tillerman.client.clock import Clock
from tillerman.client.events import EventRecorder
from tillerman.client.informer import Informer, InformerFactory
from tillerman.client.leader import LeaderElector
from tillerman.client.workqueue import WorkQueue, run_workers
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.service.options import OptionsError

LEASE_NAME = "cloud-controller-manager"
WORKERS = 4


class Manager:
    """Informers run from the start; the controllers only while leading."""

    def __init__(self, *, client: Client, clock: Clock, options: CloudOptions, identity: str) -> None:
        self.informers = InformerFactory(client, clock=clock)
        nodes, services = self.informers.informer(core.Node), self.informers.informer(core.Service)
        self.recorder = EventRecorder(client, LEASE_NAME, clock=clock)
        self.context = Context(
            client=client,
            provider=make_provider(options, services),
            nodes=nodes,
            services=services,
            recorder=self.recorder,
            clock=clock,
        )
        provider = self.context.provider
        self.nodes = NodeController(self.context)
        self.services = None
        if provider.load_balancers is not None:
            self.services = ServiceController(self.context, provider.load_balancers)
        self.routes = None
        if provider.routes is not None and options.configure_cloud_routes:
            self.routes = RouteController(self.context, provider.routes, cluster_cidr=options.cluster_cidr)
        self._elector = None
        if options.leader_elect:
            self._elector = LeaderElector(
                client,
                LEASE_NAME,
                identity=identity,
                lease_seconds=options.leader_elect_lease_duration,
                renew=options.leader_elect_renew_deadline,
                retry=options.leader_elect_retry_period,
                clock=clock,
            )

    async def start(self, group: asyncio.TaskGroup) -> None:
        await self.informers.start(group)
        group.create_task(self.recorder.run(), name="event-recorder")
        work = self._work() if self._elector is None else self._elector.run(self._work)
        group.create_task(work, name="cloud-controllers")

    def balanced_nodes(self) -> list[core.Node]:
        return self.services.nodes() if self.services is not None else []

    async def _work(self) -> None:
        await self.informers.wait_synced()
        async with asyncio.TaskGroup() as group:
            for controller in (self.nodes, self.services, self.routes):
                if controller is not None:
                    work = run_workers(
                        controller.queue, _quietly(controller.queue, controller.reconcile), workers=WORKERS
                    )
                    group.create_task(work, name=controller.name)


def _quietly(
    queue: WorkQueue, reconcile: Callable[[str], Awaitable[float | None]]
) -> Callable[[str], Awaitable[float | None]]:
    """A cloud that refuses is part of life: no traceback, but the back-off of any failure."""

    async def guarded(key: str) -> float | None:
        try:
            return await reconcile(key)
        except ProviderError as error:
            from tillerman.api.status import service_unavailable

            raise service_unavailable(str(error)) from error

    return guarded


def make_provider(options: CloudOptions, services: Informer[core.Service]) -> Provider:
    """Raises OptionsError when the provider's settings cannot be used."""
    if options.cloud_provider == "libcloud":
        from services.cloud.libcloud_provider import load_provider

        assert options.cloud_config is not None
        try:
            provider: Any = load_provider(options.cloud_config)
        except (OSError, ValueError) as error:
            raise OptionsError(f"--cloud-config: {error}") from error
        made: Provider = provider
        return made
    return LocalProvider(
        LocalInstances(), LocalLoadBalancers(services=services.list, pool=_pool(options.load_balancer_pool, services))
    )


def _pool(configured: str, services: Informer[core.Service]) -> Callable[[], ipaddress.IPv4Network]:
    if configured:
        try:
            network = ipaddress.IPv4Network(configured)
        except ValueError as error:
            raise OptionsError(f"--load-balancer-pool: {error}") from error
        return lambda: network

    def beside_services() -> ipaddress.IPv4Network:
        kubernetes = services.get("default/kubernetes")
        if kubernetes is None or not kubernetes.spec.clusterIP:
            raise ProviderError("the Service default/kubernetes, which tells the Service range, does not exist yet")
        try:
            return pool_beside(kubernetes.spec.clusterIP)
        except ValueError as error:
            raise ProviderError(f"{error}; set --load-balancer-pool") from error

    return beside_services
