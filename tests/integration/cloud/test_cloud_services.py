"""The cloud controller manager with the local provider, over a real apiserver and etcd."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from services.cloud.controllers.context import Context
from services.cloud.controllers.nodes import SHUTDOWN, NodeController
from services.cloud.controllers.routes import TABLE, RouteController
from services.cloud.manager import Manager
from services.cloud.options import CloudOptions
from services.cloud.provider import Instance, ProviderError, Route
from services.cloud.servicer import CloudServicer
from tillerman.api.status import is_not_found
from tillerman.client import Client
from tillerman.client.clock import RealClock
from tillerman.client.events import EventRecorder
from tillerman.client.informer import InformerFactory
from tillerman.pb.api import cloud_pb2 as pb
from tillerman.pb.k8s import core_v1_pb2 as core


@contextlib.asynccontextmanager
async def managing(client: Client) -> AsyncIterator[Manager]:
    options = CloudOptions(leader_elect=False, insecure=True)
    manager = Manager(client=client, clock=RealClock(), options=options, identity="test")
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[Any]] = []

        async def life() -> None:
            async with asyncio.TaskGroup() as inner:
                await manager.start(inner)

        tasks.append(group.create_task(life()))
        yield manager
        await manager.recorder.flush()
        for task in tasks:
            task.cancel()


async def eventually(check: Callable[[], Awaitable[Any]], seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = await check()
        if found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.005)


def balanced(name: str) -> core.Service:
    service = core.Service()
    service.metadata.name, service.metadata.namespace = name, "default"
    service.spec.type = "LoadBalancer"
    service.spec.selector["app"] = name
    service.spec.ports.add(port=80, protocol="TCP")
    return service


async def address_of(client: Client, name: str) -> str:
    service = await client.resource(core.Service).get(name, "default")
    return ",".join(ingress.ip for ingress in service.status.loadBalancer.ingress)


async def events_of(client: Client, name: str) -> list[tuple[str, int]]:
    events = (await client.resource(core.Event).list("default")).items
    return [(e.reason, e.count) for e in events if e.involvedObject.name == name]


async def test_load_balancers_come_and_go(client: Client) -> None:
    services = client.resource(core.Service)
    async with managing(client) as manager:
        await services.create(balanced("one"))
        await services.create(balanced("two"))
        one = await eventually(lambda: address_of(client, "one"))
        two = await eventually(lambda: address_of(client, "two"))
        assert {one, two} == {"10.120.0.1", "10.120.0.2"}
        told = await CloudServicer(manager.context, manager.balanced_nodes).LoadBalancers(
            pb.LoadBalancersRequest(), None
        )
        assert {(lb.service, *lb.ingress) for lb in told.load_balancers} >= {("one", one), ("two", two)}

        await services.patch("two", "default", {"spec": {"type": "ClusterIP"}})

        async def released() -> bool:
            service = await services.get("two", "default")
            return not service.status.loadBalancer.ingress and not service.metadata.finalizers

        assert await eventually(released)
        await services.delete("one", "default")

        async def gone() -> bool:
            try:
                await services.get("one", "default")
            except Exception as error:
                return is_not_found(error)
            return False

        assert await eventually(gone)

        # The last one is told once the Service is gone.
        async def told_all() -> bool:
            return len(await events_of(client, "one")) == 4

        assert await eventually(told_all)
    assert sorted(await events_of(client, "one")) == [
        ("DeletedLoadBalancer", 1),
        ("DeletingLoadBalancer", 1),
        ("EnsuredLoadBalancer", 1),
        ("EnsuringLoadBalancer", 1),
    ]


async def test_addresses_survive_a_restart(client: Client) -> None:
    services = client.resource(core.Service)
    async with managing(client):
        await services.create(balanced("kept"))
        kept = await eventually(lambda: address_of(client, "kept"))
    await services.create(balanced("added"))
    async with managing(client):
        added = await eventually(lambda: address_of(client, "added"))
    assert added and added != kept
    assert await address_of(client, "kept") == kept
    assert ("EnsuringLoadBalancer", 1) in await events_of(client, "kept")


async def test_a_wish_that_cannot_be_granted_is_told(client: Client) -> None:
    async with managing(client):
        service = balanced("wishful")
        service.spec.loadBalancerIP = "192.0.2.1"
        await client.resource(core.Service).create(service)

        async def told() -> bool:
            return any(reason == "SyncLoadBalancerFailed" for reason, _ in await events_of(client, "wishful"))

        assert await eventually(told)


async def test_nodes_are_set_up(client: Client) -> None:
    nodes = client.resource(core.Node)
    node = core.Node()
    node.metadata.name = "fresh"
    node.spec.taints.add(key="node.cloudprovider.kubernetes.io/uninitialized", value="true", effect="NoSchedule")
    node.spec.taints.add(key="kept", effect="NoSchedule")
    async with managing(client):
        await nodes.create(node)

        async def done() -> core.Node | None:
            found = await nodes.get("fresh")
            return found if found.spec.providerID and found.status.addresses else None

        found = await eventually(done)
    assert found.spec.providerID == "local://fresh"
    assert "node.cloudprovider.kubernetes.io/uninitialized" not in {t.key for t in found.spec.taints}
    assert "kept" in {t.key for t in found.spec.taints}
    assert found.metadata.labels["topology.kubernetes.io/zone"] == "local-a"


class StubCloud:
    """A cloud in a dictionary."""

    name = "stub"
    adopts_all_nodes = False
    load_balancers = None

    def __init__(self) -> None:
        self.machines: dict[str, Instance] = {}
        self.table: dict[str, str] = {}
        self.broken: set[str] = set()
        self.instances = self
        self.routes = self

    async def find(self, node: core.Node) -> Instance | None:
        return self.machines.get(node.metadata.name)

    async def list(self, nodes: Sequence[core.Node]) -> list[Route]:
        return [Route(cidr, name, cidr) for cidr, name in self.table.items()]

    async def create(self, node: core.Node, cidr: str) -> None:
        if node.metadata.name in self.broken:
            raise ProviderError("the table is full")
        self.table[cidr] = node.metadata.name

    async def delete(self, route: Route) -> None:
        del self.table[route.cidr]


@contextlib.asynccontextmanager
async def stubbed(client: Client, cloud: StubCloud) -> AsyncIterator[Context]:
    informers = InformerFactory(client)
    nodes, services = informers.informer(core.Node), informers.informer(core.Service)
    recorder = EventRecorder(client, "test")
    context = Context(
        client=client, provider=cloud, nodes=nodes, services=services, recorder=recorder, clock=RealClock()
    )
    async with asyncio.TaskGroup() as group:

        async def inform() -> None:
            async with asyncio.TaskGroup() as inner:
                await informers.start(inner)

        task = group.create_task(inform())
        await nodes.synced.wait()
        await services.synced.wait()
        yield context
        task.cancel()


async def make_ready(client: Client, name: str, ready: str) -> None:
    condition = {"type": "Ready", "status": ready, "reason": "Test"}
    patch = {"status": {"conditions": [condition]}}
    await client.resource(core.Node).patch(name, None, patch, type="strategic", subresource="status")


async def test_machines_that_stop_and_vanish(client: Client) -> None:
    cloud = StubCloud()
    cloud.machines["m1"] = Instance("stub:///m1")
    nodes = client.resource(core.Node)
    node = core.Node()
    node.metadata.name, node.spec.providerID = "m1", "stub:///m1"
    async with stubbed(client, cloud) as context:
        controller = NodeController(context)
        await nodes.create(node)
        await make_ready(client, "m1", "Unknown")

        async def seen(check: Callable[[core.Node], bool]) -> bool:
            found = context.nodes.get("m1")
            return found is not None and check(found)

        def tainted(node: core.Node) -> bool:
            return any(taint.key == SHUTDOWN for taint in node.spec.taints)

        assert await eventually(lambda: seen(lambda n: any(c.status == "Unknown" for c in n.status.conditions)))
        cloud.machines["m1"] = Instance("stub:///m1", shutdown=True)
        assert await controller.reconcile("m1") == 5.0
        assert await eventually(lambda: seen(tainted))
        cloud.machines["m1"] = Instance("stub:///m1")
        await controller.reconcile("m1")
        assert await eventually(lambda: seen(lambda n: not tainted(n)))
        del cloud.machines["m1"]
        await controller.reconcile("m1")

        async def gone() -> bool:
            return context.nodes.get("m1") is None

        assert await eventually(gone)


async def test_routes_follow_the_nodes(client: Client) -> None:
    cloud = StubCloud()
    cloud.table = {"10.244.9.0/24": "", "172.16.0.0/16": ""}
    nodes = client.resource(core.Node)
    async with stubbed(client, cloud) as context:
        controller = RouteController(context, cloud, cluster_cidr="10.244.0.0/16")
        for number in (1, 2):
            node = core.Node()
            node.metadata.name, node.spec.podCIDR = f"r{number}", f"10.244.{number}.0/24"
            node.spec.podCIDRs.append(node.spec.podCIDR)
            await nodes.create(node)

        async def known() -> bool:
            return all(context.nodes.get(f"r{number}") for number in (1, 2))

        assert await eventually(known)
        cloud.broken = {"r2"}
        try:
            await controller.reconcile(TABLE)
            raise AssertionError("a route that cannot be made is tried again")
        except ProviderError as error:
            assert "the table is full" in str(error)
        assert cloud.table == {"10.244.1.0/24": "r1", "172.16.0.0/16": ""}

        async def conditions() -> dict[str, str]:
            found = [await nodes.get(f"r{number}") for number in (1, 2)]
            return {
                n.metadata.name: c.status for n in found for c in n.status.conditions if c.type == "NetworkUnavailable"
            }

        assert await conditions() == {"r1": "False", "r2": "True"}
        cloud.broken = set()

        async def caught_up() -> bool:
            found = context.nodes.get("r2")
            return found is not None and any(c.type == "NetworkUnavailable" for c in found.status.conditions)

        assert await eventually(caught_up)
        await controller.reconcile(TABLE)
        assert await conditions() == {"r1": "False", "r2": "False"}
