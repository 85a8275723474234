"""The DNS server: UDP and TCP on one address, answers from the zone or from upstream.

Answers of the zone are kept encoded, by the question's exact bytes, until the Service they depend on changes. A kept
answer with several addresses has a few rotations, handed out in turn. Runs in the event loop.
"""

import asyncio
import itertools
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any, cast

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import structlog

from services.proxy import metrics
from services.proxy.dns.records import Answer, Labels, Record, Zone
from services.proxy.dns.upstream import Upstream, UpstreamError

log = structlog.get_logger(__name__)

EDNS_BYTES = 1232
PLAIN_BYTES = 512
ROTATIONS = 8
ROTATED_RECORDS = 64
CACHE_ENTRIES = 20_000
TCP_IDLE_SECONDS = 10.0
TCP_CONNECTIONS = 512
PENDING = 4096
IP_FREEBIND = 15
CNAME_DEPTH = 8


class Kept:
    """An encoded answer in its rotations, without the id."""

    __slots__ = ("_next", "wires", "zone_code")

    def __init__(self, wires: list[bytes], code: str) -> None:
        self.wires = wires
        self.zone_code = code
        self._next = 0

    def next(self) -> bytes:
        self._next = (self._next + 1) % len(self.wires)
        return self.wires[self._next]


class Resolver:
    """Answers queries in wire format. `forget(service_key)` is called for every change of a Service or its slices."""

    def __init__(self, zone: Zone, upstream: Upstream) -> None:
        self._zone = zone
        self._upstream = upstream
        self._cache: dict[bytes, Kept] = {}
        self._by_service: dict[str, set[bytes]] = {}
        self._of_all: set[bytes] = set()

    def forget(self, service_key: str) -> None:
        for key in self._by_service.pop(service_key, ()):
            self._cache.pop(key, None)
        for key in self._of_all:
            self._cache.pop(key, None)
        self._of_all.clear()

    def answer_now(self, query: bytes) -> bytes | None:
        """The answer if it is kept: no decoding at all."""
        kept = self._cache.get(query[2:])
        if kept is None:
            return None
        metrics.DNS_CACHE_HITS.labels("dns://", self._zone.domain).inc()
        return query[:2] + kept.next()

    async def answer(self, query: bytes, *, tcp: bool) -> bytes | None:
        """The answer to any datagram; None for what is no query and gets none."""
        if len(query) < 12 or query[2] & 0x80:
            return None
        began = time.perf_counter()
        try:
            message = dns.message.from_wire(query)
        except dns.exception.DNSException:
            return query[:2] + struct.pack("!HHHHH", 0x8001, 0, 0, 0, 0)
        if message.opcode() != 0 or len(message.question) != 1:
            return refusal(message, dns.rcode.NOTIMP)
        question = message.question[0]
        if question.rdclass != dns.rdataclass.IN:
            return refusal(message, dns.rcode.REFUSED)
        kind = dns.rdatatype.to_text(question.rdtype)
        name = labels(question.name.to_text())
        zone = self._zone.domain if self._zone.owns(name) else "."
        metrics.DNS_REQUESTS.labels("dns://", zone, "tcp" if tcp else "udp", "1", kind).inc()
        if zone == ".":
            answer, code = await self._forward(query, message, tcp)
        else:
            answer, code = await self._own(query, message, name, kind, tcp)
        metrics.DNS_RESPONSES.labels("dns://", zone, code).inc()
        metrics.DNS_DURATION.labels("dns://", zone).observe(time.perf_counter() - began)
        return answer

    async def lookup(self, name: str, kind: str) -> Answer:
        """The same answer in presentation form. Raises ValueError for a name or type that cannot be asked for."""
        try:
            query = dns.message.make_query(name, kind)
            wire = await self.answer(query.to_wire(), tcp=True)
            message = dns.message.from_wire(wire or b"")
        except dns.exception.DNSException as error:
            raise ValueError(f"{name} {kind}: {error}") from error
        found = Answer(dns.rcode.to_text(message.rcode()))
        for rrset in message.answer:
            owner, rtype = rrset.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(rrset.rdtype)
            found.records += [Record(owner, rtype, rrset.ttl, item.to_text()) for item in rrset]
        return found

    async def _forward(self, query: bytes, message: dns.message.Message, tcp: bool) -> tuple[bytes, str]:
        try:
            answer = await self._upstream.ask(query, tcp=tcp)
        except UpstreamError as error:
            log.debug("no upstream answer", question=str(message.question[0]), error=str(error))
            return refusal(message, dns.rcode.SERVFAIL), "SERVFAIL"
        return answer, dns.rcode.to_text(dns.rcode.from_flags(struct.unpack_from("!H", answer, 2)[0], 0))

    async def _own(
        self, query: bytes, message: dns.message.Message, name: Labels, kind: str, tcp: bool
    ) -> tuple[bytes, str]:
        found = self._zone.answer(name, kind)
        external = bool(found.cname)
        if external and kind in ("A", "AAAA"):
            found.records = [*found.records, *await self._follow(found.cname, kind)]
        limit = (
            65535 if tcp else (min(max(message.payload, PLAIN_BYTES), EDNS_BYTES) if message.edns >= 0 else PLAIN_BYTES)
        )
        addresses = [r for r in found.records if r.type == "A"]
        # A client takes the first of few addresses; of many it gets a part or comes by TCP.
        turns = min(len(addresses), ROTATIONS) if len(addresses) == len(found.records) <= ROTATED_RECORDS else 1
        wires = []
        for turn in range(max(1, turns)):
            rotated = found.records[turn:] + found.records[:turn]
            wires.append(self._encode(message, found, rotated, limit)[2:])
        if not external and not tcp:
            self._keep(query[2:], Kept(wires, found.code), found.service)
        return query[:2] + wires[0], found.code

    async def _follow(self, target: str, kind: str) -> list[Record]:
        """The addresses behind an ExternalName, in the cluster or outside."""
        name = labels(target)
        for _ in range(CNAME_DEPTH):
            if not self._zone.owns(name):
                try:
                    wire = await self._upstream.ask(dns.message.make_query(".".join(name), kind).to_wire(), tcp=False)
                    return [
                        Record(rrset.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(rrset.rdtype), rrset.ttl,
                               item.to_text())
                        for rrset in dns.message.from_wire(wire).answer
                        for item in rrset
                    ]  # fmt: skip
                except (UpstreamError, dns.exception.DNSException):
                    return []
            found = self._zone.answer(name, kind)
            if not found.cname:
                return found.records
            name = labels(found.cname)
        return []

    def _encode(self, query: dns.message.Message, found: Answer, records: list[Record], limit: int) -> bytes:
        response = dns.message.make_response(query, recursion_available=True, our_payload=EDNS_BYTES)
        response.flags |= dns.flags.AA
        response.set_rcode(dns.rcode.from_text(found.code))
        asked = query.question[0].name
        add(response.answer, records, asked)
        if not records:
            add(response.authority, [self._zone.start_of_authority()], asked)
        add(response.additional, found.additional, asked)
        try:
            return response.to_wire(max_size=limit, want_shuffle=False)
        except dns.exception.TooBig:
            response.additional.clear()
        try:
            return response.to_wire(max_size=limit, want_shuffle=False)
        except dns.exception.TooBig:
            # The client asks again over TCP.
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire(max_size=limit, want_shuffle=False)

    def _keep(self, key: bytes, kept: Kept, service: str | None) -> None:
        if len(self._cache) >= CACHE_ENTRIES:
            self._cache.clear()
            self._by_service.clear()
            self._of_all.clear()
        self._cache[key] = kept
        (self._of_all if service is None else self._by_service.setdefault(service, set())).add(key)


def labels(name: str) -> Labels:
    return tuple(name.rstrip(".").lower().split("."))


def refusal(query: dns.message.Message, code: dns.rcode.Rcode) -> bytes:
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(code)
    return response.to_wire()


def add(section: list[dns.rrset.RRset], records: Iterable[Record], asked: Any) -> None:
    """Appends the records as RRsets, in their order, under the asker's spelling of a name where it is that name."""
    for (owner, kind, ttl), group in itertools.groupby(records, key=lambda r: (r.name, r.type, r.ttl)):
        name = dns.name.from_text(owner)
        section.append(
            dns.rrset.from_text_list(asked if name == asked else name, ttl, "IN", kind, [r.data for r in group])
        )


class DnsServer(asyncio.DatagramProtocol):
    """`await start(address, port)` binds UDP and TCP; the address may belong to no interface yet."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self.address, self.port = "", 0

    async def start(self, address: str, port: int) -> None:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        udp = bound(socket.SOCK_DGRAM, address, port)
        self.address, self.port = udp.getsockname()
        try:
            tcp = bound(socket.SOCK_STREAM, address, self.port)
        except OSError:
            udp.close()
            raise
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        await loop.create_datagram_endpoint(lambda: self, sock=udp)
        self._tcp = await asyncio.start_server(self._serve_connection, sock=tcp)

    async def stop(self) -> None:
        if self._udp is not None:
            self._udp.abort()
        if self._tcp is not None:
            self._tcp.close()
        for writer in list(self._connections):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._udp = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        kept = self._resolver.answer_now(data)
        if kept is not None:
            self._send(kept, address)
        elif len(self._tasks) < PENDING:
            task = asyncio.get_running_loop().create_task(self._answer(data, address), name="dns-query")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _send(self, answer: bytes, address: Any) -> None:
        if self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(answer, address)

    async def _answer(self, data: bytes, address: Any) -> None:
        try:
            answer = await self._resolver.answer(data, tcp=False)
        except Exception:
            log.exception("a DNS query failed")
            return
        if answer is not None:
            self._send(answer, address)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= TCP_CONNECTIONS:
            writer.close()
            return
        self._connections.add(writer)
        try:
            while True:
                async with asyncio.timeout(TCP_IDLE_SECONDS):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    query = await reader.readexactly(length)
                answer = await self._resolver.answer(query, tcp=True)
                if answer is None:
                    return
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            return
        except Exception:
            log.exception("a DNS connection failed")
        finally:
            self._connections.discard(writer)
            writer.close()


def bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, kind)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1) if kind == socket.SOCK_STREAM else None
        # The pods' gateway address appears with their network, perhaps later than this process.
        opened.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        opened.bind((address, port))
    except OSError:
        opened.close()
        raise
    return opened
