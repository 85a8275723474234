"""exec and attach: a container's streams, through the kubelet of the pod's node.

Each stream has a task that hands the caller's messages to the kubelet; the handler itself carries the answers back.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
from aiohttp import web

from services.apiserver.fronts.http.channel_wires import (
    RESIZE,
    STATUS,
    STDERR,
    STDIN,
    STDOUT,
    WITH_STATUS,
    SpdyWire,
    WebSocketWire,
    Wire,
)
from services.apiserver.fronts.http.logs import check_container, kubelet_failure
from services.apiserver.fronts.http.paths import flag
from services.apiserver.fronts.http.upgrades import negotiated, take_over, wants_spdy
from services.apiserver.fronts.pods import EOF, Kubelets, exec_options
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Registry, Target
from tillerman.api import codec
from tillerman.api.status import bad_request
from tillerman.pb.api import pods_pb2
from tillerman.pb.k8s import meta_v1_pb2

# The most capable first. v5 can close stdin alone; it is for WebSockets, SPDY could do that always.
SOCKETS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
SPDY_STREAMS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
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
        check_container(await self._kubelets.pod(target.namespace, target.name), start)
        channel, node = await self._kubelets.channel_of(target.namespace, target.name)
        if target.subresource == "exec" and not start.command:
            raise bad_request("you must specify at least one command for the container")
        answer, wire = await _upgraded(request, start)
        upstream = channel.stream_stream(f"/tillerman.v1.Kubelet/{METHODS[target.subresource]}")()
        pump: asyncio.Task[None] | None = None
        try:
            await upstream.write(pods_pb2.ExecRequest(start=start).SerializeToString())
            pump = asyncio.create_task(_inward(wire, upstream), name=f"http-{target.subresource}-input")
            # Who attaches learns that the container has ended, not how.
            await _outward(wire, upstream, node, tells_exit=target.subresource == "exec")
        finally:
            if pump is not None:
                pump.cancel()
            upstream.cancel()
        await wire.close()
        return answer


async def _upgraded(request: web.BaseRequest, start: pods_pb2.ExecStart) -> tuple[web.StreamResponse, Wire]:
    """Raises StatusError as long as nothing has been answered."""
    if wants_spdy(request):
        protocol = negotiated(request, SPDY_STREAMS)
        connection = take_over(request, protocol)
        return connection, SpdyWire(connection, protocol, _streams(start, protocol))
    socket = web.WebSocketResponse(protocols=SOCKETS, heartbeat=HEARTBEAT_SECONDS)
    if not socket.can_prepare(request):
        raise bad_request("Upgrade request required")
    await socket.prepare(request)
    return socket, WebSocketWire(socket)


def _streams(start: pods_pb2.ExecStart, protocol: str) -> set[int]:
    """The streams that a SPDY caller opens."""
    wanted = {STATUS}
    if start.stdin:
        wanted.add(STDIN)
    if start.stdout:
        wanted.add(STDOUT)
    if start.stderr and not start.tty:
        wanted.add(STDERR)
    if start.tty and protocol.startswith(("v3", "v4")):
        wanted.add(RESIZE)
    return wanted


async def _outward(wire: Wire, upstream: Any, node: str, *, tells_exit: bool) -> None:
    """The kubelet's messages, until the exit code or a failure has been told."""
    status = meta_v1_pb2.Status(status="Success")
    try:
        while (raw := await upstream.read()) is not EOF:
            message = pods_pb2.ExecResponse.FromString(raw)
            which = message.WhichOneof("message")
            if which == "stdout":
                await wire.send(STDOUT, message.stdout)
            elif which == "stderr":
                await wire.send(STDERR, message.stderr)
            elif which == "exit_code" and message.exit_code and tells_exit:
                status = exited(message.exit_code)
        if await upstream.code() is not grpc.StatusCode.OK:
            status = failed(str(await upstream.details()))
    except grpc.aio.AioRpcError as error:
        status = kubelet_failure(error, node).status
    except (ConnectionError, TimeoutError):
        return
    with contextlib.suppress(ConnectionError, TimeoutError):
        if wire.protocol in WITH_STATUS:
            await wire.send(STATUS, codec.to_json(status))
        elif status.status != "Success":
            await wire.send(STATUS, status.message.encode())


async def _inward(wire: Wire, upstream: Any) -> None:
    """What the caller sends. A caller that goes away ends the stream."""
    try:
        async for request in wire.requests():
            await upstream.write(request.SerializeToString())
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
        # The kubelet ended the stream; the other direction tells the caller why.
        return
    upstream.cancel()


def start_of(request: web.BaseRequest, target: Target) -> pods_pb2.ExecStart:
    """Raises BadRequest."""
    query = request.query
    return pods_pb2.ExecStart(
        namespace=target.namespace,
        pod=target.name,
        container=query.get("container", ""),
        command=query.getall("command", []),
        stdin=flag(query, "stdin"),
        stdout=flag(query, "stdout"),
        stderr=flag(query, "stderr"),
        tty=flag(query, "tty"),
    )


def failed(message: str) -> meta_v1_pb2.Status:
    return meta_v1_pb2.Status(status="Failure", reason="InternalError", code=500, message=message)


def exited(code: int) -> meta_v1_pb2.Status:
    """The Status of a command that failed."""
    message = f"command terminated with non-zero exit code: exit status {code}"
    status = meta_v1_pb2.Status(status="Failure", reason="NonZeroExitCode", message=message)
    status.details.causes.add(reason="ExitCode", message=str(code))
    return status
