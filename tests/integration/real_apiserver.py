"""A real etcd and an apiserver in this process, served over real gRPC."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import structlog
from prometheus_client import CollectorRegistry

from services.apiserver.auth.authenticate import Authenticator
from services.apiserver.bootstrap import bootstrap
from services.apiserver.fronts.http.server import HttpFront, bearer_token, peer_identity
from services.apiserver.fronts.instrument import Instrument
from services.apiserver.fronts.objects import SERVICE, ObjectsFront
from services.apiserver.fronts.pods import Kubelets
from services.apiserver.options import ApiserverOptions
from services.apiserver.server import Apiserver, first_service_ip, running
from tillerman.client import Client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    """Until something listens there."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}")


class Etcd:
    """One etcd member with its own data; ``kill`` is SIGKILL, ``start`` brings it back with the same data."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self._flags = flags
        self.client_port = free_port()
        self._peer_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def peer(self) -> str:
        return f"http://127.0.0.1:{self._peer_port}"

    def join(self, name: str, cluster: dict[str, Etcd]) -> None:
        """Before the first start: it will be a member of a cluster under this name."""
        members = ",".join(f"{other}={member.peer}" for other, member in cluster.items())
        self._flags = (*self._flags, f"--name={name}", f"--initial-cluster={members}")

    def start(self) -> None:
        client = f"http://{self.address}"
        binary = Path(sys.executable).with_name("etcd")
        argv = [
            str(binary if binary.exists() else shutil.which("etcd")),
            "--name=test",
            f"--data-dir={self.folder}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={self.peer}",
            f"--initial-advertise-peer-urls={self.peer}",
            f"--initial-cluster=test={self.peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
            *self._flags,
        ]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.client_port)

    def kill(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running_etcd(*flags: str) -> Iterator[Etcd]:
    """A member with a folder of its own, gone with its data at the end."""
    with tempfile.TemporaryDirectory(prefix="tillerman-etcd-") as folder:
        member = Etcd(Path(folder) / "data", *flags)
        member.start()
        try:
            yield member
        finally:
            member.kill()


class RunningApiserver:
    """``server``: the inside. ``address``: its gRPC endpoint. ``client``: a Client of it."""

    def __init__(self, server: Apiserver, address: str, client: Client) -> None:
        self.server = server
        self.address = address
        self.client = client


@contextlib.asynccontextmanager
async def serving(options: ApiserverOptions) -> AsyncIterator[RunningApiserver]:
    """An apiserver on a free port, in plain text, everybody being the admin."""
    async with running(options, Instrument(CollectorRegistry())) as server:
        authenticate = Authenticator(
            identity=lambda _context: None, bearer=lambda _context: "", tokens=None, insecure=True
        )
        front = ObjectsFront(
            server.registry,
            authenticate=authenticate,
            instrument=server.instrument,
            log=structlog.get_logger(),
            limits=server.limits,
        )
        listener = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        listener.add_registered_method_handlers(SERVICE, front.handlers())
        port = listener.add_insecure_port("127.0.0.1:0")
        await listener.start()
        address = f"127.0.0.1:{port}"
        channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        client = Client(channel)
        try:
            await bootstrap(
                server.registry,
                first_ip=first_service_ip(options.service_cluster_ip_range),
                advertise="127.0.0.1",
                https_port=0,
                repair=lambda: server.services.repair(server.catalog.get("v1", "services")),
            )
            yield RunningApiserver(server, address, client)
        finally:
            await client.close()
            await listener.stop(0.2)


def http_front(server: Apiserver, *, insecure: bool = False) -> HttpFront:
    """What answers over HTTP. ``insecure``: everybody is the admin."""
    return HttpFront(
        server.registry,
        authenticate=Authenticator(
            identity=peer_identity, bearer=bearer_token, tokens=server.tokens, insecure=insecure
        ),
        authorizer=server.authorizer,
        instrument=server.instrument,
        log=structlog.get_logger(),
        issuer=server.tokens.keys,
        kubelets=Kubelets(server.registry, None),
        limits=server.limits,
    )
