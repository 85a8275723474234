"""Rules' results remembered for objects that differ in nothing but their names.

A Deployment's pods are the same object a thousand times over, under other names. What the rules make of one (its
defaults, its status at creation, that it is valid, who owns its fields) they make of each, and walking a pod costs more
than all the rest of creating it. So for the kinds that say so (`Kind.alike`) the outcome is kept under the object's
content: all of it but what `OWN` names. Rules of such a kind may read nothing of that and change nothing of metadata; a
rule that does is noticed when it runs, and its outcome is not kept. Only clean outcomes are remembered, so that every
refusal is made from the object at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

# Remembered outcomes per rule, and the largest content that is worth it.
OUTCOMES = 256
CONTENT_BYTES = 16_384
# What is each object's own, of its metadata.
OWN: tuple[Any, ...] = ("name", "namespace", "uid", "creationTimestamp", "resourceVersion", "managedFields")

Content = bytes


class Alike:
    """Outcomes of one rule over one kind, as bytes. The oldest gives way when there are too many."""

    def __init__(self) -> None:
        self._outcomes: dict[Content, bytes] = {}

    def known(self, content: Content | None) -> bytes | None:
        return None if content is None else self._outcomes.get(content)

    def remember(self, content: Content | None, outcome: bytes = b"") -> None:
        if content is None:
            return
        if len(self._outcomes) >= OUTCOMES:
            del self._outcomes[next(iter(self._outcomes))]
        self._outcomes[content] = outcome

    def change(self, obj: Message, rule: Callable[[Any], None]) -> Content | None:
        """What ``rule`` does to the object, in place. Returns what all objects shared that come out alike; None when
        that cannot be told.
        """
        content = content_of(obj)
        outcome = self.known(content)
        if outcome is not None:
            for name in _fields_of(obj.DESCRIPTOR):
                obj.ClearField(name)
            obj.MergeFromString(outcome)
            return content
        before = _metadata_of(obj)
        rule(obj)
        if _metadata_of(obj) != before:
            return None
        rest = type(obj)()
        rest.CopyFrom(obj)
        rest.ClearField("metadata")
        self.remember(content, rest.SerializeToString())
        return content


class Remembered:
    """The outcomes of one kind's rules. ``valid``: of objects that were created from a content, by that content.
    ``valid_again``: for updates, which leave metadata to other rules.
    """

    def __init__(self) -> None:
        self.defaults = Alike()
        self.created = Alike()
        self.valid = Alike()
        self.valid_again = Alike()


def clear_own(meta: Any) -> None:
    """Takes out of metadata what is each object's own, in place."""
    for name in OWN:
        meta.ClearField(name)


def content_of(obj: Any) -> Content | None:
    """What two alike objects share; None for objects too large to remember."""
    meta = obj.metadata
    own = type(meta)()
    own.CopyFrom(meta)
    clear_own(meta)
    content: bytes = obj.SerializeToString(deterministic=True)
    meta.CopyFrom(own)
    return content if len(content) <= CONTENT_BYTES else None


@cache
def _fields_of(kind: Descriptor) -> tuple[Any, ...]:
    """All but metadata."""
    return tuple(name for name in kind.fields_by_name if name != "metadata")


def _metadata_of(obj: Any) -> bytes:
    raw: bytes = obj.metadata.SerializeToString(deterministic=True)
    return raw
