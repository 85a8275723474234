"""Equality as Kubernetes means it: a field that is absent equals one that is empty, quantities go by their amount."""

from __future__ import annotations

from google.protobuf.message import Message

from tillerman.api import codec


def semantically_equal(first: Message, second: Message) -> bool:
    """Whether two messages of one type mean the same object."""
    return first == second or codec.to_dict(first) == codec.to_dict(second)
