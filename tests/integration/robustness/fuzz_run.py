"""Sends hostile requests to both fronts of an apiserver, some at once; keeps what was answered and what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import orjson
from apiserver_process import ApiserverProcess
from hostile_parts import Call
from hostile_requests import Generator

from tillerman.pb.api import objects_pb2
from tillerman.pb.k8s import meta_v1_pb2

PATIENCE = 30.0
# 503: an etcd that a busy machine keeps waiting, and kubelets that are not here.
HTTP_CODES = frozenset({101, 200, 201, 202, 204, 400, 403, 404, 405, 406, 409, 410, 413, 415, 422, 429, 503, 504})
Code = grpc.StatusCode
GRPC_CODES = frozenset(
    {
        Code.OK,
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.PERMISSION_DENIED,
        Code.ALREADY_EXISTS,
        Code.ABORTED,
        Code.FAILED_PRECONDITION,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
    }
)


@dataclass
class Report:
    """``refused``: the numbers of the requests that were refused."""

    answers: Counter[str] = field(default_factory=Counter)
    refused: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(self.answers.values())

    def fault(self, call: Call, what: str) -> None:
        self.wrong.append(f"#{call.number} {call.method}: {what}\n    {call.raw[:600]!r}")


async def run(server: ApiserverProcess, *, seed: int, first: int, count: int, workers: int = 6) -> Report:
    """``count`` requests, numbered from ``first`` on, half of them to each front."""
    report = Report()
    calls = _calls(seed, first, count)
    async with server.channel() as channel, asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_http_worker(server, calls["http"], report))
            group.create_task(_grpc_worker(channel, calls["grpc"], report))
    return report


def _calls(seed: int, first: int, count: int) -> dict[str, Iterator[Call]]:
    """A Generator for each front: what one front's workers take does not change what the other's are given."""
    half = count // 2
    one, two = Generator(seed), Generator(seed + 1)
    return {
        "http": (one.http(number) for number in range(first, first + half)),
        "grpc": (two.grpc(number) for number in range(first + half, first + count)),
    }


# -- HTTP --------------------------------------------------------------------------------------------------------------


async def _http_worker(server: ApiserverProcess, calls: Iterator[Call], report: Report) -> None:
    connection: Connection | None = None
    for call in calls:
        try:
            async with asyncio.timeout(PATIENCE):
                if connection is None:
                    connection = await Connection.open(server)
                answer = await connection.ask(call)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            report.answers["http none"] += 1
            report.fault(call, f"no answer: {error!r}")
            if connection is not None:
                connection.close()
            connection = None
            continue
        report.answers[f"http {answer.code}"] += 1
        judge(call, answer, report)
        if answer.last:
            connection.close()
            connection = None
    if connection is not None:
        connection.close()


@dataclass(slots=True)
class HttpAnswer:
    code: int
    headers: dict[str, str]
    body: bytes
    last: bool


def judge(call: Call, answer: HttpAnswer, report: Report) -> None:
    if answer.code >= 400 and not call.upgrade:
        report.refused.add(call.number)
    if answer.code not in HTTP_CODES:
        report.fault(call, f"{answer.code} {answer.body[:600]!r}")
    elif answer.headers.get("content-type", "").startswith("application/json") and not call.streams:
        # A path that is nobody's is answered with those that there are.
        status = ("Status", answer.code)
        try:
            content = orjson.loads(answer.body)
        except ValueError:
            report.fault(call, f"{answer.code} with broken JSON: {answer.body[:600]!r}")
            return
        if answer.code >= 400 and "paths" not in content and (content.get("kind"), content.get("code")) != status:
            report.fault(call, f"{answer.code} without its Status: {answer.body[:600]!r}")


class Connection:
    """One HTTP/1.1 connection, one request after the other, every byte as it is given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, server: ApiserverProcess) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", server.http_port, ssl=server.ssl(), limit=1 << 20))

    def close(self) -> None:
        self.writer.transport.abort()

    async def ask(self, call: Call) -> HttpAnswer:
        self.writer.write(call.raw)
        # A server may answer and close before it has read a body that it refuses.
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()
        return await self.answer(head=call.method == "HEAD")

    async def answer(self, *, head: bool = False) -> HttpAnswer:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = raw.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        code = int(status.split()[1])
        last = headers.get("connection", "").lower() == "close" or code == 101 or status.startswith("HTTP/1.0")
        body = b""
        if code == 101 or head:
            last = True
        elif headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        elif "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        return HttpAnswer(code, headers, body, last)

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return bytes(body)


# -- gRPC --------------------------------------------------------------------------------------------------------------


async def _grpc_worker(channel: grpc.aio.Channel, calls: Iterator[Call], report: Report) -> None:
    for call in calls:
        code, details = await _grpc_call(channel, call, report)
        report.answers[f"grpc {code.name}"] += 1
        if code is not Code.OK:
            report.refused.add(call.number)
        if code not in GRPC_CODES:
            report.fault(call, f"{code.name} {details}")


async def _grpc_call(channel: grpc.aio.Channel, call: Call, report: Report) -> tuple[grpc.StatusCode, str]:
    path = f"/tillerman.v1.Objects/{call.method}"
    try:
        if call.streams:
            await _follow(channel.unary_stream(path)(call.raw, timeout=PATIENCE), seconds=0.3)
        else:
            answer = await channel.unary_unary(path)(call.raw, timeout=PATIENCE)
            if call.method == "Batch":
                _judge_batch(call, answer, report)
    except grpc.aio.AioRpcError as error:
        if error.code() is Code.DEADLINE_EXCEEDED and "Too large resource version" not in (error.details() or ""):
            return Code.UNKNOWN, f"no answer in {PATIENCE} s: {error.details()}"
        return error.code(), error.details() or ""
    return Code.OK, ""


async def _follow(stream: Any, *, seconds: float) -> None:
    """A watch, for a moment."""
    try:
        async with asyncio.timeout(seconds):
            async for _ in stream:
                pass
    except TimeoutError:
        pass
    finally:
        stream.cancel()


def _judge_batch(call: Call, answer: bytes, report: Report) -> None:
    outcomes = objects_pb2.BatchResponse.FromString(answer).outcomes
    refusals: Callable[[Any], bool] = lambda outcome: outcome.WhichOneof("outcome") == "failure"  # noqa: E731
    for outcome in outcomes:
        failure: meta_v1_pb2.Status = outcome.failure
        if refusals(outcome) and (failure.code >= 500 or failure.code < 400) and failure.code not in (503, 504):
            report.fault(call, f"an outcome of {failure.code}: {failure.message}")
    if outcomes and all(map(refusals, outcomes)):
        report.refused.add(call.number)
