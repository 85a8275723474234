"""Protobuf's wire format, as far as framing needs it."""

from __future__ import annotations


def varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def length_delimited(field: int, value: bytes) -> bytes:
    """The field with its tag and length; ``field`` is at most 15."""
    return bytes((field << 3 | 2,)) + varint(len(value)) + value
