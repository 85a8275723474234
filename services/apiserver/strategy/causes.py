"""The causes that field rules make: the makers of tillerman.api.status, and checks that several kinds share."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Any

from google.protobuf.message import Message

from services.apiserver.strategy.printing import printed
from tillerman.api import codec, status, validation
from tillerman.api.status import (
    Cause,
    duplicate,
    forbidden_field,
    not_found_value,
    not_supported,
    required,
    too_long,
    too_many,
)

__all__ = [
    "Cause",
    "domain_prefixed",
    "duplicate",
    "forbidden",
    "immutable",
    "invalid",
    "invalid_all",
    "label_map",
    "non_negative",
    "not_found_value",
    "not_supported",
    "one_of",
    "positive_within",
    "required",
    "too_long",
    "too_many",
    "unique",
]

IMMUTABLE = "field is immutable"
# The same few labels stand on most objects: whether such a short text is well-formed is found out once.
REMEMBERED_LENGTH = 128
_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
NEGATIVE = "must be greater than or equal to 0"

forbidden = forbidden_field


def invalid(path: str, value: Any, detail: str = "") -> Cause:
    """Labels, selectors and the like are shown as Go writes them, other messages in their JSON form."""
    return status.invalid_value(path, printed(value) or plain(value), detail)


def plain(value: Any) -> Any:
    """A message, list or map as JSON values."""
    if isinstance(value, Message):
        return codec.to_dict(value)
    if isinstance(value, str | bytes | int | float | type(None)):
        return value.decode(errors="replace") if isinstance(value, bytes) else value
    if hasattr(value, "items"):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value]


def invalid_all(path: str, value: str, problems: Iterable[str]) -> list[Cause]:
    """One cause per problem that a name rule found."""
    return [invalid(path, value, problem) for problem in problems]


def named(path: str, value: str, rule: Callable[[str], list[str]]) -> list[Cause]:
    """A name that must be there and must obey a rule."""
    return invalid_all(path, value, rule(value)) if value else [required(path)]


def non_negative(path: str, value: int) -> list[Cause]:
    return [invalid(path, value, NEGATIVE)] if value < 0 else []


def positive_within(path: str, value: int, low: int, high: int) -> list[Cause]:
    return [] if low <= value <= high else [invalid(path, value, f"must be between {low} and {high}, inclusive")]


def one_of(path: str, value: str, allowed: Collection[str], *, needed: bool = True) -> list[Cause]:
    """An enum. An empty value is missing when `needed`, else left alone."""
    if not value:
        return [required(path)] if needed else []
    return [] if value in allowed else [not_supported(path, value, allowed)]


def immutable(path: str, new: Any, old: Any) -> list[Cause]:
    from services.apiserver.strategy.equality import semantically_equal

    same = semantically_equal(new, old) if isinstance(new, Message) else new == old
    return [] if same else [invalid(path, new, IMMUTABLE)]


def domain_prefixed(path: str, value: str, missing: str = "") -> list[Cause]:
    """A name in somebody's domain: a domain, a slash and a path."""
    if not value:
        return [required(path, missing)]
    domain, _, rest = value.partition("/")
    if not domain or not rest:
        return [invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    causes = invalid_all(path, domain, validation.is_dns1123_subdomain(domain))
    if not re.fullmatch(_HTTP_PATH, rest):
        causes.append(invalid(path, rest, f"Invalid path (regex used for validation is '{_HTTP_PATH}')"))
    return causes


def unique(path: str, values: Iterable[str]) -> list[Cause]:
    """Each value once; the path gets the index of a repeated one."""
    seen: set[str] = set()
    causes = []
    for index, value in enumerate(values):
        if value in seen:
            causes.append(duplicate(f"{path}[{index}]", value))
        seen.add(value)
    return causes


def label_map(path: str, labels: Any) -> list[Cause]:
    """Keys are qualified names and values label values; every complaint is about the map itself."""
    causes = []
    for key, value in labels.items():
        causes += invalid_all(path, key, qualified_name(key))
        causes += invalid_all(path, value, label_value(value))
    return causes


def qualified_name(value: str) -> list[str]:
    return list(_qualified_name(value)) if len(value) <= REMEMBERED_LENGTH else validation.is_qualified_name(value)


def label_value(value: str) -> list[str]:
    return list(_label_value(value)) if len(value) <= REMEMBERED_LENGTH else validation.is_label_value(value)


@lru_cache(4096)
def _qualified_name(value: str) -> tuple[str, ...]:
    return tuple(validation.is_qualified_name(value))


@lru_cache(4096)
def _label_value(value: str) -> tuple[str, ...]:
    return tuple(validation.is_label_value(value))
