"""exec and attach over WebSockets, subprotocol v5.channel.k8s.io (and v4): binary messages, the first byte the channel.

Each stream has a task that hands the caller's messages to the kubelet; the handler itself carries the answers back.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import orjson
from aiohttp import WSMsgType, web

from services.apiserver.fronts.http.logs import kubelet_failure
from services.apiserver.fronts.http.paths import flag
from services.apiserver.fronts.pods import EOF, Kubelets, exec_options
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Registry, Target
from tillerman.api import codec
from tillerman.api.status import bad_request
from tillerman.pb.api import pods_pb2
from tillerman.pb.k8s import meta_v1_pb2

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
METHODS = {"exec": "Exec", "attach": "Attach"}
HEARTBEAT_SECONDS = 30.0


class Channels:
    def __init__(self, registry: Registry, kubelets: Kubelets) -> None:
        self._registry = registry
        self._kubelets = kubelets

    async def serve(self, request: web.BaseRequest, target: Target, user: User) -> web.StreamResponse:
        """Raises StatusError before the connection is upgraded; later failures travel on the status channel."""
        start = start_of(request, target)
        await self._registry.connect(target, exec_options(start, target.subresource), Context(user))
        socket = web.WebSocketResponse(protocols=PROTOCOLS, heartbeat=HEARTBEAT_SECONDS)
        if not socket.can_prepare(request):
            raise bad_request("Upgrade request required: this server speaks WebSockets with v5.channel.k8s.io")
        channel, node = await self._kubelets.channel_of(target.namespace, target.name)
        upstream = channel.stream_stream(f"/tillerman.v1.Kubelet/{METHODS[target.subresource]}")()
        pump: asyncio.Task[None] | None = None
        try:
            await socket.prepare(request)
            await upstream.write(pods_pb2.ExecRequest(start=start).SerializeToString())
            pump = asyncio.create_task(_inward(socket, upstream), name=f"http-{target.subresource}-input")
            await self._outward(socket, upstream, node)
        finally:
            if pump is not None:
                pump.cancel()
            upstream.cancel()
        with contextlib.suppress(ConnectionError):
            await socket.close()
        return socket

    async def _outward(self, socket: web.WebSocketResponse, upstream: Any, node: str) -> None:
        """The kubelet's messages, until the exit code or a failure has been told."""
        status = success()
        try:
            while (raw := await upstream.read()) is not EOF:
                message = pods_pb2.ExecResponse.FromString(raw)
                which = message.WhichOneof("message")
                if which == "stdout":
                    await socket.send_bytes(bytes((STDOUT,)) + message.stdout)
                elif which == "stderr":
                    await socket.send_bytes(bytes((STDERR,)) + message.stderr)
                elif which == "exit_code" and message.exit_code:
                    status = exited(message.exit_code)
            if await upstream.code() is not grpc.StatusCode.OK:
                status = failed(str(await upstream.details()))
        except grpc.aio.AioRpcError as error:
            status = codec.to_json(kubelet_failure(error, node).status)
        except ConnectionError:
            return
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(bytes((STATUS,)) + status)


async def _inward(socket: web.WebSocketResponse, upstream: Any) -> None:
    """What the caller sends. A caller that goes away ends the stream; one that closes stdin doesn't."""
    try:
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                continue
            request = request_of(message.data)
            if request is not None:
                await upstream.write(request.SerializeToString())
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
        # The kubelet ended the stream; the other direction tells the caller why.
        return
    upstream.cancel()


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


def start_of(request: web.BaseRequest, target: Target) -> pods_pb2.ExecStart:
    """Raises BadRequest."""
    query = request.query
    command = query.getall("command", [])
    if target.subresource == "exec" and not command:
        raise bad_request("you must specify at least one command for the container")
    return pods_pb2.ExecStart(
        namespace=target.namespace,
        pod=target.name,
        container=query.get("container", ""),
        command=command,
        stdin=flag(query, "stdin"),
        stdout=flag(query, "stdout"),
        stderr=flag(query, "stderr"),
        tty=flag(query, "tty"),
    )


def success() -> bytes:
    return codec.to_json(meta_v1_pb2.Status(status="Success"))


def failed(message: str) -> bytes:
    return codec.to_json(meta_v1_pb2.Status(status="Failure", reason="InternalError", code=500, message=message))


def exited(code: int) -> bytes:
    """The Status of a command that failed."""
    message = f"command terminated with non-zero exit code: exit status {code}"
    status = meta_v1_pb2.Status(status="Failure", reason="NonZeroExitCode", message=message)
    status.details.causes.add(reason="ExitCode", message=str(code))
    return codec.to_json(status)
