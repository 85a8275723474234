"""Forgets UDP flows that conntrack still sends to a backend that is gone (or, before there was one, nowhere).

TCP needs none of this: its connections end by themselves, and a draining pod may finish them.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.proxy.model import ServicePort
from services.proxy.nft.netlink import (
    NFNL_SUBSYS_CTNETLINK,
    Message,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
)

GET, DELETE = 1, 2
TUPLE_ORIGINAL, TUPLE_REPLY, ID = 1, 2, 12
UDP = 17


@dataclass(frozen=True, slots=True)
class Flow:
    """One conntrack entry: what the client sent to, and who answers."""

    protocol: int
    destination: bytes
    destination_port: int
    backend: bytes
    backend_port: int
    original: bytes
    identity: bytes


@dataclass(frozen=True, slots=True)
class StaleFlows:
    """Flows to these (address, port) pairs, or to the NodePort, whose backend is not among the present targets."""

    addresses: frozenset[bytes]
    port: int
    node_port: int
    targets: frozenset[tuple[bytes, int]]

    @classmethod
    def between(cls, before: ServicePort | None, after: ServicePort | None) -> "StaleFlows | None":
        """None when the change can leave no stale flow behind: the same addresses, and targets only joined some."""
        if before is not None and after is not None:
            had, has = set(before.targets), set(after.targets)
            if had and had <= has and before.addresses == after.addresses and before.node_port == after.node_port:
                return None
        port = before or after
        if port is None or port.key.protocol != "UDP":
            return None
        known = [p for p in (before, after) if p is not None]
        current = set(after.targets) | set(after.outside_targets) if after is not None else set()
        return cls(
            addresses=frozenset(packed(ip) for p in known for ip in p.addresses),
            port=port.port,
            node_port=port.node_port,
            targets=frozenset((packed(ip), number) for ip, number in current),
        )

    def covers(self, flow: Flow) -> bool:
        if flow.protocol != UDP or (flow.backend, flow.backend_port) in self.targets:
            return False
        if flow.destination_port == self.port and flow.destination in self.addresses:
            return True
        return bool(self.node_port) and flow.destination_port == self.node_port


def packed(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))


def flush(socket: NetlinkSocket, stale: Iterable[StaleFlows]) -> int:
    """Deletes the stale flows and returns how many there were. Raises NetlinkError."""
    wanted = list(stale)
    found = [flow for flow in flows(socket) if any(s.covers(flow) for s in wanted)]
    for flow in found:
        body = nested(TUPLE_ORIGINAL, flow.original) + attribute(ID, flow.identity)
        try:
            socket.request(NFNL_SUBSYS_CTNETLINK, Message(DELETE, 0, body, "conntrack entry"))
        except NetlinkError:
            pass  # it ended meanwhile
    return len(found)


def flows(socket: NetlinkSocket) -> Iterator[Flow]:
    for body in socket.dump(NFNL_SUBSYS_CTNETLINK, GET):
        parts = dict(attributes(body))
        original, reply = parts.get(TUPLE_ORIGINAL), parts.get(TUPLE_REPLY)
        if original is None or reply is None:
            continue
        protocol, _, destination, _, destination_port = tuple_of(original)
        _, backend, _, backend_port, _ = tuple_of(reply)
        yield Flow(protocol, destination, destination_port, backend, backend_port, original, parts.get(ID, b""))


def tuple_of(data: bytes) -> tuple[int, bytes, bytes, int, int]:
    """(protocol, source, destination, source port, destination port) of a conntrack tuple."""
    parts = dict(attributes(data))
    addresses, ports = dict(attributes(parts.get(1, b""))), dict(attributes(parts.get(2, b"")))
    protocol = ports.get(1, b"\0")[0]
    source_port, destination_port = (struct.unpack("!H", ports.get(kind, b"\0\0")[:2])[0] for kind in (2, 3))
    return protocol, addresses.get(1, b""), addresses.get(2, b""), source_port, destination_port
