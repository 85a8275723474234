"""Admission: what may change or refuse a write between authorization and the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.apiserver.registry.context import Context
from services.apiserver.registry.resource import Resource

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


@dataclass(slots=True)
class Attributes:
    """One write. ``obj``: the new object (a plugin's ``admit`` may change it), None for DELETE; ``old``: what is
    stored.
    """

    operation: str
    resource: Resource
    namespace: str
    name: str
    subresource: str
    obj: Any
    old: Any
    context: Context


class Plugin(Protocol):
    """``admit`` may change the object, ``validate`` only refuse; both raise StatusError to refuse."""

    async def admit(self, attributes: Attributes) -> None: ...

    async def validate(self, attributes: Attributes) -> None: ...


class BasePlugin:
    """A plugin that does nothing; subclasses override what they need."""

    async def admit(self, attributes: Attributes) -> None:
        return None

    async def validate(self, attributes: Attributes) -> None:
        return None


class Chain:
    """All mutating parts in order, then (after the registry's own validation) all validating ones."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._admit = [p for p in plugins if type(p).admit is not BasePlugin.admit]
        self._validate = [p for p in plugins if type(p).validate is not BasePlugin.validate]

    async def admit(self, attributes: Attributes) -> None:
        for plugin in self._admit:
            await plugin.admit(attributes)

    async def validate(self, attributes: Attributes) -> None:
        for plugin in self._validate:
            await plugin.validate(attributes)
