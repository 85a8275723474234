"""A machine of its own for each test: a network namespace with a bridge, pods as namespaces on it, an outside client.

Sockets are made inside a namespace and then used from the test's own loop, so one process plays all the parts.
"""

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

GATEWAY = "10.231.0.1"
OUTSIDE = "192.168.231.2"
HOST_OUTSIDE = "192.168.231.1"


def run(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout


def ip(*arguments: str) -> None:
    run("ip", *arguments)


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
    """`host` has the bridge; `pod` makes a pod that answers on port 8080 with its number; `outside` is a client."""

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
        # sysfs shows the network namespace of whoever mounted it: let `ip netns exec` mount its own.
        run("ip", "netns", "exec", self.host.name, "sh", "-c", f"echo 1 > /sys/class/net/{link}/brport/hairpin_mode")

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

    def nft_ruleset(self) -> str:
        nft = shutil.which("nft") or "/usr/sbin/nft"
        return run("ip", "netns", "exec", self.host.name, nft, "list", "ruleset")
