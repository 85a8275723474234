"""The Libcloud provider against moto's EC2 and ELB server, over HTTP."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from services.cloud.libcloud_provider import LibcloudProvider, make_provider
from services.cloud.provider import Ingress, ProviderError
from tillerman.pb.k8s import core_v1_pb2 as core

pytest.importorskip("moto.server")
REGION = "eu-west-1"


@pytest.fixture(scope="module")
def moto_port() -> Iterator[int]:
    """A server on a port of its own choice, read from its start-up line."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield int(found[1])
                break
        else:
            pytest.fail("moto's server did not start")
    finally:
        process.terminate()
        process.wait(timeout=10)
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture
def settings(moto_port: int) -> dict[str, Any]:
    where = {"args": ["key", "secret"], "region": REGION, "host": "127.0.0.1", "port": moto_port, "secure": False}
    return {"compute": {"driver": "ec2", **where}, "loadBalancer": {"driver": "elb", **where}}


@pytest.fixture
def provider(settings: dict[str, Any]) -> LibcloudProvider:
    return make_provider(settings)


def driver_of(provider: LibcloudProvider) -> Any:
    """Libcloud's own driver, to act as the cloud's user."""
    return provider.instances._machines._compute.driver  # type: ignore[attr-defined]


def start_machine(driver: Any, name: str) -> Any:
    from libcloud.compute.base import NodeImage

    size = next(size for size in driver.list_sizes() if size.id == "t3.small")
    image = NodeImage(id="ami-12c6146b", name="image", driver=driver)
    return driver.create_node(name=name, image=image, size=size)


def node_of(machine: Any, name: str, *, provider_id: bool = False) -> core.Node:
    node = core.Node()
    node.metadata.name = name
    node.status.conditions.add(type="Ready", status="True")
    if provider_id:
        node.spec.providerID = f"aws:///{REGION}a/{machine.id}"
    for address in machine.private_ips:
        node.status.addresses.add(type="InternalIP", address=address)
    return node


def service_of(uid: str, *ports: tuple[int, int]) -> core.Service:
    service = core.Service()
    service.metadata.name, service.metadata.namespace, service.metadata.uid = "web", "default", uid
    service.spec.type = "LoadBalancer"
    for port, node_port in ports:
        service.spec.ports.add(name=f"p{port}", port=port, nodePort=node_port, protocol="TCP")
    return service


async def test_instances(provider: LibcloudProvider) -> None:
    driver = driver_of(provider)
    machine = await asyncio.to_thread(start_machine, driver, "worker-1")
    instance = await provider.instances.find(node_of(machine, "worker-1"))
    assert instance is not None
    assert instance.provider_id == f"aws:///{instance.zone}/{machine.id}"
    assert instance.type == "t3.small"
    assert instance.region == REGION and instance.zone.startswith(REGION)
    kinds = dict(instance.addresses)
    assert kinds["InternalIP"] in machine.private_ips
    assert kinds["Hostname"] == "worker-1"
    assert not instance.shutdown

    by_private_name = core.Node()
    by_private_name.metadata.name = kinds["InternalDNS"]
    found = await provider.instances.find(by_private_name)
    assert found is not None and found.provider_id == instance.provider_id


async def test_machines_stop_and_vanish(settings: dict[str, Any]) -> None:
    provider = make_provider(settings)
    driver = driver_of(provider)
    machine = await asyncio.to_thread(start_machine, driver, "worker-2")
    node = node_of(machine, "worker-2", provider_id=True)
    await asyncio.to_thread(driver.stop_node, machine)
    instance = await make_provider(settings).instances.find(node)
    assert instance is not None and instance.shutdown
    await asyncio.to_thread(driver.destroy_node, machine)
    assert await make_provider(settings).instances.find(node) is None


async def test_load_balancers(provider: LibcloudProvider) -> None:
    driver, balancers = driver_of(provider), provider.load_balancers
    assert balancers is not None
    machines = [await asyncio.to_thread(start_machine, driver, f"lb-{i}") for i in range(2)]
    nodes = [node_of(machine, f"lb-{i}", provider_id=True) for i, machine in enumerate(machines)]
    service = service_of("11111111-1111-1111-1111-111111111111", (80, 30080), (443, 30443))

    (ingress,) = await balancers.ensure(service, nodes)
    assert ingress.hostname.endswith("amazonaws.com")
    described = await describe(provider, service)
    assert described["listeners"] == {(80, 30080), (443, 30443)}
    assert described["machines"] == {machine.id for machine in machines}

    changed = service_of(service.metadata.uid, (80, 30081))
    assert await balancers.ensure(changed, nodes[:1]) == [ingress]
    described = await describe(provider, service)
    assert described["listeners"] == {(80, 30081)}
    assert described["machines"] == {machines[0].id}

    assert await balancers.ensure(changed, nodes[:1]) == [Ingress(hostname=ingress.hostname)]
    await balancers.delete(changed)
    assert await describe(provider, service) == {}
    await balancers.delete(changed)


async def describe(provider: LibcloudProvider, service: core.Service) -> dict[str, Any]:
    from services.cloud.libcloud_balancers import ELB_NAMESPACE, _Elb, _text

    assert provider.load_balancers is not None
    name = provider.load_balancers.name(service)
    element = await provider.load_balancers._driver.call(  # type: ignore[attr-defined]
        "look", lambda driver: _Elb(driver).describe(name)
    )
    if element is None:
        return {}
    return {
        "listeners": {
            (int(_text(e, "LoadBalancerPort")), int(_text(e, "InstancePort")))
            for e in element.findall(f".//{ELB_NAMESPACE}Listener")
        },
        "machines": {e.text for e in element.findall(f".//{ELB_NAMESPACE}InstanceId")},
    }


async def test_routes(settings: dict[str, Any]) -> None:
    driver = driver_of(make_provider(settings))

    def table() -> str:
        network = driver.ex_create_network("10.99.0.0/16")
        return str(driver.ex_create_route_table(network).id)

    provider = make_provider({**settings, "routeTable": await asyncio.to_thread(table)})
    assert provider.routes is not None
    machine = await asyncio.to_thread(start_machine, driver, "routed")
    node = node_of(machine, "routed", provider_id=True)
    assert list(await provider.routes.list([node])) == []
    await provider.routes.create(node, "10.244.3.0/24")
    await provider.routes.create(node, "10.244.3.0/24")
    (route,) = await provider.routes.list([node])
    assert (route.node, route.cidr) == ("routed", "10.244.3.0/24")
    await provider.routes.delete(route)
    assert list(await provider.routes.list([node])) == []


async def test_a_cloud_that_is_away_is_named(settings: dict[str, Any]) -> None:
    compute = {**settings["compute"], "host": "127.0.0.1", "port": 1}
    provider = make_provider({"compute": compute})
    with pytest.raises(ProviderError, match="cannot list machines"):
        await provider.instances.find(core.Node())


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ValueError, match="compute"):
        make_provider({"compute": {"driver": "no-such-cloud"}})
    with pytest.raises(ValueError, match="region"):
        make_provider({"compute": {"driver": "ec2", "args": ["k", "s"], "region": "mars-1"}})
