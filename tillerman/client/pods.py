"""Logs, exec, attach and port-forward: streams between the caller and a container, through the API server."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import grpc
import grpc.aio

from tillerman.client.calls import translated_errors
from tillerman.pb.api import pods_pb2 as pb


class _Stub(Protocol):
    """What PodsStub and KubeletStub have in common."""

    Logs: "grpc.aio.UnaryStreamMultiCallable[pb.LogsRequest, pb.LogsChunk]"
    Exec: "Callable[[], grpc.aio.StreamStreamCall[pb.ExecRequest, pb.ExecResponse]]"
    Attach: "Callable[[], grpc.aio.StreamStreamCall[pb.ExecRequest, pb.ExecResponse]]"
    PortForward: "Callable[[], grpc.aio.StreamStreamCall[pb.PortForwardRequest, pb.PortForwardResponse]]"


class ExecStream:
    """A command's terminal or pipes. Iterate for ("stdout"|"stderr", bytes); then `exit_code` is set."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[pb.ExecRequest, pb.ExecResponse]") -> None:
        self._call = call
        self.exit_code: int | None = None

    async def write(self, data: bytes) -> None:
        with translated_errors:
            await self._call.write(pb.ExecRequest(stdin=data))

    async def resize(self, width: int, height: int) -> None:
        with translated_errors:
            await self._call.write(pb.ExecRequest(resize=pb.TerminalSize(width=width, height=height)))

    async def close_stdin(self) -> None:
        with translated_errors:
            await self._call.write(pb.ExecRequest(close_stdin=True))

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        with translated_errors:
            while isinstance(response := await self._call.read(), pb.ExecResponse):
                match response.WhichOneof("message"):
                    case "stdout":
                        yield "stdout", response.stdout
                    case "stderr":
                        yield "stderr", response.stderr
                    case "exit_code":
                        self.exit_code = response.exit_code

    def cancel(self) -> None:
        self._call.cancel()


class PortForwardStream:
    """One connection to a port of a pod."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[pb.PortForwardRequest, pb.PortForwardResponse]") -> None:
        self._call = call

    async def read(self) -> bytes:
        """Empty at the end."""
        with translated_errors:
            response = await self._call.read()
        return response.data if isinstance(response, pb.PortForwardResponse) else b""

    async def write(self, data: bytes) -> None:
        with translated_errors:
            await self._call.write(pb.PortForwardRequest(data=data))

    async def close_write(self) -> None:
        """The pod reads end-of-file; what it still sends can be read."""
        with translated_errors:
            await self._call.done_writing()

    def cancel(self) -> None:
        self._call.cancel()


class PodStreams:
    def __init__(self, stub: _Stub) -> None:
        self._stub = stub

    async def logs(
        self,
        name: str,
        namespace: str = "default",
        *,
        container: str = "",
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_seconds: int | None = None,
        since_time: float | None = None,
        timestamps: bool = False,
        limit_bytes: int | None = None,
    ) -> AsyncIterator[bytes]:
        """Chunks of bytes, not lines; with follow until the container ends. since_time in seconds since the epoch."""
        request = pb.LogsRequest(
            namespace=namespace,
            pod=name,
            container=container,
            follow=follow,
            previous=previous,
            tail_lines=tail_lines,
            since_seconds=since_seconds,
            timestamps=timestamps,
            limit_bytes=limit_bytes,
        )
        if since_time is not None:
            request.since_time.FromNanoseconds(int(since_time * 1e9))
        call = self._stub.Logs(request)
        try:
            with translated_errors:
                async for chunk in call:
                    yield chunk.data
        finally:
            call.cancel()

    async def exec(
        self,
        name: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str = "",
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
    ) -> ExecStream:
        start = pb.ExecStart(
            namespace=namespace,
            pod=name,
            container=container,
            command=command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr and not tty,
            tty=tty,
        )
        return await self._begin(self._stub.Exec(), start)

    async def attach(
        self, name: str, namespace: str = "default", *, container: str = "", stdin: bool = False, tty: bool = False
    ) -> ExecStream:
        start = pb.ExecStart(
            namespace=namespace, pod=name, container=container, stdin=stdin, stdout=True, stderr=not tty, tty=tty
        )
        return await self._begin(self._stub.Attach(), start)

    async def port_forward(self, name: str, namespace: str, port: int) -> PortForwardStream:
        call = self._stub.PortForward()
        start = pb.PortForwardStart(namespace=namespace, pod=name, port=port)
        with translated_errors:
            await call.write(pb.PortForwardRequest(start=start))
        return PortForwardStream(call)

    async def _begin(
        self, call: "grpc.aio.StreamStreamCall[pb.ExecRequest, pb.ExecResponse]", start: pb.ExecStart
    ) -> ExecStream:
        with translated_errors:
            await call.write(pb.ExecRequest(start=start))
        return ExecStream(call)
