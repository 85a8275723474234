"""Equality as Kubernetes means it: a field that is absent equals one that is empty, quantities go by their amount.

Where a Go pointer says whether something is there at all, absent and empty differ. The walk enters only what differs,
so that objects that are equal but for one field cost little more than protobuf's own comparison.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from services.apiserver.strategy.fields import is_map, is_pointer
from tillerman.api.quantity import parse_quantity
from tillerman.pb.k8s import resource_pb2

_QUANTITY = resource_pb2.Quantity.DESCRIPTOR.full_name


def semantically_equal(first: Any, second: Any) -> bool:
    """Whether two messages of one type mean the same object."""
    return first == second or (isinstance(first, Message) and not _differ(first, second))


def _differ(first: Any, second: Any) -> bool:
    descriptor = first.DESCRIPTOR
    if descriptor.full_name == _QUANTITY:
        return bool(_amount(first) != _amount(second))
    plan = _plan(descriptor)
    names = {field.name for field, _ in first.ListFields()} | {field.name for field, _ in second.ListFields()}
    for name in names:
        form, pointer, message = plan[name]
        if pointer and first.HasField(name) != second.HasField(name):
            return True
        one, other = getattr(first, name), getattr(second, name)
        if form == "single":
            if one != other and (not message or _differ(one, other)):
                return True
        elif len(one) != len(other):
            return True
        elif form == "list":
            if message:
                if any(a != b and _differ(a, b) for a, b in zip(one, other, strict=True)):
                    return True
            elif one != other:
                return True
        elif any(k not in other or (one[k] != other[k] and (not message or _differ(one[k], other[k]))) for k in one):
            return True
    return False


@cache
def _plan(descriptor: Descriptor) -> dict[str, tuple[str, bool, bool]]:
    """By field: (single, list or map; whether presence matters; whether the values are messages)."""
    plan = {}
    for field in descriptor.fields:
        if is_map(field):
            entry = field.message_type
            assert entry is not None
            plan[field.name] = ("map", False, entry.fields_by_name["value"].message_type is not None)
        elif field.is_repeated:
            plan[field.name] = ("list", False, field.message_type is not None)
        else:
            plan[field.name] = ("single", is_pointer(field), field.message_type is not None)
    return plan


def _amount(quantity: Any) -> Any:
    try:
        return parse_quantity(quantity.string or "0")
    except ValueError:
        return quantity.string
