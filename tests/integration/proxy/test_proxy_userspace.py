"""The userspace proxy on loopback addresses: real sockets, no privilege."""

import asyncio
import socket
from collections import Counter

import pytest

from services.proxy.model import PortKey, ServicePort
from services.proxy.userspace.backend import UserspaceBackend

VIP = "127.98.0.5"


class Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data, address) -> None:
        self._transport.sendto(self._name.encode(), address)


class Pods:
    """Servers on 127.98.1.N:8080, each answering with its number; `gate` holds back those who echo streams."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []

    async def start(self, number: int, handle=None) -> tuple[str, int]:
        async def name(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(str(number).encode())
            writer.close()

        server = await asyncio.start_server(handle or name, f"127.98.1.{number}", 0)
        self._servers.append(server)
        return server.sockets[0].getsockname()

    def close(self) -> None:
        for server in self._servers:
            server.close()


@pytest.fixture
def pods():
    made = Pods()
    yield made
    made.close()


@pytest.fixture
def reports():
    return []


@pytest.fixture
async def backend(reports):
    made = UserspaceBackend(node_addresses=list, report=lambda key, reason, message: reports.append((reason, message)))
    yield made
    await made.close()


@pytest.fixture
def number() -> int:
    with socket.socket() as probe:
        probe.bind((VIP, 0))
        return probe.getsockname()[1]


def service(number: int, *targets, protocol="TCP", vip=VIP, **fields) -> ServicePort:
    return ServicePort(PortKey("default", "web", "", protocol), (vip,), number, targets=tuple(targets), **fields)


async def put(backend, *ports) -> None:
    await backend.sync({p.key: p for p in ports})


async def ask(number: int, *, address: str = VIP) -> str:
    async with asyncio.timeout(3):
        reader, writer = await asyncio.open_connection(address, number)
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()


async def test_connections_are_spread_evenly(backend, pods, number):
    await put(backend, service(number, *[await pods.start(n) for n in (1, 2, 3)]))
    assert Counter([await ask(number) for _ in range(300)]) == {"1": 100, "2": 100, "3": 100}


async def test_a_backend_that_refuses_is_passed_over(backend, pods, number):
    good = await pods.start(1)
    await put(backend, service(number, good, ("127.98.1.2", good[1])))
    assert [await ask(number) for _ in range(4)] == ["1"] * 4


async def test_without_endpoints_connections_are_refused(backend, pods, number):
    await put(backend, service(number, await pods.start(1)))
    assert await ask(number) == "1"
    await put(backend, service(number))
    with pytest.raises(ConnectionRefusedError):
        await ask(number)
    await put(backend, service(number, await pods.start(2)))
    assert await ask(number) == "2"


async def test_node_ports_answer_on_loopback(backend, pods, number):
    await put(backend, service(number, await pods.start(1), node_port=number))
    assert await ask(number, address="127.0.0.1") == "1"


async def test_half_closed_connections_go_on_in_the_other_direction(backend, pods, number):
    async def sum_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.read()
        writer.write(str(len(received)).encode())
        writer.close()

    await put(backend, service(number, await pods.start(1, sum_up)))
    reader, writer = await asyncio.open_connection(VIP, number)
    writer.write(b"x" * 3_000_000)
    writer.write_eof()
    async with asyncio.timeout(5):
        assert await reader.read() == b"3000000"
    writer.close()


async def test_a_slow_reader_does_not_fill_memory(backend, pods, number):
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while sent < 400_000_000:
                writer.write(b"x" * 65536)
                sent += 65536
                await writer.drain()
        except OSError:
            pass

    await put(backend, service(number, await pods.start(1, flood)))
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (VIP, number))
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
    assert sent < 40_000_000


async def test_open_connections_outlive_their_endpoint(backend, pods, number):
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    await put(backend, service(number, await pods.start(1, echo)))
    reader, writer = await asyncio.open_connection(VIP, number)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    await put(backend, service(number, await pods.start(2)))
    writer.write(b"two")
    assert await reader.readexactly(3) == b"two"
    writer.close()
    assert await ask(number) == "2"


async def test_udp_is_relayed_and_moves_when_the_endpoint_goes(backend, number):
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_datagram_endpoint(lambda n=n: Echo(str(n)), local_addr=(f"127.98.1.{n}", 0)) for n in (1, 2)
    ]
    targets = [transport.get_extra_info("sockname") for transport, _ in made]
    await put(backend, service(number, *targets, protocol="UDP"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((VIP, number))

        async def exchange() -> str:
            async with asyncio.timeout(3):
                await loop.sock_sendall(client, b"?")
                return (await loop.sock_recv(client, 10)).decode()

        first = await exchange()
        assert await exchange() == first
        await put(backend, service(number, targets[2 - int(first)], protocol="UDP"))
        assert await exchange() != first
    for transport, _ in made:
        transport.close()


async def test_an_address_that_cannot_be_bound_is_reported_once(backend, pods, number, reports):
    await put(backend, service(number, await pods.start(1), vip="192.0.2.77"))
    await backend.check()
    assert len(reports) == 1
    reason, message = reports[0]
    assert reason == "FailedToListen"
    assert f"192.0.2.77:{number}" in message and "127.0.0.0/8" in message
