"""SPDY/3.1's frames, as far as kubectl's port-forward uses them. No I/O: bytes to frames, and frames to bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

# The specification's dictionary: header names and values with their lengths, then more text.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200|OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in (w.replace("|", " ") for w in _WORDS.split(" ")))
    + _TEXT.encode()
)

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
FIN = 1
MAX_FRAME, MAX_HEADERS = 1 << 20, 1 << 16


class ProtocolError(ValueError):
    """What came is no SPDY/3.1."""


@dataclass(frozen=True, slots=True)
class Frame:
    """``kind``: 0 for data, else the control frame's type. ``fin``: the sender's last on this stream."""

    kind: int
    stream: int = 0
    payload: bytes = b""
    fin: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


class Decoder:
    """Takes bytes as they come; one for the whole connection, for its decompressor has a memory."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._headers = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises ProtocolError."""
        waiting = self._waiting
        waiting += data
        found = []
        while len(waiting) >= 8:
            size = int.from_bytes(waiting[5:8], "big")
            if size > MAX_FRAME:
                raise ProtocolError(f"a frame of {size} bytes")
            if len(waiting) < 8 + size:
                break
            head, body = int.from_bytes(waiting[:4], "big"), bytes(waiting[8 : 8 + size])
            flags = waiting[4]
            del waiting[: 8 + size]
            found.append(self._frame(head, flags, body))
        return found

    def _frame(self, head: int, flags: int, body: bytes) -> Frame:
        fin = bool(flags & FIN)
        if not head >> 31:
            return Frame(0, head, body, fin)
        if head >> 16 & 0x7FFF != VERSION:
            raise ProtocolError(f"version {head >> 16 & 0x7FFF}")
        kind = head & 0xFFFF
        if kind in (SYN_STREAM, SYN_REPLY):
            skip = 10 if kind == SYN_STREAM else 4
            if len(body) < skip:
                raise ProtocolError("a frame is too short")
            return Frame(kind, _stream(body), b"", fin, self._block(body[skip:]))
        return Frame(kind, _stream(body) if len(body) >= 4 else 0, body)

    def _block(self, packed: bytes) -> dict[str, str]:
        try:
            raw = self._headers.decompress(packed, MAX_HEADERS)
            if self._headers.unconsumed_tail:
                raise ProtocolError("headers are too long")
            (count,) = struct.unpack_from(">I", raw)
            position = 4
            texts = []
            for _ in range(2 * count):
                (size,) = struct.unpack_from(">I", raw, position)
                texts.append(raw[position + 4 : position + 4 + size].decode())
                position += 4 + size
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise ProtocolError(f"headers cannot be read: {error}") from error
        return {name.lower(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}


class Encoder:
    """Frames to send, in the order in which they are made."""

    def __init__(self) -> None:
        self._headers = zlib.compressobj(zdict=DICTIONARY)

    def syn_stream(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        return _control(SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + self._block(headers), FIN if fin else 0)

    def syn_reply(self, stream: int) -> bytes:
        return _control(SYN_REPLY, struct.pack(">I", stream) + self._block({}))

    def _block(self, headers: Mapping[str, str]) -> bytes:
        parts = [struct.pack(">I", len(headers))]
        for text in (text for pair in headers.items() for text in pair):
            parts += [struct.pack(">I", len(text.encode())), text.encode()]
        return self._headers.compress(b"".join(parts)) + self._headers.flush(zlib.Z_SYNC_FLUSH)

    def data(self, stream: int, payload: bytes, *, fin: bool = False) -> bytes:
        return struct.pack(">II", stream, (FIN if fin else 0) << 24 | len(payload)) + payload

    def ping(self, payload: bytes) -> bytes:
        return _control(PING, payload)

    def reset(self, stream: int, status: int) -> bytes:
        return _control(RST_STREAM, struct.pack(">II", stream, status))


def _stream(body: bytes) -> int:
    return int.from_bytes(body[:4], "big") & 0x7FFF_FFFF


def _control(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(body)) + body
