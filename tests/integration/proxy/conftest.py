"""A machine of its own for each test: a network namespace with a bridge, pods as namespaces on it, an outside client.

Sockets are made inside a namespace and then used from the test's own loop, so one process plays all the parts.
"""

import asyncio
import ctypes
import os
import secrets
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

GATEWAY = "10.231.0.1"
OUTSIDE = "192.168.231.2"
HOST_OUTSIDE = "192.168.231.1"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@dataclass
class Namespace:
    """One network namespace with at most one address of interest."""

    name: str
    address: str = ""

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the namespace; never await within."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            if _libc.setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if _libc.setns(home.fileno(), CLONE_NEWNET):
                    os.abort()  # the process would go on in the wrong namespace

    def socket(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        with self.inside():
            made = socket.socket(socket.AF_INET, kind)
        made.setblocking(False)
        return made

    async def ask(self, address: str, port: int, *, seconds: float = 2.0) -> str:
        """Connects and returns "<answering pod> <client address it saw>". Raises OSError or TimeoutError."""
        with self.socket() as client:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(client, (address, port))
                return (await asyncio.get_running_loop().sock_recv(client, 200)).decode()

    def write(self, path: str, value: str) -> None:
        with self.inside():
            Path(path).write_text(value)


@dataclass
class Machine:
    """`host` has the bridge; `pod` makes another pod that answers on port 8080 with its number; `outside` is a client."""

    host: Namespace
    outside: Namespace
    names: list[str]
    servers: list[asyncio.Server] = field(default_factory=list)
    bridge_netfilter: bool = False

    async def pod(self, number: int, *, port: int = 8080) -> Namespace:
        name, link = f"{self.host.name}p{number}", f"p{number}"
        pod = Namespace(name, f"10.231.1.{number}")
        ip("netns", "add", name)
        self.names.append(name)
        ip("-n", self.host.name, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", self.host.name, "link", "set", link, "master", "br0", "up")
        ip("-n", name, "addr", "add", f"{pod.address}/16", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "route", "add", "default", "via", GATEWAY)
        subprocess.run(
            ["ip", "netns", "exec", self.host.name, "sh", "-c", f"echo 1 > /sys/class/net/{link}/brport/hairpin_mode"],
            check=True,
        )

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"{number} {writer.get_extra_info('peername')[0]}".encode())
            writer.close()

        listener = pod.socket()
        listener.bind(("0.0.0.0", port))
        listener.listen(512)
        self.servers.append(await asyncio.start_server(answer, sock=listener))
        return pod

    async def pods(self, count: int) -> list[Namespace]:
        return [await self.pod(number) for number in range(2, 2 + count)]


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    name = f"tlm{secrets.token_hex(3)}"
    host, outside = Namespace(f"{name}h", HOST_OUTSIDE), Namespace(f"{name}o", OUTSIDE)
    made = Machine(host, outside, [host.name, outside.name])
    try:
        for namespace in (host, outside):
            ip("netns", "add", namespace.name)
            ip("-n", namespace.name, "link", "set", "lo", "up")
        ip("-n", host.name, "link", "add", "br0", "type", "bridge")
        ip("-n", host.name, "addr", "add", f"{GATEWAY}/16", "dev", "br0")
        ip("-n", host.name, "link", "set", "br0", "up")
        ip("-n", host.name, "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", outside.name)
        ip("-n", host.name, "addr", "add", f"{HOST_OUTSIDE}/24", "dev", "out")
        ip("-n", host.name, "link", "set", "out", "up")
        ip("-n", outside.name, "addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
        ip("-n", outside.name, "link", "set", "eth0", "up")
        ip("-n", outside.name, "route", "add", "default", "via", HOST_OUTSIDE)
        # Cluster IPs have to be routed somewhere for the host's own connections to reach the output hook.
        ip("-n", host.name, "route", "add", "default", "via", OUTSIDE)
        host.write("/proc/sys/net/ipv4/ip_forward", "1")
        host.write("/proc/sys/net/ipv4/conf/br0/route_localnet", "1")
        with host.inside():
            try:
                made.bridge_netfilter = Path("/proc/sys/net/bridge/bridge-nf-call-iptables").read_text().strip() == "1"
            except OSError:
                made.bridge_netfilter = False
        yield made
    finally:
        for server in made.servers:
            server.close()
        for namespace_name in made.names:
            subprocess.run(["ip", "netns", "del", namespace_name], check=False, capture_output=True)
