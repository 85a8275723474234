"""Kubernetes' Time and MicroTime: seconds and nanoseconds since 1970 in UTC; in JSON, RFC 3339."""

import time as _time
from datetime import UTC, datetime, timedelta

from tillerman.pb.k8s import meta_v1_pb2 as meta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> meta.Time:
    """This second; Kubernetes' Time has no fractions in JSON."""
    return meta.Time(seconds=int(_time.time()))


def micro_now() -> meta.MicroTime:
    nanoseconds = _time.time_ns()
    return meta.MicroTime(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9 // 1000 * 1000)


def to_datetime(value: meta.Time | meta.MicroTime) -> datetime:
    return EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def to_seconds(value: meta.Time | meta.MicroTime) -> float:
    """Seconds since 1970."""
    return value.seconds + value.nanos / 1e9


def from_seconds(seconds: float) -> meta.Time:
    return meta.Time(seconds=int(seconds))


def micro_from_seconds(seconds: float) -> meta.MicroTime:
    microseconds = round(seconds * 1e6)
    return meta.MicroTime(seconds=microseconds // 10**6, nanos=microseconds % 10**6 * 1000)


def rfc3339(value: meta.Time) -> str:
    """2026-11-23T10:11:12Z."""
    return to_datetime(meta.Time(seconds=value.seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(value: meta.MicroTime) -> str:
    """2026-11-23T10:11:12.000000Z."""
    return to_datetime(value).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> datetime:
    """Raises ValueError; fractions beyond microseconds are cut off."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f'parsing time "{text}": no time zone')
    return moment.astimezone(UTC)


def from_datetime(moment: datetime) -> meta.Time:
    return meta.Time(seconds=int((moment - EPOCH).total_seconds()))
