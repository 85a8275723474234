"""The HTTPS front over a real etcd, with certificates, and kubectl with its own home."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from real_apiserver import RunningApiserver, http_front
from real_kubectl import Kubectl

from services.apiserver.fronts.http.server import listen, tls_context
from tillerman.service import pki


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
    ca = pki.make_ca("test")
    ca_file, _ = ca.write(tmp_path)
    serving_files = pki.issue(ca, "kube-apiserver", (), ["127.0.0.1"]).write(tmp_path, "server")
    admin_files = pki.issue(ca, "admin", ("system:masters",), (), server=False).write(tmp_path, "admin")
    bound = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{bound.getsockname()[1]}"
    close = await listen(http_front(apiserver.server), bound, tls_context(*serving_files, ca_file))
    write_kubeconfig(tmp_path, url, ca_file, *admin_files)
    try:
        yield Kubectl(url, tmp_path)
    finally:
        await close()
