"""Logs, exec and attach over Docker's streams."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.kubelet.runtime.docker_engine import Engine, EngineStream
from services.kubelet.runtime.interface import LogOptions, Output, RuntimeFailure

_STDERR = 2


async def frames(stream: EngineStream, *, tty: bool) -> AsyncIterator[Output]:
    """Docker's framing taken off: 1 byte stream, 3 unused, 4 length, data. A terminal has none."""
    if tty:
        async for chunk in stream.chunks():
            yield Output(chunk)
        return
    buffer = bytearray()
    async for chunk in stream.chunks():
        buffer += chunk
        while len(buffer) >= 8:
            kind, length = struct.unpack_from(">BxxxI", buffer)
            if len(buffer) < 8 + length:
                break
            data = bytes(buffer[8 : 8 + length])
            del buffer[: 8 + length]
            yield Output(data, stderr=kind == _STDERR)


async def read_logs(engine: Engine, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
    """Raises RuntimeFailure and its kinds. Stops after options.limit_bytes."""
    answer = await engine.call("inspect", lambda client: client.inspect_container(container_id))
    query = {"stdout": "1", "stderr": "1"}
    if options.follow:
        query["follow"] = "1"
    if options.timestamps:
        query["timestamps"] = "1"
    if options.tail_lines is not None:
        query["tail"] = str(options.tail_lines)
    if options.since is not None:
        query["since"] = f"{options.since:.9f}"
    stream = await engine.stream("GET", f"/containers/{container_id}/logs", query=query)
    left = options.limit_bytes
    try:
        async for output in frames(stream, tty=bool(answer["Config"].get("Tty"))):
            data = output.data if left is None else output.data[:left]
            if data:
                yield data
            if left is not None:
                left -= len(data)
                if left <= 0:
                    return
    finally:
        stream.close()


class DockerSession:
    """An exec or an attached container."""

    def __init__(self, engine: Engine, stream: EngineStream, *, exec_id: str, container_id: str, tty: bool) -> None:
        self._engine = engine
        self._stream = stream
        self._exec_id = exec_id
        self._container_id = container_id
        self._tty = tty

    @classmethod
    async def exec(
        cls, engine: Engine, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> "DockerSession":
        def create(client: Any) -> str:
            return str(client.exec_create(container_id, list(command), stdin=stdin, tty=tty)["Id"])

        exec_id = await engine.call("exec_create", create)
        body = {"Detach": False, "Tty": tty}
        stream = await engine.stream("POST", f"/exec/{exec_id}/start", body=body, upgrade=True)
        return cls(engine, stream, exec_id=exec_id, container_id=container_id, tty=tty)

    @classmethod
    async def attach(cls, engine: Engine, container_id: str, *, stdin: bool, tty: bool) -> "DockerSession":
        """Raises RuntimeFailure for a container that has ended: Docker would attach to it, and never say a word."""
        query = {"stream": "1", "stdout": "1", "stderr": "1", "stdin": "1" if stdin else "0"}
        stream = await engine.stream("POST", f"/containers/{container_id}/attach", query=query, upgrade=True)
        try:
            answer = await engine.call("inspect", lambda client: client.inspect_container(container_id))
            if not answer["State"].get("Running"):
                raise RuntimeFailure(f"container {container_id[:12]} is not running")
        except RuntimeFailure:
            stream.close()
            raise
        return cls(engine, stream, exec_id="", container_id=container_id, tty=tty)

    def output(self) -> AsyncIterator[Output]:
        return frames(self._stream, tty=self._tty)

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def close_stdin(self) -> None:
        self._stream.close_write()

    async def resize(self, width: int, height: int) -> None:
        def resize(client: Any) -> None:
            if self._exec_id:
                client.exec_resize(self._exec_id, height=height, width=width)
            else:
                client.resize(self._container_id, height=height, width=width)

        try:
            await self._engine.call("resize", resize)
        except RuntimeFailure:
            # The process may have ended, or not quite started; the size is not worth an error.
            return

    async def exit_code(self) -> int:
        if not self._exec_id:
            answer = await self._engine.call("inspect", lambda client: client.inspect_container(self._container_id))
            return int(answer["State"].get("ExitCode") or 0)
        # The stream may end a moment before Docker has noted the exit.
        for _ in range(100):
            answer = await self._engine.call("exec_inspect", lambda client: client.exec_inspect(self._exec_id))
            if not answer.get("Running") and answer.get("ExitCode") is not None:
                return int(answer["ExitCode"])
            await asyncio.sleep(0.02)
        raise RuntimeFailure("the command's exit code is not known: its output ended but it still runs")

    async def close(self) -> None:
        self._stream.close()
