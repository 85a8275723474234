"""Kubernetes' Time and MicroTime: conversions between message, datetime, epoch seconds and RFC 3339 text."""

import re
import time as _clock
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

from tillerman.pb.k8s import meta_v1_pb2 as meta

type_time = meta.Time | meta.MicroTime

_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):(\d\d))"
)


def now() -> meta.Time:
    """The present, in whole seconds as Kubernetes keeps Time."""
    return meta.Time(seconds=int(_clock.time()), nanos=0)


def micro_now() -> meta.MicroTime:
    """The present, to the microsecond."""
    return micro_from_seconds(_clock.time())


def from_seconds(seconds: float) -> meta.Time:
    """Time from epoch seconds; the fraction is dropped."""
    return meta.Time(seconds=int(seconds // 1), nanos=0)


def micro_from_seconds(seconds: float) -> meta.MicroTime:
    """MicroTime from epoch seconds."""
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return meta.MicroTime(seconds=whole, nanos=micros * 1000)


def is_zero(time: type_time) -> bool:
    """Whether the time was never set: Kubernetes writes its zero time as an empty message."""
    return not time.HasField("seconds") and not time.HasField("nanos")


def to_seconds(time: type_time) -> float:
    """Epoch seconds; 0.0 for a time that was never set."""
    return time.seconds + time.nanos / 1e9


def to_datetime(time: type_time) -> datetime:
    """UTC datetime, to the microsecond."""
    return datetime.fromtimestamp(time.seconds, UTC) + timedelta(microseconds=time.nanos // 1000)


def from_datetime(when: datetime) -> meta.Time:
    return from_seconds(when.timestamp())


def rfc3339(time: type_time) -> str:
    """`2026-01-02T03:04:05Z`; MicroTime carries six digits of fraction."""
    if isinstance(time, meta.MicroTime):
        return f"{format_seconds(time.seconds)[:-1]}.{time.nanos // 1000:06d}Z"
    return format_seconds(time.seconds)


@lru_cache(maxsize=8192)
def format_seconds(seconds: int) -> str:
    """Epoch seconds as RFC 3339 in UTC. ValueError outside the years 1 to 9999."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)
    except OverflowError:
        raise ValueError(f"time {seconds} is outside the years 1 to 9999") from None


@lru_cache(maxsize=8192)
def split_rfc3339(text: str) -> tuple[int, int]:
    """(epoch seconds, nanoseconds) of an RFC 3339 text. ValueError in Go's words when it is not one."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"')
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    zone = UTC if match[8] else timezone(_sign(match[9]) * timedelta(hours=int(match[10]), minutes=int(match[11])))
    try:
        when = datetime(year, month, day, hour, minute, second, tzinfo=zone)
        seconds = round((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    except (ValueError, OverflowError) as e:
        raise ValueError(f'parsing time "{text}": {e}') from None
    return seconds, int((match[7] or "0").ljust(9, "0"))


def _sign(text: str) -> int:
    return -1 if text == "-" else 1


def parse_rfc3339(text: str) -> meta.Time:
    """Time from RFC 3339 text; a fraction is dropped, as Kubernetes does. ValueError when it is not RFC 3339."""
    return meta.Time(seconds=split_rfc3339(text)[0], nanos=0)


def parse_rfc3339_micro(text: str) -> meta.MicroTime:
    """MicroTime from RFC 3339 text. ValueError when it is not RFC 3339."""
    seconds, nanos = split_rfc3339(text)
    return meta.MicroTime(seconds=seconds, nanos=nanos // 1000 * 1000)
