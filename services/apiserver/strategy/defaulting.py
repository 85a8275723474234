"""Fills defaults by walking an object along its message types.

A default belongs to a type, not to a kind: a Container is completed the same way in a Pod, in a Deployment's template
or in a CronJob's. `VALUES` tables hold constants, `RULES` hold the functions where a default depends on something;
a parent's rule runs before its children's. The walk enters only messages under which some type has a default.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.apiserver.strategy import core_defaults, group_defaults, pod_defaults
from services.apiserver.strategy.fields import is_map, is_pointer
from tillerman.api.quantity import canonical, parse_quantity
from tillerman.pb.k8s import resource_pb2

Rule = Callable[[Any], None]
_Plan = tuple[Rule | None, tuple[tuple[str, bool, Any, bool], ...], tuple[tuple[str, str, str], ...]]

_VALUES: dict[str, dict[str, Any]] = {}
_RULES: dict[str, Rule] = {}
for _module in (pod_defaults, core_defaults, group_defaults):
    _VALUES.update({t.DESCRIPTOR.full_name: values for t, values in _module.VALUES.items()})
    _RULES.update({t.DESCRIPTOR.full_name: rule for t, rule in _module.RULES.items()})

_QUANTITY = resource_pb2.Quantity.DESCRIPTOR.full_name
_MILLI_EXPONENT = -3


def apply(obj: Message) -> None:
    """Fill the defaults of `obj` and of everything in it, in place."""
    _run(obj, obj.DESCRIPTOR)


def _run(msg: Any, descriptor: Any) -> None:
    rule, values, children = _plan(descriptor)
    for name, pointer, value, message in values:
        if (not msg.HasField(name)) if pointer else not getattr(msg, name):
            if message:
                getattr(msg, name).SetInParent()
            else:
                setattr(msg, name, value)
    if rule is not None:
        rule(msg)
    for name, form, full_name in children:
        if form == "struct" or (form == "pointer" and msg.HasField(name)):
            child = getattr(msg, name)
            _run(child, child.DESCRIPTOR)
        elif form == "pointer":
            continue
        elif form == "list":
            for child in getattr(msg, name):
                _run(child, child.DESCRIPTOR)
        elif full_name == _QUANTITY:
            for quantity in getattr(msg, name).values():
                _round_up_to_milli(quantity)
        else:
            for child in getattr(msg, name).values():
                _run(child, child.DESCRIPTOR)


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    values = tuple(
        (name, is_pointer(field) or field.message_type is not None, value, field.message_type is not None)
        for name, value in _VALUES.get(descriptor.full_name, {}).items()
        for field in (descriptor.fields_by_name[name],)
    )
    children = []
    for field in descriptor.fields:
        target = _entered_type(field)
        if target is not None and _leads_to_defaults(target):
            if is_map(field):
                form = "map"
            elif field.is_repeated:
                form = "list"
            else:
                # A Go struct is always there, so its defaults are too; what is behind a pointer may be absent.
                form = "pointer" if is_pointer(field) else "struct"
            children.append((field.name, form, target.full_name))
    return _RULES.get(descriptor.full_name), values, tuple(children)


def _entered_type(field: FieldDescriptor) -> Descriptor | None:
    if field.message_type is None:
        return None
    if is_map(field):
        return field.message_type.fields_by_name["value"].message_type
    if field.message_type.full_name == _QUANTITY:
        return None
    return field.message_type


@cache
def _leads_to_defaults(descriptor: Descriptor) -> bool:
    seen: set[str] = set()
    waiting = [descriptor]
    while waiting:
        current = waiting.pop()
        if current.full_name in seen:
            continue
        seen.add(current.full_name)
        if current.full_name == _QUANTITY or current.full_name in _VALUES or current.full_name in _RULES:
            return True
        waiting += [target for field in current.fields if (target := _entered_type(field)) is not None]
    return False


def _round_up_to_milli(quantity: Any) -> None:
    """Resource lists keep no more than three decimals; what is finer counts as one more."""
    text = quantity.string
    if text[-1:] not in ("n", "u") and "." not in text and "e" not in text and "E" not in text:
        return
    amount = parse_quantity(text)
    scaled = amount.scaleb(-_MILLI_EXPONENT)
    if scaled == scaled.to_integral_value():
        return
    milli = int(scaled.to_integral_value(rounding="ROUND_CEILING"))
    quantity.string = canonical(f"{milli}m")
