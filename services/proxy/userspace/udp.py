"""A UDP relay: one listener, and per client one socket connected to a backend, until it has been quiet for a while."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from services.proxy import metrics
from services.proxy.model import Target
from services.proxy.userspace.balancer import Balancer

IDLE_SECONDS = 60.0
# Datagrams kept while the backend's socket is being opened.
WAITING_DATAGRAMS = 64

Client = tuple[Any, ...]


class Flow(asyncio.DatagramProtocol):
    """What one client exchanges with one backend."""

    def __init__(self, relay: "UdpRelay", client: Client, target: Target) -> None:
        self._relay = relay
        self._client = client
        self.target = target
        self.last = relay.now()
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: list[bytes] = []
        self._closed = False

    async def open(self) -> None:
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, remote_addr=self.target)
        except OSError:
            self._relay.drop(self._client, self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.DatagramTransport, transport)
        if self._closed:
            self._transport.abort()
            return
        for datagram in self._waiting:
            self._transport.sendto(datagram)
        self._waiting.clear()

    def send(self, data: bytes) -> None:
        self.last = self._relay.now()
        if self._transport is not None:
            self._transport.sendto(data)
        elif len(self._waiting) < WAITING_DATAGRAMS:
            self._waiting.append(data)

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.last = self._relay.now()
        self._relay.answer(self._client, data)

    def error_received(self, error: Exception) -> None:
        # Nobody listens there (any more): the client's next datagram picks again.
        self._relay.drop(self._client, self)

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class UdpRelay(asyncio.DatagramProtocol):
    """Listens on one address and port for one Service port."""

    def __init__(self, balancer: Balancer, *, now: Callable[[], float]) -> None:
        self.balancer = balancer
        self.now = now
        self._transport: asyncio.DatagramTransport | None = None
        self._flows: dict[Client, Flow] = {}
        self._opening: set[asyncio.Task[None]] = set()

    async def listen(self, address: str, port: int) -> None:
        """Raises OSError when the address cannot be bound."""
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=(address, port))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Client) -> None:
        flow = self._flows.get(address)
        if flow is None:
            target = next(self.balancer.candidates(str(address[0])), None)
            if target is None:
                return
            self.balancer.connected(str(address[0]), target)
            flow = self._flows[address] = Flow(self, address, target)
            metrics.CONNECTIONS.labels("UDP").inc()
            task = asyncio.get_running_loop().create_task(flow.open(), name="proxy-udp-open")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        flow.send(data)

    def answer(self, client: Client, data: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(data, client)

    def drop(self, client: Client, flow: Flow) -> None:
        if self._flows.get(client) is flow:
            del self._flows[client]
            metrics.CONNECTIONS.labels("UDP").dec()
        flow.close()

    def targets_changed(self) -> None:
        """Clients of a backend that is gone move to another one at once."""
        for client, flow in list(self._flows.items()):
            if flow.target not in self.balancer:
                self.drop(client, flow)

    def expire(self) -> None:
        self.balancer.expire()
        limit = self.now() - IDLE_SECONDS
        for client, flow in list(self._flows.items()):
            if flow.last < limit:
                self.drop(client, flow)

    def close(self) -> None:
        for client, flow in list(self._flows.items()):
            self.drop(client, flow)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    abort = close
