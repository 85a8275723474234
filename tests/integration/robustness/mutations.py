"""Seeded generators of broken, hostile and odd input: JSON, bytes, protobuf. Everything hangs on the Random given."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

STRINGS = (
    "",
    " ",
    "a",
    "A",
    "a b",
    "-",
    ".",
    "..",
    "../..",
    "/",
    "a/b",
    "%2e%2e",
    "\0",
    "a\0b",
    "\n",
    "é",
    "\u202e",
    "😀",
    "x" * 64,
    "x" * 254,
    "y" * 5_000,
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "NaN",
    "9223372036854775808",
    "2026-01-01T00:00:00Z",
    "9999-99-99T99:99:99Z",
    "0000-00-00T00:00:00Z",
    "10.0.0.256",
    "::1",
    "10.0.0.0/33",
    "1Gi",
    "1e400",
    "-0",
    "1ki",
    "100%",
    "-5%",
    "* * * * *",
    "@every 0s",
    "a=b",
    "{}",
    "$(A)",
    "Always",
    "TCP",
)
NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**40)
OTHERS = (None, True, False, 0.5, -1.5, 1e300, 5e-324, [], {}, [None], [[]], [{}], {"a": None}, {"": ""}, [1, "a"])
# What no JSON writer writes.
RAW = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-1e999",
    b"1" * 400,
    b"0.1e-999999",
    b"01",
    b"1.",
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\\x41"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b"undefined",
    b"{}{}",
    b"/*a*/1",
    b"'a'",
    b"[" * 20_000 + b"]" * 20_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
)
MARK = "\ue000raw\ue000"


def scalar(random: Random) -> Any:
    return copy.deepcopy(random.choice(random.choice((STRINGS, NUMBERS, OTHERS))))


def deep(random: Random, depth: int) -> Any:
    value: Any = scalar(random)
    for _ in range(depth):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) below a JSON value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for step, below in steps:
            found.append((node, step))
            waiting.append(below)
    return found


def mutated(random: Random, value: Any, times: int = 1) -> Any:
    """A copy of a JSON value with some places changed."""
    value = copy.deepcopy(value)
    for _ in range(times):
        where = places(value)
        if not where:
            return scalar(random)
        container, step = random.choice(where)
        match random.randrange(9):
            case 0 | 1 | 2:
                container[step] = scalar(random)
            case 3:
                del container[step]
            case 4:
                container[step] = deep(random, random.choice((2, 20, 100)))
            case 5 if isinstance(container, dict):
                container[random.choice(STRINGS)] = container.pop(step)
            case 6:
                other, key = random.choice(where)
                if isinstance(other, dict) or (isinstance(key, int) and key < len(other)):
                    container[step] = copy.deepcopy(other.get(key) if isinstance(other, dict) else other[key])
            case 7 if isinstance(container[step], list) and container[step]:
                container[step] = [copy.deepcopy(container[step][0]) for _ in range(random.choice((2, 50)))]
            case _:
                container[step] = MARK
    return value


def text_of(random: Random, value: Any) -> bytes:
    """A JSON value as text; marked places become what no writer writes, and now and then a key stands twice."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.7).encode("utf-8", "surrogatepass")
    mark = json.dumps(MARK).encode()
    for spelling in (mark, MARK.join('""').encode()):
        while spelling in text:
            text = text.replace(spelling, random.choice(RAW), 1)
    if random.random() < 0.05 and text[:1] == b"{" and len(text) > 2:
        text = text[:-1] + b"," + text[1:]
    return text


def broken(random: Random, raw: bytes) -> bytes:
    """Bytes with a few of them changed, cut, doubled or put in."""
    out = bytearray(raw)
    for _ in range(random.choice((1, 1, 2, 8))):
        at = random.randrange(len(out) + 1)
        match random.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << random.randrange(8)
            case 1:
                out[at:at] = random.randbytes(random.choice((1, 2, 9, 100)))
            case 2:
                del out[at:]
            case 3:
                del out[at : at + random.randrange(1, 9)]
            case 4:
                out[at:at] = out[at : at + random.randrange(1, 60)]
            case _:
                out[at:at] = random.choice((b"\0", b"\xff", b"\xff" * 10, b"\x80" * 12, b"{", b"]", b'"'))
    return bytes(out)


def nested_fields(random: Random, depth: int) -> bytes:
    """Protobuf of one message within another, ``depth`` times."""
    raw = b""
    number = random.randrange(1, 16)
    for _ in range(depth):
        raw = bytes((number << 3 | 2,)) + varint(len(raw)) + raw
    return raw


def odd_fields(random: Random) -> bytes:
    """A few fields of random numbers, types and contents on protobuf's wire."""
    out = b""
    for _ in range(random.randrange(1, 6)):
        number = random.choice((1, 2, 3, 4, 5, 15, 16, 100, 19_000, 2**29 - 1))
        kind = random.randrange(8)
        out += varint(number << 3 | kind)
        if kind == 0:
            out += varint(random.choice((0, 1, 2**31, 2**63, 2**64 - 1)))
        elif kind == 1:
            out += random.randbytes(8)
        elif kind == 2:
            content = random.randbytes(random.randrange(20))
            out += varint(random.choice((len(content), len(content), 2**31, 2**63))) + content
        elif kind == 5:
            out += random.randbytes(4)
    return out


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def chosen(random: Random, *ways: tuple[int, Callable[[], Any]]) -> Any:
    """What one of the ways gives, each as likely as its weight."""
    return random.choices([way for _, way in ways], [weight for weight, _ in ways])[0]()
