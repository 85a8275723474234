"""A connection taken over from aiohttp: what SPDY/3.1 needs, which kubectl before 1.30 speaks for its streams, and what
passes through a proxy.

The caller sends nothing but the request's head until it has seen the 101, so the transport changes hands in between.
aiohttp's own protocol is still told when the connection is lost: it then cancels the handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tillerman.api.status import bad_request, make

SPDY = "SPDY/3.1"
VERSION_HEADER = "X-Stream-Protocol-Version"
CHUNK = 1 << 16


class _Protocol(asyncio.StreamReaderProtocol):
    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connection_lost(exc)


class Connection(web.StreamResponse):
    """The raw connection; also the handler's answer, of which nothing more is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self._reader = reader
        self._writer = writer
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> Any:
        return None

    async def write_eof(self, data: Any = b"") -> None:
        self._writer.close()

    async def received(self) -> AsyncIterator[bytes]:
        while data := await self._reader.read(CHUNK):
            yield data

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError."""
        self._writer.write(data)
        await self._writer.drain()


def wants_spdy(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").lower() == SPDY.lower()


def negotiated(request: web.BaseRequest, served: tuple[str, ...]) -> str:
    """The first stream protocol of the caller's that is served. Raises Forbidden, as kubelets do."""
    asked = [name.strip() for value in request.headers.getall(VERSION_HEADER, []) for name in value.split(",")]
    for name in asked:
        if name in served:
            return name
    words = f"unable to upgrade: unable to negotiate protocol: client supports {asked}, server supports {list(served)}"
    raise make(403, "Forbidden", words)


def take_over(request: web.BaseRequest, protocol: str) -> Connection:
    """Says 101 and hands the connection over. Raises BadRequest when the caller has left."""
    head = (
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {SPDY}\r\n"
        f"{VERSION_HEADER}: {protocol}\r\n\r\n"
    )
    return hand_over(request, head.encode())


def hand_over(request: web.BaseRequest, head: bytes) -> Connection:
    """Answers with ``head``; all that follows is the connection's. Raises BadRequest when the caller has left."""
    transport = request.transport
    if transport is None:
        raise bad_request("the connection is lost")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=CHUNK, loop=loop)
    own = _Protocol(reader, transport.get_protocol())
    transport.set_protocol(own)
    own.connection_made(transport)
    transport.write(head)
    return Connection(reader, asyncio.StreamWriter(transport, own, reader, loop))
