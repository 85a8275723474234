"""The gRPC front of `Pods`: each stream is handed to the kubelet of the pod's node, bytes in and bytes out.

Only the first message is decoded, to find the pod. One channel per kubelet is kept open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError as ProtoDecodeError
from google.protobuf.message import Message

from services.apiserver.auth.authenticate import Authenticate
from services.apiserver.fronts.instrument import Instrument
from services.apiserver.fronts.objects import abort, undecodable
from services.apiserver.registry.context import Context
from services.apiserver.registry.registry import Registry, Target, status_of
from services.apiserver.storage.errors import StorageError
from tillerman.api.status import StatusError, bad_request, internal, service_unavailable
from tillerman.pb.api import pods_pb2
from tillerman.pb.k8s import core_v1_pb2

EOF: Any = vars(grpc.aio)["EOF"]
SERVICE = "tillerman.v1.Pods"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


@dataclass(frozen=True, slots=True)
class KubeletTLS:
    ca: Path
    certificate: Path
    key: Path


class Kubelets:
    """Finds the kubelet of a pod and keeps a channel to each."""

    def __init__(self, registry: Registry, tls: KubeletTLS | None) -> None:
        self._registry = registry
        self._tls = tls
        self._channels: dict[str, Any] = {}

    async def channel_of(self, namespace: str, pod: str) -> tuple[Any, str]:
        """(channel, node name). Raises NotFound, BadRequest for a pod on no node, ServiceUnavailable."""
        node_name = (await self.pod(namespace, pod)).spec.nodeName
        if not node_name:
            raise bad_request(f"pod {pod} does not have a host assigned")
        return await self.channel_to(node_name), node_name

    async def pod(self, namespace: str, name: str) -> Any:
        """Raises NotFound."""
        catalog, reader = self._registry.catalog, self._registry.reader
        return (await reader.get(catalog.get("v1", "pods"), namespace, name)).message()

    async def channel_to(self, node_name: str) -> Any:
        """The channel to a node's kubelet. Raises NotFound, ServiceUnavailable."""
        catalog, reader = self._registry.catalog, self._registry.reader
        node = (await reader.get(catalog.get("v1", "nodes"), "", node_name, "0")).message()
        port = node.status.daemonEndpoints.kubeletEndpoint.Port
        addresses = {a.type: a.address for a in reversed(node.status.addresses)}
        host = addresses.get("InternalIP") or addresses.get("Hostname")
        if not port or not host:
            raise service_unavailable(f"node {node_name} has not said where its kubelet listens")
        return self._open(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def _open(self, address: str) -> Any:
        channel: Any = self._channels.get(address)
        if channel is None:
            if self._tls is None:
                channel = grpc.aio.insecure_channel(address, options=OPTIONS)
            else:
                credentials = grpc.ssl_channel_credentials(
                    self._tls.ca.read_bytes(), self._tls.key.read_bytes(), self._tls.certificate.read_bytes()
                )
                channel = grpc.aio.secure_channel(address, credentials, options=OPTIONS)
            self._channels[address] = channel
        return channel

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)


class PodsFront:
    def __init__(
        self, registry: Registry, kubelets: Kubelets, *, authenticate: Authenticate, instrument: Instrument, log: Any
    ) -> None:
        self._registry = registry
        self._kubelets = kubelets
        self._authenticate = authenticate
        self._instrument = instrument
        self._log = log

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        handlers = {"Logs": grpc.unary_stream_rpc_method_handler(self.logs)}
        streams = (
            ("Exec", pods_pb2.ExecRequest, "exec"),
            ("Attach", pods_pb2.ExecRequest, "attach"),
            ("PortForward", pods_pb2.PortForwardRequest, "portforward"),
        )
        for method, message, subresource in streams:
            handlers[method] = grpc.stream_stream_rpc_method_handler(self._stream(method, message, subresource))
        return handlers

    async def logs(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            decoded = pods_pb2.LogsRequest.FromString(request)
        except ProtoDecodeError as error:
            await abort(context, undecodable(pods_pb2.LogsRequest, error))
        target = Target("v1", "pods", decoded.namespace or "default", decoded.pod, "log")
        failure: StatusError | None = None
        with self._instrument.stream("CONNECT", target) as outcome:
            try:
                user = await self._authenticate(context)
                await self._registry.authorizer.authorize(Context(user), "get", target)
                channel, node = await self._kubelets.channel_of(target.namespace, target.name)
                call = channel.unary_stream("/tillerman.v1.Kubelet/Logs")(request)
                try:
                    async for chunk in call:
                        yield chunk
                except grpc.aio.AioRpcError as error:
                    failure = self._kubelet_failure(error, node)
                finally:
                    call.cancel()
            except (StatusError, StorageError) as error:
                failure = error if isinstance(error, StatusError) else status_of(error)
            if failure is not None:
                outcome.code = failure.code
        if failure is not None:
            await abort(context, failure)

    def _stream(self, method: str, message: Any, subresource: str) -> Any:
        async def call(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            failure: StatusError | None = None
            upstream: Any = None
            pump: asyncio.Task[None] | None = None
            try:
                user = await self._authenticate(context)
                first = await anext(aiter(requests), None)
                start = message.FromString(first).start if first is not None else None
                if start is None or not start.pod:
                    raise bad_request("the stream's first message must carry start, with the pod's name")
                target = Target("v1", "pods", start.namespace or "default", start.pod, subresource)
                with self._instrument.stream("CONNECT", target):
                    options = (
                        core_v1_pb2.PodPortForwardOptions()
                        if subresource == "portforward"
                        else exec_options(start, subresource)
                    )
                    await self._registry.connect(target, options, Context(user))
                    channel, node = await self._kubelets.channel_of(target.namespace, target.name)
                    upstream = channel.stream_stream(f"/tillerman.v1.Kubelet/{method}")()
                    await upstream.write(first)
                    pump = asyncio.create_task(_pump(requests, upstream), name=f"pods-{subresource}-input")
                    try:
                        while (chunk := await upstream.read()) is not EOF:
                            yield chunk
                        code = await upstream.code()
                        if code is not grpc.StatusCode.OK:
                            raise internal(f"kubelet of node {node}: {await upstream.details()}")
                    except grpc.aio.AioRpcError as error:
                        failure = self._kubelet_failure(error, node)
            except ProtoDecodeError as error:
                failure = undecodable(message, error)
            except (StatusError, StorageError) as error:
                failure = error if isinstance(error, StatusError) else status_of(error)
            except grpc.aio.AioRpcError as error:
                failure = self._kubelet_failure(error, "")
            finally:
                if pump is not None:
                    pump.cancel()
                if upstream is not None:
                    upstream.cancel()
            if failure is not None:
                await abort(context, failure)

        return call

    def _kubelet_failure(self, error: grpc.aio.AioRpcError, node: str) -> StatusError:
        from tillerman.api.rpcstatus import from_rpc

        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return service_unavailable(f"the kubelet of node {node} cannot be reached: {error.details()}")
        return from_rpc(error)


def exec_options(start: pods_pb2.ExecStart, subresource: str) -> Message:
    """What admission is shown of an exec or attach."""
    if subresource == "attach":
        return core_v1_pb2.PodAttachOptions(
            container=start.container, stdin=start.stdin, stdout=start.stdout, stderr=start.stderr, tty=start.tty
        )
    return core_v1_pb2.PodExecOptions(
        container=start.container,
        command=start.command,
        stdin=start.stdin,
        stdout=start.stdout,
        stderr=start.stderr,
        tty=start.tty,
    )


async def _pump(requests: AsyncIterator[bytes], upstream: Any) -> None:
    """What the caller sends, to the kubelet, until the caller is done."""
    try:
        async for request in requests:
            await upstream.write(request)
        await upstream.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
        # The kubelet ended the stream; the reading side tells the caller why.
        return
