"""The cloud controller manager with the local provider, over a real apiserver and etcd."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from services.cloud.manager import Manager
from services.cloud.options import CloudOptions
from services.cloud.servicer import CloudServicer
from tillerman.api.status import is_not_found
from tillerman.client import Client
from tillerman.client.clock import RealClock
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
