"""An apiserver as a process of its own, which can be killed, over an etcd of the test's."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import grpc
from real_apiserver import Etcd, free_port

from tillerman.service import pki

ROOT = Path(__file__).parents[2]
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Each channel has connections of its own: two apiservers of one test never share a subchannel.
    ("grpc.use_local_subchannel_pool", 1),
]


class ApiserverProcess:
    """``folder``: for its certificates and log. With ``tls`` False both fronts speak plain text and trust everybody."""

    def __init__(self, folder: Path, etcd: Etcd, *flags: str, tls: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.grpc_port, self.http_port = free_port(), free_port()
        self._argv = [
            sys.executable,
            "-m",
            "services.apiserver",
            f"--etcd-servers={etcd.address}",
            f"--port={self.grpc_port}",
            f"--secure-port={self.http_port}",
            "--metrics-port=-1",
            "--authorization-mode=AlwaysAllow",
            *self._identity(tls),
            *flags,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def _identity(self, tls: bool) -> list[str]:
        self._ca: Path | None = None
        if not tls:
            return ["--insecure"]
        ca = pki.make_ca("test")
        self._ca, _ = ca.write(self.folder)
        serving = pki.issue(ca, "kube-apiserver", (), ["127.0.0.1"]).write(self.folder, "server")
        self._admin = pki.issue(ca, "admin", ("system:masters",), (), server=False).write(self.folder, "admin")
        return [f"--tls-cert-file={serving[0]}", f"--tls-key-file={serving[1]}", f"--client-ca-file={self._ca}"]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._argv, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > deadline or not self.running:
                raise RuntimeError(f"the apiserver did not start:\n{self.log[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Whether the HTTPS front, which comes last, speaks."""
        try:
            with contextlib.closing(self._connect()) as connection:
                connection.sendall(b"GET /readyz HTTP/1.0\r\nHost: a\r\n\r\n")
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def _connect(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.http_port), 2)
        tls = self.ssl()
        return plain if tls is None else tls.wrap_socket(plain, server_hostname="127.0.0.1")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pss(self) -> int:
        """Bytes of memory that are this process's own share."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no Pss")

    def ssl(self) -> ssl.SSLContext | None:
        """A client's context, with the admin's certificate; None for plain text."""
        if self._ca is None:
            return None
        context = ssl.create_default_context(cafile=os.fspath(self._ca))
        context.load_cert_chain(*self._admin)
        return context

    def channel(self) -> grpc.aio.Channel:
        address = f"127.0.0.1:{self.grpc_port}"
        if self._ca is None:
            return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        certificate, key = self._admin
        credentials = grpc.ssl_channel_credentials(
            self._ca.read_bytes(), Path(key).read_bytes(), Path(certificate).read_bytes()
        )
        return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
