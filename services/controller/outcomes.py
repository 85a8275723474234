"""Refusals that are as good as success."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from tillerman.api.status import StatusError, is_already_exists, is_not_found

T = TypeVar("T")


async def unless_gone(write: Awaitable[T]) -> T | None:
    """The result, or None when the object does not exist."""
    try:
        return await write
    except StatusError as error:
        if is_not_found(error):
            return None
        raise


async def unless_present(write: Awaitable[T]) -> T | None:
    """The result, or None when the object exists already."""
    try:
        return await write
    except StatusError as error:
        if is_already_exists(error):
            return None
        raise


def namespace_terminating(error: StatusError) -> bool:
    """Whether a create was refused because its namespace is being deleted."""
    return any(cause.reason == "NamespaceTerminating" for cause in error.status.details.causes)
