"""Protobuf's wire format, as far as framing needs it."""

from __future__ import annotations

from tillerman.api.envelope import length_delimited, varint

__all__ = ["length_delimited", "read_varint", "varint"]


def read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """(the number at a position, the position after it). Raises IndexError when it is cut off."""
    number = shift = 0
    while True:
        byte = raw[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
