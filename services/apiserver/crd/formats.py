"""The string formats that a schema may ask for, as Kubernetes' validator (go-openapi's strfmt) knows them.

A format that is not here is a note to the reader and checks nothing.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from tillerman.api.json_forms import parse_duration

Check = Callable[[str], bool]


def _matching(pattern: str) -> Check:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


_DATE_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d+)?([Zz]|[+-]\d{2}:?\d{2})?")
_UNITS = r"(?:ns|us|µs|ms|s|sec|secs|second|seconds|m|min|mins|h|hr|hour|hours|d|day|days|w|week|weeks)"
_LONG_DURATION = _matching(rf"(?:\d+\s*{_UNITS}\s*)+")


def _date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == 10


def _date_time(text: str) -> bool:
    match = _DATE_TIME.fullmatch(text)
    if match is None or not _date(match[1]):
        return False
    hours, minutes, seconds = map(int, match[2].split(":"))
    return hours < 24 and minutes < 60 and seconds < 61


def _duration(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        return _LONG_DURATION(text)
    return True


def _address(version: int) -> Check:
    def check(text: str) -> bool:
        try:
            return ipaddress.ip_address(text).version == version
        except ValueError:
            return False

    return check


def _cidr(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "/" in text


def _byte(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return False
    return True


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme or text.startswith("/"))


def _hostname(text: str) -> bool:
    labels = text.rstrip(".").split(".")
    return len(text) <= 255 and all(_LABEL(label) for label in labels)


def _digits(text: str) -> list[int]:
    return [int(letter) for letter in text if letter.isdigit()]


def _luhn(text: str) -> bool:
    digits = _digits(text)
    if not _CARD(re.sub(r"[ -]", "", text)):
        return False
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _isbn10(text: str) -> bool:
    plain = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"\d{9}[\dX]", plain):
        return False
    values = [10 if letter == "X" else int(letter) for letter in plain]
    return sum((10 - i) * value for i, value in enumerate(values)) % 11 == 0


def _isbn13(text: str) -> bool:
    plain = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"\d{13}", plain):
        return False
    return sum(int(letter) * (3 if i % 2 else 1) for i, letter in enumerate(plain)) % 10 == 0


_LABEL = _matching(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_CARD = _matching(r"\d{13,19}")
_UUID = r"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{}[0-9a-f]{{3}}-?{}[0-9a-f]{{3}}-?[0-9a-f]{{12}}"


def _uuid(version: str, variant: str = "[0-9a-f]") -> Check:
    matches = _matching(_UUID.format(version, variant))
    return lambda text: matches(text.lower())


def _anything(text: str) -> bool:
    return True


FORMATS: dict[str, Check] = {
    "bsonobjectid": _matching(r"[0-9a-fA-F]{24}"),
    "uri": _uri,
    "email": _matching(r"[^@\s]+@[^@\s]+"),
    "hostname": _hostname,
    "ipv4": _address(4),
    "ipv6": _address(6),
    "cidr": _cidr,
    "mac": _matching(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}(?:(?:[:-][0-9a-fA-F]{2}){2})?"),
    "uuid": _uuid("[0-9a-f]"),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4", "[89ab]"),
    "uuid5": _uuid("5", "[89ab]"),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _luhn,
    "ssn": _matching(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "hexcolor": _matching(r"#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _matching(r"rgb\(\s*(?:\d{1,3})\s*,\s*(?:\d{1,3})\s*,\s*(?:\d{1,3})\s*\)"),
    "byte": _byte,
    "password": _anything,
    "date": _date,
    "duration": _duration,
    "datetime": _date_time,
    "date-time": _date_time,
}
