"""Cron schedules: five fields, or one of the @names."""

from __future__ import annotations

import re

_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_NAMES = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+")


def schedule(text: str) -> str:
    """What is wrong with a schedule; empty when it is fine."""
    if text.startswith("@"):
        if text in _NAMES or (text.startswith("@every ") and _DURATION.fullmatch(text.removeprefix("@every "))):
            return ""
        return f"unrecognized descriptor: {text}"
    words = text.split()
    if words and words[0].startswith(("TZ=", "CRON_TZ=")):
        words = words[1:]
    if len(words) != len(_FIELDS):
        return f"expected exactly 5 fields, found {len(words)}: [{' '.join(words)}]"
    for word, (name, low, high, names) in zip(words, _FIELDS, strict=True):
        for part in word.split(","):
            problem = _part(part, low, high, names)
            if problem:
                return f"{problem} ({name}): {word}"
    return ""


def _part(part: str, low: int, high: int, names: tuple[str, ...]) -> str:
    span, slash, step = part.partition("/")
    if slash and (not step.isdigit() or int(step) == 0):
        return f"step of range should be a positive number: {part}"
    if span in ("*", "?"):
        return ""
    first, dash, last = span.partition("-")
    bounds = []
    for word in (first, last) if dash else (first,):
        value = _value(word, low, names)
        if value is None:
            return f"failed to parse int from {word}"
        bounds.append(value)
    if bounds[0] < low:
        return f"beginning of range ({bounds[0]}) below minimum ({low})"
    if bounds[-1] > high:
        return f"end of range ({bounds[-1]}) above maximum ({high})"
    return f"beginning of range ({bounds[0]}) beyond end of range ({bounds[-1]})" if bounds[0] > bounds[-1] else ""


def _value(word: str, low: int, names: tuple[str, ...]) -> int | None:
    if word.isdigit():
        return int(word)
    return names.index(word.lower()) + low if word.lower() in names else None
