"""One apiserver for the whole suite: nothing in it depends on what is there already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_calls import NAMESPACE, Grpc, Http
from apiserver_process import ApiserverProcess
from real_apiserver import Etcd


@pytest.fixture(scope="module")
def server(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiserverProcess]:
    folder: Path = tmp_path_factory.mktemp("conformance")
    process = ApiserverProcess(folder, etcd, tls=False)
    process.start()
    connection = Http(process.http_port)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    connection.must("POST", "/api/v1/namespaces", namespace)
    connection.close()
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture
def http(server: ApiserverProcess) -> Iterator[Http]:
    connection = Http(server.http_port)
    yield connection
    connection.close()


@pytest.fixture
def grpc_front(server: ApiserverProcess) -> Iterator[Grpc]:
    connection = Grpc(server.grpc_port)
    yield connection
    connection.close()
