"""/metrics, /healthz, /livez and /readyz over HTTP/1.1: a few lines over asyncio instead of a web framework.

Serves GET and HEAD, keeps connections open, answers anything malformed with 400 and closes. Requests carry no body.
"""

import asyncio
import gzip
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.exposition import generate_latest

# Returns (status, content type, body).
Page = Callable[[], tuple[int, str, bytes]]

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_IDLE_SECONDS = 120.0
_MAX_HEADERS = 100


class Pages:
    """`not_ready` gives what the service still waits for; empty means ready."""

    def __init__(self, not_ready: Callable[[], list[str]]) -> None:
        self._pages: dict[str, Page] = {
            "/metrics": lambda: (200, _METRICS, generate_latest(REGISTRY)),
            "/healthz": lambda: (200, _TEXT, b"ok"),
            "/livez": lambda: (200, _TEXT, b"ok"),
            "/readyz": lambda: _readiness(not_ready()),
            "/debug/tasks": _tasks,
        }
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def add(self, path: str, page: Page) -> None:
        self._pages[path] = page

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a page; 404 for one that does not exist."""
        page = self._pages.get(path)
        if page is None:
            return 404, _TEXT, ("not found; there are " + " ".join(self._pages)).encode()
        return page()

    async def start(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Returns the port. Raises OSError when it is taken."""
        self._server = await asyncio.start_server(self._connected, address, port, ssl=tls, limit=16384)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; False when the connection is to be closed."""
        async with asyncio.timeout(_IDLE_SECONDS):
            request = (await reader.readline()).decode("latin-1").split()
            if not request:
                return False
            headers = await _headers(reader)
        if len(request) != 3 or headers is None:
            _write(writer, 400, _TEXT, b"bad request", close=True)
            return False
        method, target, version = request
        close = headers.get("connection", "").lower() == "close" or version == "HTTP/1.0"
        if method not in ("GET", "HEAD"):
            status, kind, body = 405, _TEXT, b"method not allowed"
            close = True
        else:
            status, kind, body = self.answer(target.partition("?")[0])
        packed = len(body) > 4096 and "gzip" in headers.get("accept-encoding", "")
        if packed:
            body = gzip.compress(body, 1)
        _write(writer, status, kind, body, close=close, packed=packed, head=method == "HEAD")
        await writer.drain()
        return not close


async def _headers(reader: asyncio.StreamReader) -> dict[str, str] | None:
    """None when there are too many, or one is malformed."""
    headers: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        line = (await reader.readline()).decode("latin-1").rstrip("\r\n")
        if not line:
            return headers
        name, separator, value = line.partition(":")
        if not separator:
            return None
        headers[name.lower()] = value.strip()
    return None


def _write(
    writer: asyncio.StreamWriter, status: int, kind: str, body: bytes, *, close: bool, packed: bool = False,
    head: bool = False,
) -> None:  # fmt: skip
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        *(["Content-Encoding: gzip"] if packed else []),
        *(["Connection: close"] if close else []),
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if head else body))


def _readiness(waiting: list[str]) -> tuple[int, str, bytes]:
    if waiting:
        return 503, _TEXT, ("not ready: " + ", ".join(waiting)).encode()
    return 200, _TEXT, b"ok"


def _tasks() -> tuple[int, str, bytes]:
    """What every asyncio task waits at: for a service that seems stuck."""
    lines = []
    for task in sorted(asyncio.all_tasks(), key=lambda t: t.get_name()):
        frames: list[Any] = task.get_stack(limit=3)
        where = " < ".join(f"{f.f_code.co_qualname}:{f.f_lineno}" for f in reversed(frames))
        lines.append(f"{task.get_name()}\t{where}\n")
    return 200, _TEXT, "".join(lines).encode()
