"""The order of a merged list: what the patch names goes in the patch's order, the rest keeps the server's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Key = Callable[[Any], Any]


def normalize_order(merged: list[Any], wanted: list[Any], server: list[Any], key: Key) -> list[Any]:
    """`wanted` and `server` are keys in order. Items that only the patch knows come as early as they can."""
    named = _sorted_by([item for item in merged if key(item) in wanted], wanted, key)
    others = _sorted_by([item for item in merged if key(item) not in wanted], server, key)
    result: list[Any] = []
    left = right = 0
    while left < len(others) and right < len(named):
        here, there = key(others[left]), key(named[right])
        both_known = here in server and there in server
        if both_known and server.index(here) < server.index(there):
            result.append(others[left])
            left += 1
        else:
            result.append(named[right])
            right += 1
    return [*result, *others[left:], *named[right:]]


def order_mismatch(patch: list[Any], order: list[Any]) -> bool:
    """Whether the patch's keys are missing from, or stand in another order than, $setElementOrder."""
    remaining = iter(order)
    return any(all(wanted != known for known in remaining) for wanted in patch)


def _sorted_by(items: list[Any], order: list[Any], key: Key) -> list[Any]:
    # A patch may hold anything as a key, also what cannot be hashed.
    return sorted(items, key=lambda item: order.index(key(item)) if key(item) in order else len(order))
