"""port-forward as the Python clients speak it: a WebSocket with two channels for each port that the query names.

Channel 2n carries the data of the n-th port, 2n+1 what went wrong with it; the first message on either is the port's
number, two bytes, low byte first. One task per port, ended with the handler.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import Any

import grpc
from aiohttp import web

from services.apiserver.fronts.http.channel_wires import frame_of
from services.apiserver.fronts.pods import EOF
from services.apiserver.registry.registry import Target
from tillerman.api.status import bad_request
from tillerman.pb.api import pods_pb2

PORT_CHANNELS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io", "portforward.k8s.io")
QUEUED = 64


def ports_of(request: web.BaseRequest) -> list[int]:
    """The ports that the query names: ports=80&ports=81, or ports=80,81. Raises BadRequest."""
    texts = [text for value in request.query.getall("ports", []) for text in value.split(",")]
    if not texts:
        raise bad_request('query parameter "ports" is required')
    for text in texts:
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise bad_request(f'unable to parse "{text}" as a port')
    return [int(text) for text in texts]


class PortChannels:
    def __init__(self, socket: web.WebSocketResponse, channel: Any, target: Target, ports: list[int]) -> None:
        self._socket = socket
        self._channel = channel
        self._target = target
        self._ports = ports
        self._text = "base64" in (socket.ws_protocol or "")
        self._arrived = [asyncio.Queue[bytes](QUEUED) for _ in ports]

    async def run(self) -> None:
        """Until the caller leaves."""
        tasks = [
            asyncio.create_task(self._forward(index, port), name="http-portforward")
            for index, port in enumerate(self._ports)
        ]
        try:
            async for message in self._socket:
                frame = frame_of(message, base64_text=self._text)
                if len(frame) > 1 and frame[0] % 2 == 0 and frame[0] // 2 < len(self._ports):
                    await self._arrived[frame[0] // 2].put(frame[1:])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, channel: int, data: bytes) -> None:
        if self._text:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send_bytes(bytes((channel,)) + data)

    async def _forward(self, index: int, port: int) -> None:
        """One connection to a port; when one side has ended it, the caller is told by the end of the WebSocket."""
        upstream = self._channel.stream_stream("/tillerman.v1.Kubelet/PortForward")()
        pump: asyncio.Task[None] | None = None
        data, error = 2 * index, 2 * index + 1
        try:
            for number in (data, error):
                await self._send(number, port.to_bytes(2, "little"))
            target = self._target
            start = pods_pb2.PortForwardStart(namespace=target.namespace, pod=target.name, port=port)
            await upstream.write(pods_pb2.PortForwardRequest(start=start).SerializeToString())
            pump = asyncio.create_task(self._inward(index, upstream), name="http-portforward-input")
            while (raw := await upstream.read()) is not EOF:
                await self._send(data, pods_pb2.PortForwardResponse.FromString(raw).data)
            if await upstream.code() is not grpc.StatusCode.OK:
                await self._send(error, str(await upstream.details()).encode())
        except grpc.aio.AioRpcError as failure:
            with contextlib.suppress(ConnectionError):
                await self._send(error, str(failure.details()).encode())
        except ConnectionError:
            return
        finally:
            if pump is not None:
                pump.cancel()
            upstream.cancel()
        if len(self._ports) == 1:
            await self._socket.close()

    async def _inward(self, index: int, upstream: Any) -> None:
        arrived = self._arrived[index]
        try:
            while True:
                data = await arrived.get()
                await upstream.write(pods_pb2.PortForwardRequest(data=data).SerializeToString())
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            # The pod closed the connection; what the caller still sends has nowhere to go.
            while True:
                await arrived.get()
