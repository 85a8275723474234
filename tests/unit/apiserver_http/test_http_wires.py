"""What callers' frames mean, and a SPDY connection's streams as channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiohttp import WSMessage, WSMsgType

from services.apiserver.fronts.http import spdy
from services.apiserver.fronts.http.channel_wires import STATUS, STDIN, STDOUT, SpdyWire, decoded, frame_of, request_of
from services.apiserver.fronts.http.upgrades import Connection
from tillerman.pb.api import pods_pb2


@pytest.mark.parametrize(
    ("frame", "request_"),
    [
        (b"\0hello", pods_pb2.ExecRequest(stdin=b"hello")),
        (b"\0", None),
        (b"", None),
        (b"\xff\0", pods_pb2.ExecRequest(close_stdin=True)),
        (b"\xff\1", None),
        (b'\4{"Width":80,"Height":25}', pods_pb2.ExecRequest(resize=pods_pb2.TerminalSize(width=80, height=25))),
        (b"\4nonsense", None),
        (b"\1stdout", None),
    ],
)
def test_frames_from_the_caller(frame: bytes, request_: pods_pb2.ExecRequest | None) -> None:
    assert request_of(frame) == request_


@pytest.mark.parametrize(("text", "frame"), [(b"0aGk=", b"\0hi"), (b"0", b"\0"), (b"x", b""), (b"", b""), (b"0a", b"")])
def test_base64_frames(text: bytes, frame: bytes) -> None:
    assert decoded(text) == frame


def test_text_messages_are_frames_too() -> None:
    message = WSMessage(WSMsgType.TEXT, "\0words", None)
    assert frame_of(message, base64_text=False) == b"\0words"
    assert frame_of(WSMessage(WSMsgType.TEXT, "0d29yZHM=", None), base64_text=True) == b"\0words"


class Pair:
    """The caller's side of a connection: what it sent before, and what it was sent."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self.answers: list[spdy.Frame] = []
        self._decoder = spdy.Decoder()

    async def received(self) -> AsyncIterator[bytes]:
        yield self._sent

    async def send(self, data: bytes) -> None:
        self.answers += self._decoder.feed(data)


async def test_a_spdy_connection() -> None:
    encoder = spdy.Encoder()
    caller = Pair(
        b"".join(
            (
                encoder.syn_stream(1, {"streamType": "error"}),
                encoder.syn_stream(3, {"streamType": "stdin"}),
                encoder.syn_stream(5, {"streamType": "stdout"}),
                encoder.ping(b"\0\0\0\1"),
                encoder.data(3, b"words"),
                encoder.data(3, b"", fin=True),
            )
        )
    )
    wire = SpdyWire(cast(Connection, cast(Any, caller)), "v4.channel.k8s.io", {STATUS, STDIN, STDOUT})
    early = asyncio.create_task(wire.send(STDOUT, b"x" * 100_000))
    await asyncio.sleep(0)
    assert not caller.answers
    requests = [request async for request in wire.requests()]
    assert requests == [pods_pb2.ExecRequest(stdin=b"words"), pods_pb2.ExecRequest(close_stdin=True)]
    await early
    await wire.close()
    assert [f.stream for f in caller.answers if f.kind == spdy.SYN_REPLY] == [1, 3, 5]
    assert [f.payload for f in caller.answers if f.kind == spdy.PING] == [b"\0\0\0\1"]
    data = [f for f in caller.answers if f.kind == 0]
    assert b"".join(f.payload for f in data if f.stream == 5) == b"x" * 100_000
    assert {f.stream for f in data if f.fin} == {1, 3, 5}
