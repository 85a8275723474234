"""The kernel's data path as the proxy programs it, with pods as network namespaces."""

import asyncio
import ipaddress
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable

import pytest

from services.proxy.model import PortKey, ServicePort
from services.proxy.nft.backend import NftablesBackend, remove_table
from services.proxy.nft.layout import TableOptions

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and nftables need root")

VIP = "10.95.0.10"
OTHER_VIP = "10.95.0.11"
NODE_PORT = 31080
TABLE = "tillerman-test"


def service(
    pods: Iterable, *, name="web", vip=VIP, protocol="TCP", node_port=0, affinity=0, outside=None, remote=(), ips=()
) -> ServicePort:
    targets = tuple((p.address, 8080) for p in pods)
    return ServicePort(
        key=PortKey("default", name, "", protocol),
        cluster_ips=(vip,),
        port=80,
        node_port=node_port,
        external_ips=tuple(ips),
        affinity_seconds=affinity,
        external_local=outside is not None,
        targets=targets,
        outside_targets=targets if outside is None else tuple((p.address, 8080) for p in outside),
        remote=frozenset(remote),
    )


def backend_of(machine) -> NftablesBackend:
    options = TableOptions(TABLE, ipaddress.IPv4Network("10.231.0.0/16"), masquerade_pods=not machine.bridge_netfilter)
    with machine.host.inside():
        return NftablesBackend(options)


@pytest.fixture
async def backend(machine):
    made = backend_of(machine)
    await made.sync({})
    yield made
    await made.close()


async def put(backend, *ports: ServicePort) -> None:
    await backend.sync({p.key: p for p in ports})


async def test_connections_are_spread_evenly(machine, backend):
    pods = await machine.pods(3)
    await put(backend, service(pods))
    for client in (machine.host, pods[0]):
        answers = Counter([(await client.ask(VIP, 80)).split()[0] for _ in range(300)])
        assert set(answers) == {"2", "3", "4"}
        assert all(80 <= n <= 120 for n in answers.values()), answers


async def test_services_called_in_turn_do_not_starve_each_others_endpoints(machine, backend):
    pods = await machine.pods(2)
    await put(backend, service(pods), service(pods, name="api", vip=OTHER_VIP))
    answers = Counter()
    for _ in range(40):
        answers[VIP, (await machine.host.ask(VIP, 80)).split()[0]] += 1
        answers[OTHER_VIP, (await machine.host.ask(OTHER_VIP, 80)).split()[0]] += 1
    assert len(answers) == 4 and set(answers.values()) == {20}, answers


async def test_a_pod_reaches_itself_through_its_service(machine, backend):
    (pod,) = await machine.pods(1)
    await put(backend, service([pod]))
    assert await pod.ask(VIP, 80) == "2 10.231.0.1"


async def test_pods_see_each_others_addresses(machine, backend):
    one, two = await machine.pods(2)
    await put(backend, service([two]))
    seen = (await one.ask(VIP, 80)).split()[1]
    assert seen == (one.address if machine.bridge_netfilter else "10.231.0.1")


async def test_without_endpoints_connections_are_refused(machine, backend):
    (pod,) = await machine.pods(1)
    await put(backend, service([], node_port=NODE_PORT))
    for client in (machine.host, pod, machine.outside):
        with pytest.raises(ConnectionRefusedError):
            await client.ask(VIP, 80)
    with pytest.raises(ConnectionRefusedError):
        await machine.outside.ask(machine.host.address, NODE_PORT)


async def test_a_port_that_the_service_lacks_is_refused(machine, backend):
    (pod,) = await machine.pods(1)
    await put(backend, service([pod]))
    for client in (machine.host, pod):
        with pytest.raises(ConnectionRefusedError):
            await client.ask(VIP, 81)


async def test_node_ports_answer_on_every_address_of_the_machine(machine, backend):
    pods = await machine.pods(2)
    await put(backend, service(pods, node_port=NODE_PORT))
    assert (await machine.outside.ask(machine.host.address, NODE_PORT)).split()[1] == machine.outside.address
    for address in (machine.host.address, "127.0.0.1", "10.231.0.1"):
        assert (await machine.host.ask(address, NODE_PORT)).split()[0] in "23"
    assert (await pods[0].ask("10.231.0.1", NODE_PORT)).split()[0] in "23"


async def test_far_endpoints_get_outside_traffic_masqueraded(machine, backend):
    (pod,) = await machine.pods(1)
    await put(backend, service([pod], node_port=NODE_PORT, remote=[pod.address]))
    assert await machine.outside.ask(machine.host.address, NODE_PORT) == "2 10.231.0.1"


async def test_external_traffic_policy_local(machine, backend):
    near, far = await machine.pods(2)
    await put(
        backend, service([near, far], node_port=NODE_PORT, outside=[near], remote=[far.address], ips=["10.96.1.1"])
    )
    for address, port in ((machine.host.address, NODE_PORT), ("10.96.1.1", 80)):
        seen = {await machine.outside.ask(address, port) for _ in range(6)}
        assert seen == {f"2 {machine.outside.address}"}
    assert {(await machine.host.ask(VIP, 80)).split()[0] for _ in range(6)} == {"2", "3"}
    await put(backend, service([near, far], node_port=NODE_PORT, outside=[], remote=[near.address, far.address]))
    with pytest.raises(TimeoutError):
        await machine.outside.ask(machine.host.address, NODE_PORT, seconds=0.3)
    assert (await machine.host.ask(machine.host.address, NODE_PORT)).split()[0] in "23"


async def test_client_affinity_holds_until_the_endpoint_goes(machine, backend):
    pods = await machine.pods(3)
    await put(backend, service(pods, affinity=100, node_port=NODE_PORT))
    for client, address, port in ((pods[0], VIP, 80), (machine.outside, machine.host.address, NODE_PORT)):
        first = {(await client.ask(address, port)).split()[0] for _ in range(10)}
        assert len(first) == 1
        left = [p for p in pods if p.address.rpartition(".")[2] not in first]
        await put(backend, service(left, affinity=100, node_port=NODE_PORT))
        second = {(await client.ask(address, port)).split()[0] for _ in range(10)}
        assert len(second) == 1 and second != first
        await put(backend, service(pods, affinity=100, node_port=NODE_PORT))
        assert {(await client.ask(address, port)).split()[0] for _ in range(10)} == second


async def test_client_affinity_ends_with_its_timeout(machine, backend):
    pods = await machine.pods(3)
    await put(backend, service(pods, affinity=1))
    first = await machine.host.ask(VIP, 80)
    assert await machine.host.ask(VIP, 80) == first
    await asyncio.sleep(1.3)
    assert len({await machine.host.ask(VIP, 80)} | {first}) == 2


class Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data, address) -> None:
        self._transport.sendto(self._name.encode(), address)


async def test_udp_clients_leave_endpoints_that_are_gone(machine, backend):
    loop = asyncio.get_running_loop()
    pods = await machine.pods(2)
    transports = []
    for pod in pods:
        listener = pod.socket(socket.SOCK_DGRAM)
        listener.bind(("0.0.0.0", 8080))
        transports.append((await loop.create_datagram_endpoint(lambda pod=pod: Echo(pod.address), sock=listener))[0])
    await put(backend, service(pods, protocol="UDP"))
    with machine.host.socket(socket.SOCK_DGRAM) as client:
        client.bind(("0.0.0.0", 40000))
        client.connect((VIP, 80))

        async def ask() -> str:
            async with asyncio.timeout(2):
                await loop.sock_sendall(client, b"?")
                return (await loop.sock_recv(client, 100)).decode()

        first = await ask()
        assert await ask() == first
        left = [p for p in pods if p.address != first]
        await put(backend, service(left, protocol="UDP"))
        assert await ask() == left[0].address
    for transport in transports:
        transport.close()


async def test_no_connection_fails_while_endpoints_change_and_the_proxy_restarts(machine, backend):
    pods = await machine.pods(4)
    await put(backend, service(pods[:2]))
    stop = asyncio.Event()

    async def load() -> int:
        done = 0
        while not stop.is_set():
            await machine.host.ask(VIP, 80)
            done += 1
        return done

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(load()) for _ in range(4)]
        for i in range(60):
            await put(backend, service(pods[i % 3 : i % 3 + 2]))
            await asyncio.sleep(0.005)
        for _ in range(5):
            successor = backend_of(machine)
            await put(successor, service(pods[:3]))
            await successor.close()
            await asyncio.sleep(0.02)
        stop.set()
    assert sum(task.result() for task in clients) > 100


async def test_updates_stay_fast_with_thousands_of_services(machine, backend):
    (pod,) = await machine.pods(1)
    many = [service([pod], name=f"s{i}", vip=f"10.95.{1 + i // 250}.{1 + i % 250}") for i in range(3000)]
    await put(backend, *many)
    took = []
    for i in range(50):
        began = time.perf_counter()
        await put(backend, service([] if i % 2 else [pod], name="s7", vip=many[7].cluster_ips[0]))
        took.append(time.perf_counter() - began)
    assert sorted(took)[-2] < 0.05, took


async def test_the_table_is_put_back_and_can_be_removed(machine, backend):
    (pod,) = await machine.pods(1)
    await put(backend, service([pod], affinity=5, node_port=NODE_PORT))
    with machine.host.inside():
        assert remove_table(TABLE)
        assert not remove_table(TABLE)
    await backend.check()
    assert await machine.host.ask(VIP, 80)
    listed = machine.nft_ruleset()
    assert f"table ip {TABLE}" in listed
    # A fixed number of maps, however many Services.
    assert listed.count("\tmap ") + listed.count("\tset ") == 10
    with machine.host.inside():
        assert remove_table(TABLE)
    assert not machine.nft_ruleset()
