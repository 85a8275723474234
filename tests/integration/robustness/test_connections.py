"""Connections that break the protocol, stall or go away: everybody else is served, and nothing of them stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from apiserver_process import ApiserverProcess
from fuzz_run import Connection
from hostile_parts import Call
from real_apiserver import Etcd

GET = b"GET /api/v1/namespaces/default HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
MAP = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"half"}}'

# What is sent, and the codes that it may be answered with; none: the connection ends without one.
BROKEN = {
    "no HTTP": (b"\0\1\2\3 nonsense\r\n\r\n", {400}),
    "no version": (b"GET /\r\n\r\n", {200, 400}),
    "HTTP of the future": (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", {400, 403, 200, 505}),
    "a header without a name": (b"GET /healthz HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", {400}),
    "a header with a NUL": (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", {400}),
    "a huge header": (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", {400, 431}),
    "a huge path": (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", {400, 414, 431}),
    "many headers": (
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(30_000)) + b"\r\n",
        {200, 400, 431},
    ),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n" + MAP, {400}),
    "a length that is no number": (POST + b"Content-Length: x\r\n\r\n" + MAP, {400}),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + MAP, {400}),
    "a length and chunks": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "a chunk of no size": (POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + MAP + b"\r\n0\r\n\r\n", {400}),
    "an unknown coding": (POST + b"Transfer-Encoding: nonesuch\r\nContent-Length: 5\r\n\r\n12345", {400, 415, 422}),
    "gzip that is none": (POST + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n12345", {400, 415}),
}


@pytest.fixture(scope="module")
def server(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiserverProcess]:
    folder: Path = tmp_path_factory.mktemp("connections")
    process = ApiserverProcess(folder, etcd)
    process.start()
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture
async def served(server: ApiserverProcess) -> AsyncIterator[ApiserverProcess]:
    """The server, which answers after each test, has complained of nothing and holds no more files than before."""
    before = files(server)
    yield server
    connection = await Connection.open(server)
    assert (await connection.ask(Call(0, "GET", GET))).code == 200
    connection.close()
    assert "Traceback" not in server.log and "unexpectedly" not in server.log
    for _ in range(200):
        if files(server) <= before + 2:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{files(server)} open files, before {before}")


def files(server: ApiserverProcess) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_request_is_answered_or_cut_off(served: ApiserverProcess, name: str) -> None:
    raw, codes = BROKEN[name]
    connection = await Connection.open(served)
    connection.writer.write(raw)
    try:
        async with asyncio.timeout(20):
            assert (await connection.answer()).code in codes
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        connection.close()


async def test_half_sent_bodies_store_nothing(served: ApiserverProcess) -> None:
    for size in (1, len(MAP) - 1, 0):
        connection = await Connection.open(served)
        connection.writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(MAP) + MAP[:size])
        await connection.writer.drain()
        await asyncio.sleep(0.05)
        connection.close()
    connection = await Connection.open(served)
    gone = GET.replace(b"namespaces/default", b"namespaces/default/configmaps/half")
    assert (await connection.ask(Call(0, "GET", gone))).code == 404
    connection.close()


async def test_stalled_connections_hold_nobody_up(served: ApiserverProcess) -> None:
    stalled = [await Connection.open(served) for _ in range(100)]
    for number, connection in enumerate(stalled):
        connection.writer.write((GET, POST + b"Content-Length: 99\r\n\r\n{")[number % 2][: 20 + number])
    async with asyncio.timeout(20):
        quick = await Connection.open(served)
        for _ in range(20):
            assert (await quick.ask(Call(0, "GET", GET))).code == 200
        quick.close()
    for connection in stalled:
        connection.close()


async def test_pipelined_requests_are_answered_in_order(served: ApiserverProcess) -> None:
    connection = await Connection.open(served)
    names = [b"default", b"kube-system", b"nonesuch", b"kube-public"]
    connection.writer.write(b"".join(GET.replace(b"default", name) for name in names))
    answers = [await connection.answer() for _ in names]
    assert [answer.code for answer in answers] == [200, 200, 404, 200]
    assert all(name in answer.body for name, answer in zip(names, answers, strict=True))
    connection.close()


async def test_callers_that_leave_at_once(served: ApiserverProcess) -> None:
    watch = GET.replace(b"namespaces/default", b"configmaps?watch=1")
    for raw in (GET, watch, watch, POST + b"Content-Length: %d\r\n\r\n" % len(MAP) + MAP.replace(b"half", b"whole")):
        for _ in range(20):
            connection = await Connection.open(served)
            connection.writer.write(raw)
            await connection.writer.drain()
            connection.close()


async def test_bytes_that_are_neither_tls_nor_http2(served: ApiserverProcess) -> None:
    for port in (served.http_port, served.grpc_port):
        for raw in (GET, b"\0" * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100, b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            with contextlib.suppress(ConnectionError):
                if raw:
                    async with asyncio.timeout(30):
                        await reader.read(1000)
            writer.transport.abort()


async def test_watches_over_grpc_that_are_dropped(served: ApiserverProcess) -> None:
    from tillerman.pb.api import objects_pb2 as pb

    request = pb.WatchRequest(target=pb.Target(api_version="v1", resource="configmaps")).SerializeToString()
    for _ in range(5):
        async with served.channel() as channel:
            streams = [channel.unary_stream("/tillerman.v1.Objects/Watch")(request) for _ in range(20)]
            await asyncio.gather(*(stream.initial_metadata() for stream in streams))
            for stream in streams[::2]:
                stream.cancel()
