"""port-forward: SPDY/3.1, bare or inside one WebSocket; one PortForward call to the kubelet for each connection in it.

The handler reads what comes and hands data on; each connection has one task, and they end with the handler.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from aiohttp import WSMsgType, web

from services.apiserver.fronts.http import spdy
from services.apiserver.fronts.http.portchannels import PORT_CHANNELS, PortChannels, ports_of
from services.apiserver.fronts.http.upgrades import negotiated, take_over, wants_spdy
from services.apiserver.fronts.pods import EOF, Kubelets
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Registry, Target
from tillerman.api.status import bad_request
from tillerman.pb.api import pods_pb2
from tillerman.pb.k8s import core_v1_pb2

BARE = "portforward.k8s.io"
PROTOCOL = f"SPDY/3.1+{BARE}"
HEARTBEAT_SECONDS = 30.0
CHUNK = 1 << 16
MAX_CONNECTIONS = 1_000
QUEUED = 64


@dataclass(slots=True)
class Connection:
    """``error`` and ``data``: its two streams' numbers. ``arrived``: what the caller sent; None: no more."""

    port: int
    error: int = 0
    data: int = 0
    arrived: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUED))
    task: asyncio.Task[None] | None = None


class PortForward:
    def __init__(self, registry: Registry, kubelets: Kubelets) -> None:
        self._registry = registry
        self._kubelets = kubelets

    async def serve(self, request: web.BaseRequest, target: Target, user: User) -> web.StreamResponse:
        """Raises StatusError before the connection is upgraded."""
        await self._registry.connect(target, core_v1_pb2.PodPortForwardOptions(), Context(user))
        if wants_spdy(request):
            protocol = negotiated(request, (BARE,))
            channel, _ = await self._kubelets.channel_of(target.namespace, target.name)
            connection = take_over(request, protocol)
            await Tunnel(connection, channel, target).run()
            return connection
        socket = web.WebSocketResponse(protocols=(PROTOCOL, *PORT_CHANNELS), heartbeat=HEARTBEAT_SECONDS)
        ready = socket.can_prepare(request)
        if not ready:
            raise bad_request(f"Upgrade request required: this server speaks {PROTOCOL} over WebSockets, and SPDY/3.1")
        ports = [] if ready.protocol == PROTOCOL else ports_of(request)
        channel, _ = await self._kubelets.channel_of(target.namespace, target.name)
        await socket.prepare(request)
        if ready.protocol == PROTOCOL:
            await Tunnel(SocketPipe(socket), channel, target).run()
        else:
            await PortChannels(socket, channel, target, ports).run()
        with contextlib.suppress(ConnectionError):
            await socket.close()
        return socket


class Pipe(Protocol):
    """Bytes both ways."""

    def received(self) -> AsyncIterator[bytes]: ...

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError."""
        ...


class SocketPipe:
    """The binary messages of a WebSocket as one stream of bytes."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def received(self) -> AsyncIterator[bytes]:
        async for message in self._socket:
            if message.type is WSMsgType.BINARY:
                yield message.data

    async def send(self, data: bytes) -> None:
        await self._socket.send_bytes(data)


class Tunnel:
    """One caller's connections to one pod."""

    def __init__(self, pipe: Pipe, channel: Any, target: Target) -> None:
        self._pipe = pipe
        self._channel = channel
        self._target = target
        self._decoder = spdy.Decoder()
        self._encoder = spdy.Encoder()
        self._by_request: dict[str, Connection] = {}
        self._by_stream: dict[int, Connection] = {}
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Until the caller leaves or sends what is no SPDY."""
        try:
            async for data in self._pipe.received():
                for frame in self._decoder.feed(data):
                    await self._take(frame)
        except (spdy.ProtocolError, ConnectionError):
            return
        finally:
            tasks = [connection.task for connection in self._by_request.values() if connection.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, frame: spdy.Frame) -> None:
        if frame.kind == spdy.SYN_STREAM:
            await self._open(frame)
        elif frame.kind == spdy.PING:
            await self._send(self._encoder.ping(frame.payload))
        elif frame.kind == spdy.RST_STREAM:
            connection = self._by_stream.get(frame.stream)
            if connection is not None and connection.task is not None:
                connection.task.cancel()
        elif frame.kind == 0:
            connection = self._by_stream.get(frame.stream)
            if connection is not None and frame.stream == connection.data:
                if frame.payload:
                    await connection.arrived.put(frame.payload)
                if frame.fin:
                    await connection.arrived.put(None)

    async def _open(self, frame: spdy.Frame) -> None:
        """Raises ProtocolError."""
        port, kind = frame.headers.get("port", ""), frame.headers.get("streamtype", "")
        if not port.isdecimal() or not 0 < int(port) < 65536 or kind not in ("error", "data"):
            raise spdy.ProtocolError(f"a stream of type {kind!r} to port {port!r}")
        request = frame.headers.get("requestid", port)
        connection = self._by_request.setdefault(request, Connection(int(port)))
        if len(self._by_request) > MAX_CONNECTIONS:
            raise spdy.ProtocolError("too many connections")
        setattr(connection, kind, frame.stream)
        self._by_stream[frame.stream] = connection
        await self._send(self._encoder.syn_reply(frame.stream))
        if kind == "data" and connection.task is None:
            connection.task = asyncio.create_task(self._forward(request, connection), name="http-portforward")

    async def _send(self, frame: bytes) -> None:
        async with self._sending:
            await self._pipe.send(frame)

    async def _forward(self, request: str, connection: Connection) -> None:
        """A refused connection ends both streams without a word: text on the error stream would end kubectl."""
        upstream = self._channel.stream_stream("/tillerman.v1.Kubelet/PortForward")()
        pump: asyncio.Task[None] | None = None
        try:
            target = self._target
            start = pods_pb2.PortForwardStart(namespace=target.namespace, pod=target.name, port=connection.port)
            await upstream.write(pods_pb2.PortForwardRequest(start=start).SerializeToString())
            pump = asyncio.create_task(_inward(connection, upstream), name="http-portforward-input")
            while (raw := await upstream.read()) is not EOF:
                payload = pods_pb2.PortForwardResponse.FromString(raw).data
                for begin in range(0, len(payload), CHUNK):
                    await self._send(self._encoder.data(connection.data, payload[begin : begin + CHUNK]))
        except grpc.aio.AioRpcError:
            pass
        except ConnectionError:
            return
        finally:
            if pump is not None:
                pump.cancel()
            upstream.cancel()
            self._by_request.pop(request, None)
            self._by_stream.pop(connection.data, None)
            self._by_stream.pop(connection.error, None)
        with contextlib.suppress(ConnectionError):
            for stream in (connection.data, connection.error):
                if stream:
                    await self._send(self._encoder.data(stream, b"", fin=True))


async def _inward(connection: Connection, upstream: Any) -> None:
    """What the caller sends, until it closes its side."""
    try:
        while (data := await connection.arrived.get()) is not None:
            await upstream.write(pods_pb2.PortForwardRequest(data=data).SerializeToString())
        await upstream.done_writing()
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
        # The pod closed the connection; what the caller still sends has nowhere to go.
        while await connection.arrived.get() is not None:
            pass
