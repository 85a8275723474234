"""How a container's streams travel to a caller: as channels of a WebSocket, or as streams of a SPDY connection.

A wire has one reader and one writer; frames of one SPDY connection are sent under a lock, for PINGs are answered too.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

import orjson
from aiohttp import WSMessage, WSMsgType, web

from services.apiserver.fronts.http import spdy
from services.apiserver.fronts.http.upgrades import CHUNK, Connection
from tillerman.pb.api import pods_pb2

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
# By channel: "streamType" of a SPDY stream.
STREAM_TYPES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": STATUS, "resize": RESIZE}
OPEN_SECONDS = 30.0
# Protocols whose status channel carries a Status as JSON; the others have words, and those only of a failure.
WITH_STATUS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io")


class Wire(Protocol):
    # The stream protocol that was agreed on.
    protocol: str

    async def send(self, channel: int, data: bytes) -> None:
        """Raises ConnectionError."""
        ...

    def requests(self) -> AsyncIterator[pods_pb2.ExecRequest]:
        """What the caller sends, until it goes away; a caller that closes stdin doesn't."""
        ...

    async def close(self) -> None: ...


class WebSocketWire:
    """Messages whose first byte is the channel; for base64.* text messages, a digit and base64."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self.protocol = socket.ws_protocol or ""
        self._text = "base64" in self.protocol

    async def send(self, channel: int, data: bytes) -> None:
        if self._text:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send_bytes(bytes((channel,)) + data)

    async def requests(self) -> AsyncIterator[pods_pb2.ExecRequest]:
        async for message in self._socket:
            frame = frame_of(message, base64_text=self._text)
            if (request := request_of(frame)) is not None:
                yield request

    async def close(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._socket.close()


def frame_of(message: WSMessage, *, base64_text: bool) -> bytes:
    """The frame in a message, whatever opcode it came with; empty for what is none."""
    if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
        return b""
    raw = message.data.encode() if message.type is WSMsgType.TEXT else message.data
    return decoded(raw) if base64_text else raw


def decoded(raw: bytes) -> bytes:
    """The frame of a base64 message; empty for what is none."""
    try:
        return bytes((int(raw[:1]),)) + base64.b64decode(raw[1:])
    except (ValueError, binascii.Error):
        return b""


def request_of(frame: bytes) -> pods_pb2.ExecRequest | None:
    """What a frame from the caller means for the kubelet; None: nothing."""
    if not frame:
        return None
    number, payload = frame[0], frame[1:]
    if number == STDIN and payload:
        return pods_pb2.ExecRequest(stdin=payload)
    if number == CLOSE and payload[:1] == bytes((STDIN,)):
        return pods_pb2.ExecRequest(close_stdin=True)
    if number == RESIZE:
        try:
            size = orjson.loads(payload)
            terminal = pods_pb2.TerminalSize(width=int(size["Width"]), height=int(size["Height"]))
        except (ValueError, KeyError, TypeError):
            return None
        return pods_pb2.ExecRequest(resize=terminal)
    return None


class SpdyWire:
    """The caller opens a stream for each of ``wanted`` (channels); nothing is sent before all of them are there."""

    def __init__(self, connection: Connection, protocol: str, wanted: set[int]) -> None:
        self.protocol = protocol
        self._connection = connection
        self._missing = set(wanted)
        self._decoder = spdy.Decoder()
        self._encoder = spdy.Encoder()
        self._streams: dict[int, int] = {}
        self._sending = asyncio.Lock()
        self._complete = asyncio.Event()

    async def _send(self, frame: bytes) -> None:
        async with self._sending:
            await self._connection.send(frame)

    async def send(self, channel: int, data: bytes) -> None:
        async with asyncio.timeout(OPEN_SECONDS):
            await self._complete.wait()
        if (stream := self._streams.get(channel)) is None:
            return
        for begin in range(0, len(data), CHUNK):
            await self._send(self._encoder.data(stream, data[begin : begin + CHUNK]))

    async def requests(self) -> AsyncIterator[pods_pb2.ExecRequest]:
        with contextlib.suppress(spdy.ProtocolError, ConnectionError):
            async for data in self._connection.received():
                for frame in self._decoder.feed(data):
                    if frame.kind == spdy.GOAWAY:
                        return
                    for request in await self._taken(frame):
                        yield request

    async def _taken(self, frame: spdy.Frame) -> list[pods_pb2.ExecRequest]:
        if frame.kind == spdy.SYN_STREAM:
            await self._opened(frame)
        elif frame.kind == spdy.PING:
            await self._send(self._encoder.ping(frame.payload))
        found = []
        if frame.kind == 0 and frame.payload:
            channel = next((number for number, stream in self._streams.items() if stream == frame.stream), None)
            if channel in (STDIN, RESIZE) and (request := request_of(bytes((channel,)) + frame.payload)) is not None:
                found.append(request)
        if frame.kind in (0, spdy.SYN_STREAM) and frame.fin and frame.stream == self._streams.get(STDIN):
            found.append(pods_pb2.ExecRequest(close_stdin=True))
        return found

    async def _opened(self, frame: spdy.Frame) -> None:
        """Raises ProtocolError."""
        kind = frame.headers.get("streamtype", "")
        if kind not in STREAM_TYPES:
            raise spdy.ProtocolError(f"a stream of type {kind!r}")
        self._streams[STREAM_TYPES[kind]] = frame.stream
        self._missing.discard(STREAM_TYPES[kind])
        await self._send(self._encoder.syn_reply(frame.stream))
        if not self._missing:
            self._complete.set()

    async def close(self) -> None:
        with contextlib.suppress(ConnectionError):
            for stream in self._streams.values():
                await self._send(self._encoder.data(stream, b"", fin=True))
