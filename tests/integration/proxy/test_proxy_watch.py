"""The sync loop and the DNS publisher against a real apiserver; the backend only notes what it is told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.proxy.dns.publish import Publisher
from services.proxy.model import PortKey
from services.proxy.watch import ServiceWatch
from tillerman.client.informer import InformerFactory
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery


class Notebook:
    """A backend that keeps the state it was told; `failures` syncs fail first."""

    mode = "notebook"

    def __init__(self) -> None:
        self.ports: dict = {}
        self.syncs = 0
        self.failures = 0

    async def sync(self, changes) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("the kernel is busy")
        self.syncs += 1
        for key, port in changes.items():
            self.ports.pop(key, None)
            if port is not None:
                self.ports[key] = port

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Loop:
    def __init__(self, watch: ServiceWatch, backend: Notebook) -> None:
        self.watch = watch
        self.backend = backend

    async def until(self, condition) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - state is polled, as a user would
                await asyncio.sleep(0.005)

    def targets(self, name: str) -> tuple | None:
        port = self.backend.ports.get(PortKey("default", name, "", "TCP"))
        return None if port is None else port.targets


@pytest.fixture
async def loop(client) -> AsyncIterator[Loop]:
    factory = InformerFactory(client)
    backend = Notebook()
    watch = ServiceWatch(factory, on_service=lambda key: None)
    group = asyncio.TaskGroup()
    async with group:
        await factory.start(group)
        sync = group.create_task(watch.run(backend))
        await asyncio.wait_for(watch.synced.wait(), 10)
        yield Loop(watch, backend)
        sync.cancel()
        for task in list(group._tasks):
            task.cancel()


def service(name: str, **spec) -> core.Service:
    made = core.Service(spec=core.ServiceSpec(**spec))
    made.metadata.name, made.metadata.namespace = name, "default"
    made.spec.ports.add(port=80, protocol="TCP")
    return made


def endpoints(name: str, service: str, *addresses: str) -> discovery.EndpointSlice:
    made = discovery.EndpointSlice(addressType="IPv4")
    made.metadata.name, made.metadata.namespace = name, "default"
    made.metadata.labels["kubernetes.io/service-name"] = service
    made.ports.add(name="", protocol="TCP", port=8080)
    for address in addresses:
        made.endpoints.add(addresses=[address]).conditions.ready = True
    return made


async def test_services_and_slices_become_rules_and_go_with_them(client, loop):
    services, slices = client.resource(core.Service), client.resource(discovery.EndpointSlice)
    await services.create(service("web"))
    await loop.until(lambda: loop.targets("web") == ())
    one = await slices.create(endpoints("web-1", "web", "10.0.0.1"))
    await slices.create(endpoints("web-2", "web", "10.0.0.2"))
    await loop.until(lambda: loop.targets("web") == (("10.0.0.1", 8080), ("10.0.0.2", 8080)))
    one.endpoints[0].conditions.ready = False
    await slices.update(one)
    await loop.until(lambda: loop.targets("web") == (("10.0.0.2", 8080),))
    await slices.delete("web-2", "default")
    await loop.until(lambda: loop.targets("web") == ())
    await services.delete("web", "default")
    await loop.until(lambda: loop.targets("web") is None)
    assert not any(key.service == "web" for key in loop.watch.ports)
    await slices.delete("web-1", "default")


async def test_a_failed_sync_is_tried_again(client, loop):
    loop.backend.failures = 2
    await client.resource(core.Service).create(service("again"))
    await loop.until(lambda: loop.targets("again") == ())
    assert loop.backend.failures == 0
    await client.resource(core.Service).delete("again", "default")


async def test_a_burst_of_changes_takes_few_syncs(client, loop):
    services = client.resource(core.Service)
    before = loop.backend.syncs
    await asyncio.gather(*[services.create(service(f"burst-{i}")) for i in range(60)])
    await loop.until(lambda: all(loop.targets(f"burst-{i}") == () for i in range(60)))
    assert loop.backend.syncs - before < 45
    await asyncio.gather(*[services.delete(f"burst-{i}", "default") for i in range(60)])


async def test_cluster_dns_is_published_and_follows_its_server(client, loop):
    where = ["127.0.0.1", 5353]
    publisher = Publisher(client, loop.watch, cluster_ip="10.96.0.10", where=lambda: tuple(where))
    task = asyncio.get_running_loop().create_task(publisher.run())

    def published() -> list:
        return [
            (list(e.addresses), p.port)
            for s in loop.watch.slices_of("kube-system/kube-dns")
            for e in s.endpoints
            for p in s.ports
        ]

    await loop.until(lambda: published() == [(["127.0.0.1"], 5353)] * 2)
    assert loop.watch.services.get("kube-system/kube-dns").spec.clusterIP == "10.96.0.10"
    task.cancel()
    where[:] = ["127.0.0.2", 53]
    moved = asyncio.get_running_loop().create_task(publisher.run())
    await loop.until(lambda: published() == [(["127.0.0.2"], 53)] * 2)
    moved.cancel()
    await asyncio.gather(task, moved, return_exceptions=True)
