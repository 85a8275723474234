"""Quantities of a message that came as protobuf, whose decoder takes any text for one."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor

from tillerman.api.envelope import split_metadata
from tillerman.api.quantity import stored

_QUANTITY = "k8s.io.apimachinery.pkg.api.resource.Quantity"
# Bytes that were found to be in order, and the largest that are remembered.
_REMEMBERED, _REMEMBERED_BYTES = 256, 16_384
_in_order: dict[tuple[Descriptor, bytes], None] = {}


def check_quantities(message: Any, raw: bytes) -> str:
    """What is wrong with the first quantity that is none, with its path; empty when all are. Puts the others into the
    form in which they are stored; one without a text is 0.

    ``raw``: the message's bytes. A Deployment's pods differ in their metadata only, so what follows it is remembered
    when nothing had to be done.
    """
    kind = message.DESCRIPTOR
    if not _fields(kind):
        return ""
    part = (kind, _after_metadata(raw, kind))
    if part in _in_order:
        return ""
    changed: list[str] = []
    fault = _check(message, changed)
    if not (fault or changed) and len(part[1]) <= _REMEMBERED_BYTES:
        if len(_in_order) >= _REMEMBERED:
            del _in_order[next(iter(_in_order))]
        _in_order[part] = None
    return fault


def _after_metadata(raw: bytes, kind: Descriptor) -> bytes:
    """All of the bytes but a metadata at their beginning."""
    first = kind.fields_by_number.get(1)
    parts = split_metadata(raw) if first is not None and first.name == "metadata" else None
    return raw if parts is None else parts[1]


def _check(message: Any, changed: list[str]) -> str:
    """Also tells the texts that were ``changed``."""
    for name, repeated, is_map, leads in _fields(message.DESCRIPTOR):
        if not repeated:
            if message.HasField(name) and (bad := _bad(getattr(message, name), leads, changed)):
                return f"{name}{bad}"
        elif is_map:
            values = getattr(message, name)
            for key in values:
                if bad := _bad(values[key], leads, changed):
                    return f"{name}[{key}]{bad}"
        else:
            for index, item in enumerate(getattr(message, name)):
                if bad := _bad(item, leads, changed):
                    return f"{name}[{index}]{bad}"
    return ""


def _bad(value: Any, leads: bool, changed: list[str]) -> str:
    if leads:
        below = _check(value, changed)
        return f".{below}" if below else ""
    text, fault = _read(value.string)
    if text != value.string:
        changed.append(value.string)
        value.string = text
    return f": {fault}" if fault else ""


@lru_cache(4096)
def _read(text: str) -> tuple[str, str]:
    """As it is stored, and what is wrong with it."""
    try:
        return (stored(text) if text else "0"), ""
    except ValueError as error:
        return text, str(error)


@cache
def _fields(kind: Descriptor) -> tuple[tuple[str, bool, bool, bool], ...]:
    """(name, repeated, map, whether there is more below) of the fields that are quantities or lead to some."""
    found = []
    for field in kind.fields:
        child = field.message_type
        if child is None:
            continue
        is_map = child.GetOptions().map_entry
        if is_map:
            child = child.fields_by_name["value"].message_type
            if child is None:
                continue
        if child.full_name == _QUANTITY:
            found.append((field.name, field.is_repeated, is_map, False))
        elif _leads(child, frozenset()):
            found.append((field.name, field.is_repeated, is_map, True))
    return tuple(found)


def _leads(kind: Descriptor, above: frozenset[str]) -> bool:
    if kind.full_name in above:
        return False
    children = (field.message_type for field in kind.fields if field.message_type is not None)
    return any(child.full_name == _QUANTITY or _leads(child, above | {kind.full_name}) for child in children)
