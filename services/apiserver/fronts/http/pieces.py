"""Large lists, made and sent piece by piece.

The JSON of 30,000 pods takes seconds to make and tens of megabytes to hold. Piece by piece the first objects are on
their way at once, what waits to be sent stays small, and between two pieces everybody else has a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from services.apiserver.cache.entry import Entry
from tillerman.api.envelope import varint

# Lists of more objects than this are sent in pieces of so many.
WHOLE = 500
PIECE = 50
Encode = Callable[[Entry], bytes]


def json_list(head: dict[str, Any], field: str, entries: Sequence[Entry], encode: Encode) -> Iterator[bytes]:
    """``head`` with one more field, the list of the encoded entries."""
    before = orjson.dumps(head)[:-1] + b',"' + field.encode() + b'":['
    for start in range(0, len(entries), PIECE):
        yield before + b",".join([encode(entry) for entry in entries[start : start + PIECE]])
        before = b","
    yield b"]}" if entries else before + b"]}"


def protobuf_list(prefix: bytes, head: bytes, entries: Sequence[Entry], tail: bytes) -> Iterator[bytes]:
    """The envelope of a list message: ``prefix``, the list (``head`` and the entries as field 2) with its length, and
    ``tail``.
    """
    sizes = [entry.size for entry in entries]
    whole = len(head) + sum(1 + len(varint(size)) + size for size in sizes)
    before = b"".join((prefix, b"\x12", varint(whole), head))
    for start in range(0, len(entries), PIECE):
        items = zip(sizes[start : start + PIECE], entries[start : start + PIECE], strict=True)
        yield before + b"".join([b"".join((b"\x12", varint(size), entry.value)) for size, entry in items])
        before = b""
    yield before + tail


def body(entries: Sequence[Entry], pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes] | None]:
    """(the whole body, None) of a short list; (its beginning, the rest) of a long one."""
    return (b"".join(pieces), None) if len(entries) <= WHOLE else (next(pieces), pieces)
