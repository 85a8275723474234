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
from typing import Any

from google.protobuf.message import Message

from tillerman.pb.k8s import meta_v1_pb2

# Remembered outcomes per rule, and the largest content that is worth it.
OUTCOMES = 256
CONTENT_BYTES = 16_384
# What is each object's own, of its metadata.
OWN: tuple[Any, ...] = ("name", "namespace", "uid", "creationTimestamp", "resourceVersion", "managedFields")

Content = tuple[Any, ...]


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

    def change(self, obj: Message, rule: Callable[[Any], None]) -> None:
        """What ``rule`` does to the object, in place."""
        content = content_of(obj)
        outcome = self.known(content)
        if outcome is not None:
            for field, _ in obj.ListFields():
                if field.name != "metadata":
                    obj.ClearField(field.name)
            obj.MergeFromString(outcome)
            return
        before = _metadata_of(obj)
        rule(obj)
        if _metadata_of(obj) == before:
            rest = type(obj)()
            rest.CopyFrom(obj)
            rest.ClearField("metadata")
            self.remember(content, rest.SerializeToString())


class Remembered:
    """The outcomes of one kind's rules. ``valid_again``: for updates, which leave metadata to other rules."""

    def __init__(self) -> None:
        self.defaults = Alike()
        self.created = Alike()
        self.valid = Alike()
        self.valid_again = Alike()


def content_of(obj: Any) -> Content | None:
    """What two alike objects share; None for objects too large to remember."""
    shared = meta_v1_pb2.ObjectMeta()
    shared.CopyFrom(obj.metadata)
    for name in OWN:
        shared.ClearField(name)
    raw = shared.SerializeToString(deterministic=True)
    content: list[Any] = [raw]
    size = len(raw)
    for field, value in obj.ListFields():
        if field.name == "metadata":
            continue
        if not isinstance(value, Message):
            return None
        raw = value.SerializeToString(deterministic=True)
        size += len(raw)
        content += (field.number, raw)
    return tuple(content) if size <= CONTENT_BYTES else None


def _metadata_of(obj: Any) -> bytes:
    raw: bytes = obj.metadata.SerializeToString(deterministic=True)
    return raw
