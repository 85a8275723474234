"""Who asks, and how: what travels with a request through authorization, admission and the registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.apiserver.registry.creations import Likeness


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity. ``groups`` always holds system:authenticated (or system:unauthenticated)."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


APISERVER = User("system:apiserver", ("system:masters", "system:authenticated"))


@dataclass(slots=True)
class Context:
    """``warnings`` is filled on the way and handed to the caller."""

    user: User = APISERVER
    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = ""
    force: bool = False
    user_agent: str = ""
    # (api version, resource) as the caller named it, where that is another version of what is stored.
    asked: tuple[str, str] | None = None
    warnings: list[str] = field(default_factory=list)
    # Of a creation: by what other ones like it are known, should it come to an object.
    likeness: Likeness | None = None
