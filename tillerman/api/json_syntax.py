"""What is wrong with JSON text, in the words of Go's encoding/json: Kubernetes' refusals quote it."""

from __future__ import annotations

import re

_SPACE = b" \t\r\n"
_DIGITS = b"0123456789"
_HEX = b"0123456789abcdefABCDEF"
_END = "unexpected end of JSON input"
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_CLOSING = {ord("{"): ord("}"), ord("["): ord("]")}
# Between these nothing can go wrong in a string.
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')


def no_type_meta(found: str) -> str:
    """A value (of a JSON type) where an object with its kind should be."""
    fields = ('APIVersion string "json:\\"apiVersion,omitempty\\""', 'Kind string "json:\\"kind,omitempty\\""')
    return (
        f"couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type struct "
        f"{{ {'; '.join(fields)} }}"
    )


def syntax_error(text: bytes) -> str:
    """The first fault of the text; empty when it is JSON."""
    try:
        end = _after_space(text, _value(text, 0))
        _expect_end(text, end)
    except _Fault as fault:
        return str(fault)
    return ""


class _Fault(Exception):
    """Raised where reading stops."""


def _fault(text: bytes, at: int, context: str) -> _Fault:
    if at >= len(text):
        return _Fault(_END)
    return _Fault(f"invalid character {_quoted(text[at])} {context}")


def _quoted(byte: int) -> str:
    if byte == ord("'"):
        return "'\\''"
    if byte == ord('"'):
        return "'\"'"
    named = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\"}
    if byte in named:
        return f"'{named[byte]}'"
    if byte < 32 or byte == 127:
        return f"'\\x{byte:02x}'"
    return f"'\\u{byte:04x}'" if 127 < byte < 161 or byte == 173 else f"'{chr(byte)}'"


def _after_space(text: bytes, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _expect_end(text: bytes, at: int) -> None:
    if at < len(text):
        raise _fault(text, at, "after top-level value")


def _value(text: bytes, at: int) -> int:
    """The end of the value that begins here. Iterative: depth is the sender's choice."""
    closing: list[int] = []
    while True:
        at = _after_space(text, at)
        close = _CLOSING.get(text[at] if at < len(text) else -1)
        if close is not None:
            at = _after_space(text, at + 1)
            if at < len(text) and text[at] == close:
                at += 1
            else:
                closing.append(close)
                if close == ord("}"):
                    at = _key(text, at)
                continue
        else:
            at = _scalar(text, at)
        while closing:
            at = _after_space(text, at)
            found = text[at] if at < len(text) else -1
            if found == ord(","):
                if closing[-1] == ord("}"):
                    at = _key(text, _after_space(text, at + 1))
                else:
                    at += 1
                break
            if found != closing[-1]:
                what = "object key:value pair" if closing[-1] == ord("}") else "array element"
                raise _fault(text, at, f"after {what}")
            closing.pop()
            at += 1
        else:
            return at


def _key(text: bytes, at: int) -> int:
    """Behind the colon of an object's key."""
    if at >= len(text) or text[at] != ord('"'):
        raise _fault(text, at, "looking for beginning of object key string")
    at = _after_space(text, _string(text, at + 1))
    if at >= len(text) or text[at] != ord(":"):
        raise _fault(text, at, "after object key")
    return at + 1


def _scalar(text: bytes, at: int) -> int:
    first = text[at] if at < len(text) else -1
    if first == ord('"'):
        return _string(text, at + 1)
    if first in _LITERALS:
        word = _LITERALS[first]
        for offset, letter in enumerate(word):
            if at + offset >= len(text) or text[at + offset] != letter:
                raise _fault(text, at + offset, f"in literal {word.decode()} (expecting {_quoted(letter)})")
        return at + len(word)
    if first == ord("-") or (first >= 0 and first in _DIGITS):
        return _number(text, at)
    raise _fault(text, at, "looking for beginning of value")


def _string(text: bytes, at: int) -> int:
    while True:
        plain = _PLAIN.match(text, at)
        at = plain.end() if plain is not None else at
        if at >= len(text) or text[at] < 32:
            raise _fault(text, at, "in string literal")
        if text[at] == ord('"'):
            return at + 1
        at += 1
        if at >= len(text) or text[at] not in b'bfnrt\\/"u':
            raise _fault(text, at, "in string escape code")
        if text[at] == ord("u"):
            for position in range(at + 1, at + 5):
                if position >= len(text) or text[position] not in _HEX:
                    raise _fault(text, position, "in \\u hexadecimal character escape")
            at += 4
        at += 1


def _number(text: bytes, at: int) -> int:
    def digits(start: int, context: str) -> int:
        if start >= len(text) or text[start] not in _DIGITS:
            raise _fault(text, start, context)
        while start < len(text) and text[start] in _DIGITS:
            start += 1
        return start

    if text[at] == ord("-"):
        at += 1
    at = at + 1 if text[at : at + 1] == b"0" else digits(at, "in numeric literal")
    if text[at : at + 1] == b".":
        at = digits(at + 1, "after decimal point in numeric literal")
    if text[at : at + 1] in (b"e", b"E"):
        at += 2 if text[at + 1 : at + 2] in (b"+", b"-") else 1
        at = digits(at, "in exponent of numeric literal")
    return at
