"""Forwards questions to the machine's own resolvers, as they are, and keeps the answers for a short while.

Questions that are under way are asked once, however many ask. Runs in the event loop.
"""

import asyncio
import random
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import dns.exception
import dns.message
import dns.rcode
import structlog

from services.proxy import metrics

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 2.0
ATTEMPTS = 2
CACHE_ENTRIES = 10_000
# Answers are kept unchanged, so for at most as long as a TTL that is off by that much does no harm.
CACHE_SECONDS = 30
DNS_PORT = 53


class UpstreamError(Exception):
    """No resolver answered."""


class _Exchange(asyncio.DatagramProtocol):
    """One question to one server."""

    def __init__(self, question: bytes) -> None:
        self._question = question
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.DatagramTransport, transport).sendto(self._question)

    def datagram_received(self, data: bytes, address: Any) -> None:
        if data[:2] == self._question[:2] and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Upstream:
    """`exclude` are addresses that must not be asked: cluster DNS itself."""

    def __init__(
        self,
        *,
        resolv_conf: Path = Path("/etc/resolv.conf"),
        exclude: Callable[[], set[str]] = set,
        now: Callable[[], float] = time.monotonic,
        port: int = DNS_PORT,
    ) -> None:
        self._path = resolv_conf
        self._exclude = exclude
        self._now = now
        self._port = port
        self._read: tuple[float, list[str]] = (-1.0, [])
        self._cache: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._asking: dict[tuple[bytes, bool], asyncio.Task[bytes]] = {}

    def servers(self) -> list[str]:
        try:
            changed = self._path.stat().st_mtime
            if changed != self._read[0]:
                self._read = (changed, parse_resolv_conf(self._path.read_text()))
        except OSError:
            return []
        exclude = self._exclude()
        return [server for server in self._read[1] if server not in exclude]

    async def ask(self, query: bytes, *, tcp: bool) -> bytes:
        """The answer to a query in wire format, with the query's id. Raises UpstreamError."""
        key = query[2:]
        held = self._cache.get(key)
        if held is not None and self._now() < held[0]:
            metrics.DNS_CACHE_HITS.labels("dns://", ".").inc()
            return query[:2] + held[1][2:]
        metrics.DNS_CACHE_MISSES.labels("dns://", ".").inc()
        task = self._asking.get((key, tcp))
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(query, tcp), name="dns-upstream")
            self._asking[key, tcp] = task
            task.add_done_callback(lambda _: self._asking.pop((key, tcp), None))
        answer = await asyncio.shield(task)
        return query[:2] + answer[2:]

    async def _ask(self, query: bytes, tcp: bool) -> bytes:
        servers = self.servers()
        for server in servers * ATTEMPTS:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    answer = await (self._over_tcp if tcp else self._over_udp)(server, query)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
            metrics.DNS_FORWARD_DURATION.labels(f"{server}:{self._port}").observe(time.perf_counter() - began)
            self._keep(query[2:], answer)
            return answer
        raise UpstreamError(f"no answer from {', '.join(servers)}" if servers else f"no resolvers in {self._path}")

    async def _over_udp(self, server: str, query: bytes) -> bytes:
        question = struct.pack("!H", random.getrandbits(16)) + query[2:]
        loop = asyncio.get_running_loop()
        transport, exchange = await loop.create_datagram_endpoint(
            lambda: _Exchange(question), remote_addr=(server, self._port)
        )
        try:
            return await exchange.answer
        finally:
            transport.abort()

    async def _over_tcp(self, server: str, query: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(struct.pack("!H", len(query)) + query)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            return await reader.readexactly(length)
        finally:
            writer.close()

    def _keep(self, key: bytes, answer: bytes) -> None:
        seconds = lifetime(answer)
        if seconds <= 0:
            return
        self._cache[key] = (self._now() + min(seconds, CACHE_SECONDS), answer)
        self._cache.move_to_end(key)
        while len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)


def lifetime(answer: bytes) -> int:
    """Seconds for which the answer may be kept; 0 for errors and truncated ones."""
    try:
        message = dns.message.from_wire(answer, ignore_trailing=True)
    except dns.exception.DNSException:
        return 0
    if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or message.flags & dns.flags.TC:
        return 0
    ttls = [rrset.ttl for section in (message.answer, message.authority) for rrset in section]
    return min(ttls, default=0)


def parse_resolv_conf(content: str) -> list[str]:
    """The IPv4 name servers of a resolv.conf."""
    servers = []
    for line in content.splitlines():
        fields = line.split("#")[0].split(";")[0].split()
        if len(fields) >= 2 and fields[0] == "nameserver" and "." in fields[1]:
            servers.append(fields[1])
    return servers
