"""Netlink messages of the netfilter subsystems: encoding, and one socket that sends a batch and collects its verdict.

Everything here is synchronous; a transaction of one Service takes the kernel well under a millisecond. Callers with
large batches run it in a thread. One socket is used by one thread at a time.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

NETLINK_NETFILTER = 12
NFNL_SUBSYS_CTNETLINK = 1
NFNL_SUBSYS_NFTABLES = 10
BATCH_BEGIN = 0x10
BATCH_END = 0x11

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 64 << 20


class NetlinkError(OSError):
    """The kernel refused a message: errno, and what the message was about."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request inside a batch. `about` names it in errors."""

    kind: int
    flags: int
    payload: bytes
    about: str


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, kind) + payload + b"\0" * (-len(payload) % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def u64(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!Q", value))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (type, payload) pairs of an attribute list."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def header(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", len(payload) + 16, kind, flags, sequence, 0) + payload


def family_header(family: int = socket.AF_INET, resource: int = 0) -> bytes:
    return struct.pack("!BBH", family, 0, resource)


class NetlinkSocket:
    """A netfilter netlink socket. `close()` when done."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            except PermissionError:
                pass  # the default holds small batches
        self._socket.bind((0, 0))
        self._socket.settimeout(30)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def transact(self, messages: Iterable[Message]) -> None:
        """Sends the messages as one nf_tables transaction: all take effect, or none and NetlinkError tells why."""
        batch = list(messages)
        if not batch:
            return
        self._sequence = (self._sequence + 1) & 0x3FFFFFFF
        begin = self._sequence
        resource = family_header(socket.AF_UNSPEC, NFNL_SUBSYS_NFTABLES)
        parts = [header(BATCH_BEGIN, NLM_F_REQUEST, begin, resource)]
        last = len(batch) - 1
        for i, message in enumerate(batch):
            flags = NLM_F_REQUEST | message.flags | (NLM_F_ACK if i == last else 0)
            kind = NFNL_SUBSYS_NFTABLES << 8 | message.kind
            parts.append(header(kind, flags, begin + 1 + i, family_header() + message.payload))
        parts.append(header(BATCH_END, NLM_F_REQUEST, begin + 1 + len(batch), resource))
        self._sequence = (begin + 1 + len(batch)) & 0x3FFFFFFF
        self._socket.sendall(b"".join(parts))
        self._collect(batch, begin)

    def _collect(self, batch: list[Message], begin: int) -> None:
        failure: NetlinkError | None = None
        acknowledged = False
        while not acknowledged:
            for kind, sequence, payload in messages_of(self._socket.recv(1 << 20)):
                index = sequence - begin - 1
                if kind != NLMSG_ERROR or not -1 <= index <= len(batch):
                    continue
                (code,) = struct.unpack_from("=i", payload)
                if code and failure is None:
                    about = batch[index].about if 0 <= index < len(batch) else "batch"
                    failure = NetlinkError(-code, f"{os.strerror(-code)}: {about}")
                acknowledged = acknowledged or index == len(batch) - 1 or not 0 <= index < len(batch)
        if failure is not None:
            raise failure

    def request(self, subsystem: int, message: Message) -> None:
        """Sends one message outside a transaction and waits for its acknowledgement. Raises NetlinkError."""
        self._sequence = (self._sequence + 1) & 0x3FFFFFFF
        kind = subsystem << 8 | message.kind
        flags = NLM_F_REQUEST | NLM_F_ACK | message.flags
        self._socket.sendall(header(kind, flags, self._sequence, family_header() + message.payload))
        while True:
            for answer, sequence, payload in messages_of(self._socket.recv(1 << 20)):
                if sequence != self._sequence or answer != NLMSG_ERROR:
                    continue
                (code,) = struct.unpack_from("=i", payload)
                if code:
                    raise NetlinkError(-code, f"{os.strerror(-code)}: {message.about}")
                return

    def dump(self, subsystem: int, kind: int, payload: bytes = b"") -> Iterator[bytes]:
        """The attribute lists of every object of a dump. Raises NetlinkError."""
        self._sequence = (self._sequence + 1) & 0x3FFFFFFF
        request = header(subsystem << 8 | kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, family_header() + payload)
        self._socket.sendall(request)
        while True:
            for answer, sequence, body in messages_of(self._socket.recv(1 << 20)):
                if sequence != self._sequence:
                    continue
                if answer == NLMSG_DONE:
                    return
                if answer == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    raise NetlinkError(-code, os.strerror(-code))
                yield body[4:]


def messages_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
        if length < 16:
            return
        yield kind, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def is_missing(error: OSError) -> bool:
    return error.errno == errno.ENOENT
