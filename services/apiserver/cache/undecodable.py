"""Stored values that are no object of their resource: encrypted by another cluster, corrupted, written by hand.

One such value must not take the others with it. It is kept beside the objects, under its key, until it is overwritten
or deleted in etcd; whoever asks for it by name is told why it cannot be had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class Undecodable(Exception):
    """The message says what is wrong with the value."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A value that cannot be decoded, as it is stored."""

    value: bytes
    revision: int
    cause: str


# Told of each (prefix, key, cause) once.
Report = Callable[[str, str, str], None]


def unreported(_prefix: str, _key: str, _cause: str) -> None:
    """For caches whose owner looks at ``broken`` itself."""
