"""The HTTPS front over a real etcd, with certificates, and kubectl with its own home."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
import yaml

from services.apiserver.auth.authenticate import Authenticator
from services.apiserver.fronts.http.server import HttpFront, bearer_token, listen, peer_identity, tls_context
from services.apiserver.fronts.pods import Kubelets
from tests.integration.conftest import RunningApiserver
from tillerman.service import pki


@dataclass
class Kubectl:
    """Runs kubectl as one user. ``url``: the front's address."""

    url: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    async def start(self, *args: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "kubectl",
            f"--kubeconfig={self.folder / 'kubeconfig'}",
            f"--cache-dir={self.folder / 'cache'}",
            *args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(self.folder), **self.environment},
        )

    async def run(self, *args: str, stdin: str = "") -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        process = await self.start(*args)
        out, err = await process.communicate(stdin.encode())
        return process.returncode or 0, out.decode(), err.decode()

    async def __call__(self, *args: str, stdin: str = "") -> str:
        """stdout of a command that must succeed."""
        code, out, err = await self.run(*args, stdin=stdin)
        assert code == 0, f"kubectl {' '.join(args)}: {code}\n{out}\n{err}"
        return out


def write_kubeconfig(folder: Path, url: str, ca: Path, cert: Path, key: Path) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(ca)}}],
        "users": [{"name": "test", "user": {"client-certificate": str(cert), "client-key": str(key)}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(content))


@pytest.fixture
async def kubectl(apiserver: RunningApiserver, tmp_path: Path) -> AsyncIterator[Kubectl]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    PKI
    server = apiserver.server
    front = HttpFront(
        server.registry,
        authenticate=Authenticator(
            identity=peer_identity, bearer=bearer_token, tokens=server.tokens, insecure=False
        ),
        authorizer=server.authorizer,
        instrument=server.instrument,
        log=structlog.get_logger(),
        kubelets=Kubelets(server.registry, None),
    )
    bound = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{bound.getsockname()[1]}"
    close = await listen(front, bound, tls_context(SERVERCERT))
    write_kubeconfig(tmp_path, url, ADMIN)
    try:
        yield Kubectl(url, tmp_path)
    finally:
        await close()
