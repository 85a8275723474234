"""The server that the recordings are replayed against: real processes over a real etcd, with certificates.

Between cases everything in etcd is put back to what it was at a mark, so that cases do not see each other.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from real_apiserver import Etcd, free_port

from tillerman.client import kubeconfig
from tillerman.pb.etcd import rpc_pb2, rpc_pb2_grpc
from tillerman.service import pki

ROOT, END = b"/registry/", b"/registry0"


@dataclass
class Answer:
    code: int
    content: Any
    headers: http.client.HTTPMessage


class Http:
    """One connection that is kept, as one client."""

    def __init__(self, port: int, tls: ssl.SSLContext, headers: dict[str, str]) -> None:
        self.port = port
        self._tls = tls
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection: http.client.HTTPSConnection | None = None

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self._tls, timeout=60)

    def headers(self, **more: str | None) -> dict[str, str]:
        named = {name.replace("_", "-"): value for name, value in more.items() if value}
        return {**self._headers, **named}

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str | None = None,
        accept: str | None = None,
        user_agent: str | None = None,
    ) -> Answer:
        data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        headers = self.headers(Content_Type=content_type, Accept=accept, User_Agent=user_agent)
        self._connection = self._connection or self.connect()
        self._connection.request(method, on_the_wire(path), body=data, headers=headers)
        response = self._connection.getresponse()
        raw = response.read()
        if response.will_close:
            self.close()
        return Answer(response.status, decoded(raw), response.headers)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def on_the_wire(path: str) -> str:
    return quote(path, safe="!#$%&'()*+,/:;=?@[]~")


def decoded(raw: bytes) -> Any:
    text = raw.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


class Server:
    """etcd, an apiserver that allows everything, and the controller manager where ``controllers``."""

    def __init__(self, folder: Path, *, controllers: bool) -> None:
        self._folder = folder
        self._controllers = controllers
        self._etcd = Etcd(folder / "etcd")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._https_port, self._port = free_port(), free_port()

    def start(self) -> None:
        """Raises RuntimeError when a process ends or does not get ready."""
        folder = self._folder
        self._etcd.start()
        self._store = grpc.insecure_channel(self._etcd.address)
        self._kv = rpc_pb2_grpc.KVStub(self._store)
        ca = pki.make_ca("replay")
        authority, _ = ca.write(folder)
        pki.write_secret(folder / "sa.key", pki.make_signing_key())
        (folder / "tokens.csv").write_text('tok,admin,admin,"system:masters"\n')
        self._admin = pki.issue(ca, "admin", ("system:masters",), (), server=False).write(folder, "admin")
        serving = pki.issue(ca, "kube-apiserver", (), ["127.0.0.1"]).write(folder, "server")
        self._authority = authority
        secured = [
            f"--tls-cert-file={serving[0]}",
            f"--tls-key-file={serving[1]}",
            f"--client-ca-file={authority}",
            "--metrics-port=-1",
        ]
        self._run(
            "apiserver",
            *secured,
            f"--port={self._port}",
            f"--secure-port={self._https_port}",
            f"--etcd-servers={self._etcd.address}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            f"--service-account-key-file={folder / 'sa.key'}",
            "--service-account-issuer=https://k",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=AlwaysAllow",
            *([] if self._controllers else ["--disable-admission-plugins=ServiceAccount"]),
        )
        if self._controllers:
            client = folder / "manager.kubeconfig"
            cert, key = self._admin
            url, endpoint = f"https://127.0.0.1:{self._https_port}", f"127.0.0.1:{self._port}"
            kubeconfig.write(client, endpoints=[endpoint], server=url, ca=authority, cert=cert, key=key, user="admin")
            self._run("controller", *secured, "--port=0", f"--kubeconfig={client}", "--leader-elect=false")

    def _run(self, service: str, *flags: str) -> None:
        ready, log = self._folder / f"{service}.ready", self._folder / f"{service}.log"
        with log.open("wb") as out:
            argv = [sys.executable, "-m", f"services.{service}", f"--ready-file={ready}", *flags]
            process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)
        self._processes.append(process)
        if not eventually(lambda: ready.exists() or process.poll() is not None, 30) or process.poll() is not None:
            raise RuntimeError(f"the {service} did not get ready:\n{log.read_text()[-2000:]}")

    def http(self, **headers: str) -> Http:
        """A client of its own, with the administrator's certificate."""
        tls = ssl.create_default_context(cafile=str(self._authority))
        tls.load_cert_chain(*self._admin)
        return Http(self._https_port, tls, headers)

    def wait_for_custom(self, http: Http, definition: dict[str, Any]) -> None:
        """Until all served versions of a new CustomResourceDefinition can be listed."""
        spec = definition["spec"]
        for version in (v["name"] for v in spec["versions"] if v["served"]):
            path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
            eventually(lambda path=path: http("GET", path).code == 200, 5)  # type: ignore[misc]

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if hasattr(self, "_store"):
            self._store.close()
        self._etcd.kill()

    # -- etcd ------------------------------------------------------------------------------------------------------

    def stored(self) -> dict[bytes, bytes]:
        """Everything in etcd, by key."""
        pairs = self._kv.Range(rpc_pb2.RangeRequest(key=ROOT, range_end=END)).kvs
        return {pair.key: pair.value for pair in pairs}

    def put_back(self, mark: dict[bytes, bytes]) -> None:
        """Makes etcd hold what it held when ``mark`` was made with ``stored``."""
        now = self.stored()
        for key in now.keys() - mark.keys():
            self._kv.DeleteRange(rpc_pb2.DeleteRangeRequest(key=key))
        for key, value in mark.items():
            if now.get(key) != value:
                self._kv.Put(rpc_pb2.PutRequest(key=key, value=value))

    def compact(self) -> None:
        """Forgets all of the history up to now."""
        revision = self._kv.Range(rpc_pb2.RangeRequest(key=ROOT)).header.revision
        try:
            self._kv.Compact(rpc_pb2.CompactionRequest(revision=revision, physical=True))
        except grpc.RpcError as error:
            # Compacted to there already.
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                raise


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
