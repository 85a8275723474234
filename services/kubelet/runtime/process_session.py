"""Exec and attach of the process runtime."""

import asyncio
import fcntl
import json
import os
import struct
import sys
import tempfile
import termios
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from services.kubelet.runtime.interface import Output, RuntimeFailure
from services.kubelet.runtime.process_files import SHIM

_CHUNK = 65536


class ExecSession:
    """A command in a container's namespaces, started through the shim."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int | None) -> None:
        self._process = process
        self._terminal = terminal
        self._reader: asyncio.StreamReader | None = None
        self._transport: asyncio.BaseTransport | None = None

    @classmethod
    async def start(cls, spec: Mapping[str, Any], *, stdin: bool, tty: bool, folder: Path) -> "ExecSession":
        handle, path = tempfile.mkstemp(prefix="exec-", suffix=".json", dir=folder)
        with os.fdopen(handle, "w") as file:
            json.dump({**spec, "tty": tty}, file)
        argv = [sys.executable, "-I", "-S", SHIM, "exec", path]
        if not tty:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            return cls(process, None)
        master, slave = os.openpty()
        try:
            process = await asyncio.create_subprocess_exec(*argv, stdin=slave, stdout=slave, stderr=slave)
        finally:
            os.close(slave)
        session = cls(process, master)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        os.set_blocking(master, False)
        session._reader = reader
        session._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(master), "rb", buffering=0)
        )
        return session

    async def output(self) -> AsyncIterator[Output]:
        if self._reader is not None:
            while True:
                try:
                    data = await self._reader.read(_CHUNK)
                except OSError:
                    # The terminal's other end is closed.
                    return
                if not data:
                    return
                yield Output(data)
        queue: asyncio.Queue[Output | None] = asyncio.Queue(64)

        async def drain(stream: asyncio.StreamReader, stderr: bool) -> None:
            while data := await stream.read(_CHUNK):
                await queue.put(Output(data, stderr))
            await queue.put(None)

        streams = (self._process.stdout, self._process.stderr)
        tasks = [asyncio.create_task(drain(s, i == 1)) for i, s in enumerate(streams) if s is not None]
        try:
            open_streams = len(tasks)
            while open_streams:
                part = await queue.get()
                if part is None:
                    open_streams -= 1
                else:
                    yield part
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        try:
            if self._terminal is not None:
                while data:
                    try:
                        data = data[os.write(self._terminal, data) :]
                    except BlockingIOError:
                        await asyncio.sleep(0.01)
            elif self._process.stdin is not None:
                self._process.stdin.write(data)
                await self._process.stdin.drain()
        except (OSError, RuntimeError):
            return

    async def close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def resize(self, width: int, height: int) -> None:
        if self._terminal is not None:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def exit_code(self) -> int:
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._process.returncode is None:
            try:
                self._process.kill()
            except ProcessLookupError:
                pass
            await self._process.wait()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None


class AttachSession:
    """A running container's streams, over the shim's socket: frames of kind, length (4 bytes) and data."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, folder: Path) -> None:
        self._reader = reader
        self._writer = writer
        self._folder = folder

    @classmethod
    async def open(cls, folder: Path) -> "AttachSession":
        """Raises RuntimeFailure."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Socket paths are short; the folder's may be long.
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{handle}/attach.sock")
        except OSError as error:
            raise RuntimeFailure(f"cannot attach: {error}") from error
        finally:
            os.close(handle)
        return cls(reader, writer, folder)

    async def output(self) -> AsyncIterator[Output]:
        try:
            while True:
                head = await self._reader.readexactly(5)
                data = await self._reader.readexactly(int.from_bytes(head[1:], "big"))
                yield Output(data, stderr=head[0] == 2)
        except (asyncio.IncompleteReadError, OSError):
            return

    async def write(self, data: bytes) -> None:
        await self._send(0, data)

    async def close_stdin(self) -> None:
        await self._send(4, b"")

    async def resize(self, width: int, height: int) -> None:
        await self._send(3, struct.pack(">HH", width, height))

    async def _send(self, kind: int, data: bytes) -> None:
        try:
            self._writer.write(bytes([kind]) + len(data).to_bytes(4, "big") + data)
            await self._writer.drain()
        except (OSError, RuntimeError):
            return

    async def exit_code(self) -> int:
        for _ in range(50):
            try:
                return int(json.loads((self._folder / "exit.json").read_text())["code"])
            except (OSError, ValueError, KeyError):
                await asyncio.sleep(0.02)
        return 0

    async def close(self) -> None:
        self._writer.close()
