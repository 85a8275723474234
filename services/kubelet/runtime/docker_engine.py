"""The connection to one Docker Engine: the SDK's calls in a bounded thread pool, streams on asyncio sockets.

The SDK is synchronous, so every call of it runs in this engine's own threads. Streams (events, logs, exec, attach) are
read from a plain asyncio connection instead: a thread per follower would be exhausted by a few `logs -f`, and the
SDK's hijacked sockets lose what was already buffered with the response's head.
"""

import asyncio
import functools
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import docker
import docker.errors
import requests.exceptions

from services.kubelet.metrics import RUNTIME_DURATION, RUNTIME_ERRORS, RUNTIME_OPERATIONS
from services.kubelet.runtime.interface import (
    ConflictFailure,
    NotFoundFailure,
    RuntimeFailure,
    RuntimeUnavailable,
)

R = TypeVar("R")
# Docker starts containers no faster with more than this many at once; two kubelets may share one engine.
_START_SLOTS = 4
_THREADS = 16
_CALL_TIMEOUT = 120


class Engine:
    def __init__(self, *, threads: int = _THREADS) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="docker")
        # Pulls last long; they must not keep other calls waiting.
        self._pulls = ThreadPoolExecutor(4, thread_name_prefix="docker-pull")
        self._client: Any = None
        self._streams: set[asyncio.StreamWriter] = set()
        self.starting = asyncio.Semaphore(_START_SLOTS)

    async def connect(self) -> None:
        """Raises RuntimeUnavailable."""

        def make() -> Any:
            options = docker.utils.kwargs_from_env()
            return docker.APIClient(version="auto", timeout=_CALL_TIMEOUT, num_pools=_THREADS + 8, **options)

        loop = asyncio.get_running_loop()
        try:
            self._client = await loop.run_in_executor(self._threads, make)
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise RuntimeUnavailable(f"cannot reach the Docker Engine: {error}") from error

    async def close(self) -> None:
        for writer in list(self._streams):
            writer.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pulls.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def call(self, operation: str, fn: Callable[[Any], R], *, pull: bool = False) -> R:
        """Runs fn(APIClient) in a thread. operation names it in the metrics. Raises RuntimeFailure and its kinds."""
        if self._client is None:
            await self.connect()
        RUNTIME_OPERATIONS.labels(operation).inc()
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._pulls if pull else self._threads, functools.partial(fn, self._client)
            )
        except docker.errors.APIError as error:
            RUNTIME_ERRORS.labels(operation).inc()
            raise failure_of(error.status_code, error.explanation or str(error)) from error
        except (requests.exceptions.RequestException, OSError) as error:
            RUNTIME_ERRORS.labels(operation).inc()
            raise RuntimeUnavailable(f"the Docker Engine did not answer: {error}") from error
        except docker.errors.DockerException as error:
            RUNTIME_ERRORS.labels(operation).inc()
            raise RuntimeFailure(str(error)) from error
        finally:
            RUNTIME_DURATION.labels(operation).observe(time.perf_counter() - started)

    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        upgrade: bool = False,
    ) -> "EngineStream":
        """Opens a stream of its own; the caller closes it. Raises RuntimeFailure and its kinds."""
        try:
            reader, writer = await self._open()
        except (OSError, ssl.SSLError) as error:
            raise RuntimeUnavailable(f"cannot reach the Docker Engine: {error}") from error
        stream = EngineStream(reader, writer, self._streams)
        try:
            target = f"/v{self._client.api_version}{quote(path)}" + (f"?{urlencode(query)}" if query else "")
            data = b"" if body is None else json.dumps(body).encode()
            head = [f"{method} {target} HTTP/1.1", "Host: docker", f"Content-Length: {len(data)}"]
            if body is not None:
                head.append("Content-Type: application/json")
            head += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else ["Connection: close"]
            writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + data)
            await writer.drain()
            await stream.read_head()
        except (OSError, asyncio.IncompleteReadError) as error:
            stream.close()
            raise RuntimeUnavailable(f"the Docker Engine closed the stream: {error}") from error
        except BaseException:
            stream.close()
            raise
        return stream

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        options = docker.utils.kwargs_from_env()
        url = options.get("base_url") or "unix:///var/run/docker.sock"
        parts = urlsplit(url)
        if parts.scheme in ("unix", "http+unix", ""):
            return await asyncio.open_unix_connection(parts.path or url, limit=1 << 20)
        context: ssl.SSLContext | None = None
        tls = options.get("tls")
        if tls is not None:
            context = ssl.create_default_context(cafile=tls.ca_cert or None)
            if tls.cert:
                context.load_cert_chain(*tls.cert)
        return await asyncio.open_connection(parts.hostname, parts.port or 2375, ssl=context, limit=1 << 20)


class EngineStream:
    """One HTTP exchange whose body is read as it comes: chunked, to the end, or hijacked (both ways)."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, open_streams: set[asyncio.StreamWriter]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._open_streams = open_streams
        self._open_streams.add(writer)
        self._chunked = False
        self.content_type = ""

    async def read_head(self) -> None:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        self._chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        self.content_type = fields.get("content-type", "")
        if status >= 400:
            text = b"".join([chunk async for chunk in self.chunks()]).decode(errors="replace")
            try:
                text = json.loads(text)["message"]
            except (ValueError, KeyError, TypeError):
                pass
            raise failure_of(status, text.strip())

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes. Ends with the stream; a broken connection counts as its end."""
        try:
            while True:
                if self._chunked:
                    size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
                    data = await self._reader.readexactly(size + 2)
                    if size == 0:
                        return
                    yield data[:-2]
                else:
                    data = await self._reader.read(65536)
                    if not data:
                        return
                    yield data
        except (OSError, asyncio.IncompleteReadError, ValueError):
            return

    async def lines(self) -> AsyncIterator[bytes]:
        """The body cut at newlines."""
        rest = b""
        async for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line

    async def write(self, data: bytes) -> None:
        """What cannot be delivered any more is dropped."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (OSError, RuntimeError):
            return

    def close_write(self) -> None:
        if self._writer.can_write_eof():
            try:
                self._writer.write_eof()
            except (OSError, RuntimeError):
                return

    def close(self) -> None:
        self._open_streams.discard(self._writer)
        self._writer.close()


def failure_of(status: int | None, words: str) -> RuntimeFailure:
    if status == 404:
        return NotFoundFailure(words)
    if status == 409:
        return ConflictFailure(words)
    return RuntimeFailure(words)
