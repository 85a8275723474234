"""The gRPC servers of a service: one, or several on one port.

grpc.aio takes one new call from the core per turn of the event loop and server. Where a turn is long, because hundreds
of calls are being served, new calls queue up before the server, and each turn brings little work for what it costs.
Several servers on one port (SO_REUSEPORT: the kernel spreads connections over them) take as many calls a turn. Measured
on the apiserver at 64 clients, see docs/performance.md.
"""

import asyncio
import errno
import socket
import sys
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

# Long-lived streams are the normal case: pings of idle clients are fine, and nothing is limited in size.
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_concurrent_streams", 100_000),
)


class Acceptors:
    """Stands in for one grpc.aio.Server. Make it on the event loop."""

    def __init__(self, count: int = 1) -> None:
        options = (*SERVER_OPTIONS, ("grpc.so_reuseport", int(count > 1)))
        self._servers = [grpc.aio.server(options=options) for _ in range(count)]
        self._claims: list[socket.socket] = []

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        """The only way in: of methods that are registered with the core grpc.aio awaits each one's next call apart, and
        does so anew for all of them whenever one comes.
        """
        for server in self._servers:
            server.add_generic_rpc_handlers(handlers)

    def listen(self, host: str, port: int, credentials: Callable[[], grpc.ServerCredentials] | None) -> int:
        """Binds a port (0: a free one) and returns it. ``credentials`` are made for each server; None is plain text.

        Raises RuntimeError, OSError when the port is taken.
        """
        if len(self._servers) > 1 and port:
            # Another process that shares its port would be let in beside us.
            _must_be_free(host.strip("[]"), port)
        for server in self._servers:
            at = f"{host}:{port}"
            bound = server.add_insecure_port(at) if credentials is None else server.add_secure_port(at, credentials())
            if not bound:
                raise RuntimeError("gRPC could not bind it")
            if len(self._servers) > 1 and server is self._servers[0]:
                self._claims += _claim(host.strip("[]"), bound)
            port = bound
        return port

    async def start(self) -> None:
        for server in self._servers:
            await server.start()

    async def stop(self, grace: float | None) -> None:
        """Lets calls in progress finish for ``grace`` seconds, all servers at the same time."""
        await asyncio.gather(*(server.stop(grace) for server in self._servers))
        while self._claims:
            self._claims.pop().close()


def _claim(host: str, port: int) -> list[socket.socket]:
    """Held while the port is served: two processes that found it free at the same moment must not share it.

    A name of Linux's abstract namespace, which goes with the process; none elsewhere. Raises OSError when another has
    it.
    """
    if not sys.platform.startswith("linux"):
        return []
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0tillerman/acceptors/{host}:{port}")
    except OSError:
        claim.close()
        raise
    return [claim]


def _must_be_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise
