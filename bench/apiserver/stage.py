"""What the apiserver is measured on: etcd, the apiserver and the floor's server, each its own process, all of them
with mutual TLS as in production (etcd in plain text on loopback, as `tiller up` runs it).
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.binding import free_ports
from bench.memory import megabytes
from tillerman.client.channel import ClientConfig
from tillerman.client.client import Client
from tillerman.pb.k8s import rbac_v1_pb2 as rbac
from tillerman.service import pki

TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 30.0
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Process:
    """A running server: where it answers, and what it costs."""

    pid: int
    address: str

    def cpu_seconds(self) -> float:
        """User and system time so far, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def megabytes(self) -> float:
        return megabytes(self.pid)


@dataclass(frozen=True, slots=True)
class Stage:
    """``https``: the apiserver's HTTP front. ``folder`` has ca.crt and a certificate per user. ``wide_floor``: the
    floor's process again, at the port where as many servers listen as the apiserver has.
    """

    folder: Path
    etcd: str
    apiserver: Process
    https: str
    floor: Process
    wide_floor: Process

    def user(self, name: str = "bench") -> dict[str, str]:
        """The files a caller needs."""
        return {
            "ca": str(self.folder / "ca.crt"),
            "certificate": str(self.folder / f"{name}.crt"),
            "key": str(self.folder / f"{name}.key"),
        }

    def config(self, user: str, server: Process) -> ClientConfig:
        """How the client library reaches a server as a user."""
        files = {name: Path(path) for name, path in self.user(user).items()}
        return ClientConfig([server.address], ca=files["ca"], cert=files["certificate"], key=files["key"])

    def client(self, user: str = "admin") -> Client:
        """A client of the apiserver; close it. The user "admin" may do everything."""
        return Client.from_config(self.config(user, self.apiserver))


@contextlib.contextmanager
def stage(*flags: str, etcd_flags: tuple[str, ...] = ()) -> Iterator[Stage]:
    """Everything running; users "bench" and "other" may do everything by RBAC. Taken down at the end."""
    with tempfile.TemporaryDirectory(prefix="tillerman-bench-") as name, contextlib.ExitStack() as undo:
        folder = Path(name)
        ca = pki.make_ca("bench")
        ca.write(folder)
        pki.issue(ca, "kube-apiserver", (), ["127.0.0.1"]).write(folder, "server")
        pki.issue(ca, "admin", ("system:masters",), (), server=False).write(folder, "admin")
        for user in ("bench", "other"):
            pki.issue(ca, user, ("benchmarks",), (), server=False).write(folder, user)
        log = undo.enter_context((folder / "log").open("ab"))

        def start(argv: list[str]) -> int:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
            undo.callback(_end, process)
            return process.pid

        etcd_port, peer_port, port, https = free_ports(4)
        start(_etcd(folder / "etcd", etcd_port, peer_port) + list(etcd_flags))
        etcd = f"127.0.0.1:{etcd_port}"
        tls = [
            f"--tls-cert-file={folder / 'server.crt'}",
            f"--tls-key-file={folder / 'server.key'}",
            f"--client-ca-file={folder / 'ca.crt'}",
        ]
        ready, floor_ready = folder / "ready", folder / "floor-ready"
        apiserver = [sys.executable, "-m", "services.apiserver", f"--port={port}", f"--secure-port={https}", *tls]
        pid = start([*apiserver, f"--etcd-servers={etcd}", f"--ready-file={ready}", "--metrics-port=-1", *flags])
        floor = start([sys.executable, "-m", "bench.apiserver.floors", etcd, str(folder), str(floor_ready)])
        try:
            _wait_for(ready)
            floor_ports = json.loads(_wait_for(floor_ready))
        except TimeoutError:
            sys.stderr.write((folder / "log").read_text()[-4000:])
            raise
        running = Stage(
            folder,
            etcd,
            Process(pid, f"127.0.0.1:{port}"),
            f"127.0.0.1:{https}",
            Process(floor, f"127.0.0.1:{floor_ports['port']}"),
            Process(floor, f"127.0.0.1:{floor_ports['wide_port']}"),
        )
        asyncio.run(_grant(running))
        yield running


async def _grant(running: Stage) -> None:
    binding = rbac.ClusterRoleBinding()
    binding.metadata.name = "benchmarks"
    binding.roleRef.apiGroup, binding.roleRef.kind, binding.roleRef.name = RBAC, "ClusterRole", "cluster-admin"
    binding.subjects.add(kind="Group", apiGroup=RBAC, name="benchmarks")
    client = running.client()
    try:
        await client.resource(rbac.ClusterRoleBinding).create(binding)
    finally:
        await client.close()


def _etcd(data: Path, port: int, peer_port: int) -> list[str]:
    binary = Path(sys.executable).with_name("etcd")
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        str(binary if binary.exists() else shutil.which("etcd")),
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=error",
    ]


def _wait_for(file: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if file.exists() and (content := file.read_text()):
            return content
        time.sleep(0.05)
    raise TimeoutError(f"{file.name} did not appear in {START_SECONDS:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
