"""The order of API versions as Kubernetes ranks them: v2 before v1, v1 before v1beta2, those before anything else."""

from __future__ import annotations

import re

_FORM = re.compile(r"v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?")
_STAGES = {"alpha": 0, "beta": 1, None: 2}


def rank(version: str) -> tuple[int, int, int]:
    """Greater is more stable or newer; versions of no known form share the lowest rank, told apart by their names."""
    match = _FORM.fullmatch(version)
    if match is None:
        return (-1, 0, 0)
    return (_STAGES[match[2]], int(match[1]), int(match[3] or 0))


def preferred_first(versions: list[str]) -> list[str]:
    return sorted(sorted(versions), key=rank, reverse=True)
