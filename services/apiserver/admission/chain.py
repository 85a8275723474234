"""Admission: what may change or refuse a write between authorization and the store.

A chain is made once of plugins in Kubernetes' order. Which of them look at a kind of request (operation, resource,
subresource) is found out when the first such request comes and kept, so a plugin costs nothing where it has no say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.apiserver.registry.context import Context
from services.apiserver.registry.resource import Resource
from tillerman.api.status import Cause, StatusError, forbidden

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


@dataclass(slots=True)
class Attributes:
    """One write. ``obj``: the new object (a plugin's ``admit`` may change it), None for DELETE; ``old``: what is
    stored.

    ``kind``: (api version, kind) of ``obj`` where it is not the resource's own kind (a Scale, a Binding).
    ``options``: DeleteOptions of a deletion.
    """

    operation: str
    resource: Resource
    namespace: str
    name: str
    subresource: str
    obj: Any
    old: Any
    context: Context
    kind: tuple[str, str] | None = None
    options: Any = None
    # A webhook changed ``obj``: the plugins look at it once more.
    reinvoke: bool = False
    # What the webhooks that want to be asked again need to know; theirs alone.
    reinvocation: Any = None
    # Taken back, in order, when the write fails after it was admitted.
    undo: list[Callable[[], None]] | None = None
    # False once a plugin did more than to look and to change ``obj``: the next such write has to come by again.
    repeatable: bool = True

    def revoke(self) -> None:
        """What admission did for a write that did not come to be is taken back."""
        for take_back in self.undo or ():
            take_back()
        self.undo = None

    @property
    def shown_name(self) -> str:
        """The object's name in refusals, before and after one is generated."""
        if self.name:
            return self.name
        meta = getattr(self.obj, "metadata", None)
        return (meta.name or meta.generateName if meta is not None else "") or "Unknown"


class Plugin(Protocol):
    """``admit`` may change the object, ``validate`` only refuse; both raise StatusError to refuse."""

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        """Whether the plugin has a say in such requests; the answer must not change."""

    @property
    def reads(self) -> frozenset[tuple[str, str]] | None:
        """See BasePlugin."""

    async def admit(self, attributes: Attributes) -> None: ...

    async def validate(self, attributes: Attributes) -> None: ...


class BasePlugin:
    """A plugin that does nothing; subclasses override what they need.

    ``operations``, ``resources`` ((group, resource) pairs; empty: all) and ``subresources`` say what it handles.
    ``reads``: (API version, resource) pairs; what it says of two creations by one user in one namespace, of objects
    that differ in nothing but their names, is the same while no object of these changes, unless it makes the write
    not ``repeatable``. None: that cannot be said.
    """

    reads: frozenset[tuple[str, str]] | None = None

    operations: frozenset[str] = frozenset({CREATE, UPDATE, DELETE, CONNECT})
    resources: frozenset[tuple[str, str]] = frozenset()
    subresources: frozenset[str] = frozenset({""})

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        return (
            operation in self.operations
            and subresource in self.subresources
            and (not self.resources or (resource.group, resource.name) in self.resources)
        )

    async def admit(self, attributes: Attributes) -> None:
        return None

    async def validate(self, attributes: Attributes) -> None:
        return None


class Chain:
    """All mutating parts in order, then (after the registry's own validation) all validating ones."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._plugins = tuple(plugins)
        self._known: dict[tuple[str, str, str, str, bool], tuple[tuple[Plugin, ...], tuple[Plugin, ...]]] = {}

    def _of(self, attributes: Attributes) -> tuple[tuple[Plugin, ...], tuple[Plugin, ...]]:
        """(mutating, validating) plugins of such a request."""
        operation, resource, subresource = attributes.operation, attributes.resource, attributes.subresource
        # A custom resource may come back with another scope.
        key = (operation, resource.group, resource.name, subresource, resource.namespaced)
        found = self._known.get(key)
        if found is None:
            wanted = [p for p in self._plugins if p.handles(operation, resource, subresource)]
            found = self._known[key] = (
                tuple(p for p in wanted if getattr(type(p), "admit", None) is not BasePlugin.admit),
                tuple(p for p in wanted if getattr(type(p), "validate", None) is not BasePlugin.validate),
            )
        return found

    def reads(self, operation: str, resource: Resource, subresource: str) -> frozenset[tuple[str, str]] | None:
        """What all plugins that have a say in such requests read; None when one of them cannot tell."""
        read: set[tuple[str, str]] = set()
        for plugin in self._plugins:
            if plugin.handles(operation, resource, subresource):
                if plugin.reads is None:
                    return None
                read |= plugin.reads
        return frozenset(read)

    async def admit(self, attributes: Attributes) -> None:
        plugins = self._of(attributes)[0]
        for plugin in plugins:
            await plugin.admit(attributes)
        if attributes.reinvoke:
            for plugin in plugins:
                await plugin.admit(attributes)

    async def validate(self, attributes: Attributes) -> None:
        for plugin in self._of(attributes)[1]:
            await plugin.validate(attributes)

    async def review(self, attributes: Attributes) -> None:
        """Both, for what the registry has no rules of its own about: deletions, connections, subresources' bodies."""
        await self.admit(attributes)
        await self.validate(attributes)


def refused(attributes: Attributes, detail: str, *causes: Cause) -> StatusError:
    """Forbidden, as Kubernetes' plugins word it."""
    resource = attributes.resource
    return forbidden(resource.name, attributes.shown_name, detail, resource.group, causes=causes)


def aggregate(details: Sequence[str]) -> str:
    """Several faults as one text, each told once."""
    told = list(dict.fromkeys(details))
    return told[0] if len(told) == 1 else f"[{', '.join(told)}]"
