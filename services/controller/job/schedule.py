"""Cron schedules: five fields, names, steps and ranges, @macros, in a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
# Days looked ahead for a match; 29 February on a given weekday can be 28 years away.
_HORIZON = 366 * 29


class ScheduleError(ValueError):
    """The text is no schedule; the message says which part."""


@dataclass(frozen=True)
class Schedule:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    zone: tzinfo

    def after(self, moment: float) -> float | None:
        """Epoch seconds of the first time that matches after `moment`; None when there is none."""
        start = datetime.fromtimestamp(moment, self.zone).replace(second=0, microsecond=0, tzinfo=None)
        start += timedelta(minutes=1)
        day = start.replace(hour=0, minute=0)
        for _ in range(_HORIZON):
            if self._is_day(day):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        local = day.replace(hour=hour, minute=minute)
                        found = local.replace(tzinfo=self.zone).timestamp()
                        # In the hour that a clock skips, the round trip ends elsewhere: that time does not exist.
                        exists = datetime.fromtimestamp(found, self.zone).replace(tzinfo=None) == local
                        if local >= start and found > moment and exists:
                            return found
            day += timedelta(days=1)
        return None

    def _is_day(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, (day.weekday() + 1) % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return in_month and in_week
        # Both restricted: either is enough, as cron has it.
        return in_month or in_week


def parse_schedule(text: str, zone: str = "") -> Schedule:
    """Raises ScheduleError. `zone` is an IANA name; empty is UTC."""
    try:
        tz: tzinfo = ZoneInfo(zone) if zone else UTC
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ScheduleError(f'unknown time zone "{zone}"') from error
    fields = _MACROS.get(text.strip(), text).split()
    if len(fields) != 5:
        raise ScheduleError(f'expected exactly 5 fields, found {len(fields)}: "{text}"')
    minute, hour, day, month, weekday = fields
    return Schedule(
        minutes=_field(minute, 0, 59),
        hours=_field(hour, 0, 23),
        days=_field(day, 1, 31),
        months=_field(month, 1, 12, _MONTHS),
        weekdays=frozenset(number % 7 for number in _field(weekday, 0, 7, _DAYS)),
        any_day=day.startswith(("*", "?")),
        any_weekday=weekday.startswith(("*", "?")),
        zone=tz,
    )


def _field(text: str, lowest: int, highest: int, names: dict[str, int] | None = None) -> frozenset[int]:
    result: set[int] = set()
    for part in text.split(","):
        span, _, step_text = part.partition("/")
        if step_text and not step_text.isdigit():
            raise ScheduleError(f'"{part}": the step is no number')
        step = int(step_text or 1)
        if span in ("*", "?"):
            first, last = lowest, highest
        else:
            begin, dash, end = span.partition("-")
            first = _number(begin, names)
            last = _number(end, names) if dash else highest if step_text else first
        if not lowest <= first <= last <= highest or step < 1:
            raise ScheduleError(f'"{part}" is not within {lowest}-{highest}')
        result.update(range(first, last + 1, step))
    return frozenset(result)


def _number(text: str, names: dict[str, int] | None) -> int:
    known = (names or {}).get(text.lower()[:3])
    if known is not None:
        return known
    if not text.isdigit():
        raise ScheduleError(f'"{text}" is no number')
    return int(text)
