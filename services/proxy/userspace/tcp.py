"""A TCP relay: one listener, and per connection two protocols that feed each other.

Bytes are handed on as they come. A side that cannot write pauses the other side's reading, so memory stays bounded. One
side's end of stream is passed on as such, and the other direction goes on. Everything runs in the event loop; a relay's
connections outlive their backend's removal from the Service, as the kernel's do, and end when either side ends them.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from services.proxy import metrics
from services.proxy.userspace.balancer import Balancer

CONNECT_SECONDS = 5.0
BACKLOG = 1024


class Pipe(asyncio.Protocol):
    """One side of a connection; `peer` is the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: Pipe | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        peer = self.peer
        if peer is None or peer.transport is None or peer.transport.is_closing():
            return False
        if peer.transport.can_write_eof():
            peer.transport.write_eof()
        # Stays open for the other direction until that has ended too.
        return not peer._ended

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None and not self.peer.transport.is_closing():
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.peer is not None and self.peer.transport is not None:
            if error is not None:
                self.peer.transport.abort()
            else:
                self.peer.transport.close()


class Front(Pipe):
    """The client's side: reads nothing until a backend has accepted; what uvloop hands on all the same is kept."""

    def __init__(self, relay: "TcpRelay") -> None:
        super().__init__()
        self._relay = relay
        self._connecting: asyncio.Task[None] | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._relay.fronts.add(self)
        metrics.CONNECTIONS.labels("TCP").inc()
        self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="proxy-connect")

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self._early += data
        else:
            super().data_received(data)

    def eof_received(self) -> bool:
        if self.peer is None:
            self._ended = True
            return True
        return super().eof_received()

    async def _connect(self) -> None:
        transport, loop = self.transport, asyncio.get_running_loop()
        assert transport is not None
        client = str((transport.get_extra_info("peername") or ("",))[0])
        for target in self._relay.balancer.candidates(client):
            back = Pipe()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.create_connection(lambda back=back: back, *target)  # type: ignore[misc]
            except (OSError, TimeoutError):
                continue
            if transport.is_closing():
                if back.transport is not None:
                    back.transport.abort()
                return
            self._relay.balancer.connected(client, target)
            self.peer, back.peer = back, self
            no_delay(transport)
            if back.transport is not None:
                no_delay(back.transport)
                if self._early:
                    back.transport.write(self._early)
                    self._early = b""
                if self._ended:
                    back.transport.write_eof()
            transport.resume_reading()
            return
        # No backend took it: a reset, which is what the client would have got from the backend itself.
        transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._relay.fronts.discard(self)
        metrics.CONNECTIONS.labels("TCP").dec()
        if self._connecting is not None:
            self._connecting.cancel()


def no_delay(transport: asyncio.Transport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class TcpRelay:
    """Listens on one address and port for one Service port."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.fronts: set[Front] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, address: str, port: int) -> None:
        """Raises OSError when the address cannot be bound."""
        factory: Callable[[], Front] = lambda: Front(self)  # noqa: E731
        self._server = await asyncio.get_running_loop().create_server(
            factory, address, port, backlog=BACKLOG, reuse_address=True
        )

    def close(self) -> None:
        """Stops listening; open connections go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def abort(self) -> None:
        """Stops listening and ends every connection."""
        self.close()
        for front in list(self.fronts):
            if front.transport is not None:
                front.transport.abort()

    def targets_changed(self) -> None:
        """Open TCP connections are left to their backends."""

    def expire(self) -> None:
        self.balancer.expire()
