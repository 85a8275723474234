"""Durations and ages as people read them: `45s`, `5m30s`, `3h`, `2d4h`."""

from tillerman.api import times

UNKNOWN = "<unknown>"


def human_duration(seconds: float) -> str:
    """At most two units, fewer as the duration grows."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days, years = hours // 24, hours // 24 // 365
    if hours < 192:
        return _pair(days, "d", hours % 24, "h")
    if years < 2:
        return f"{days}d"
    return _pair(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _pair(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"


def age(time: times.type_time, now: float) -> str:
    """How long ago; `<unknown>` for a time that was never set."""
    return UNKNOWN if times.is_zero(time) else human_duration(now - times.to_seconds(time))
