"""Walks over objects by their FieldType: the fields an object sets, what two differ in, a merge, a removal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from services.apiserver.patch.field_paths import (
    FieldSet,
    Path,
    element_of_key,
    element_of_value,
    shown,
)
from services.apiserver.patch.field_types import ANY, DEDUCED, FieldType

_ABSENT: Any = object()
_JSON_TYPES = {"string": str, "boolean": bool}


class TypingError(ValueError):
    """An object that does not fit its type. The text begins with the path, as Kubernetes' does."""


def _merges(value: Any, kind: FieldType) -> bool:
    """Whether the value is looked into rather than taken whole."""
    if kind.atomic:
        return False
    return isinstance(value, dict) if kind.kind == "map" else isinstance(value, list) and kind.kind == "list"


def list_element(item: Any, kind: FieldType) -> str:
    """The path element of a list's item. Raises KeyError for a missing key."""
    if not kind.keys:
        return element_of_value(item)
    values = {}
    for key in kind.keys:
        value = item.get(key) if isinstance(item, dict) else None
        if value is None:
            value = kind.key_defaults[key]
        values[key] = value
    return element_of_key(values)


def _items(value: Any, kind: FieldType) -> dict[str, tuple[Any, FieldType]]:
    """The parts of a map or merging list, by path element. Undeclared fields count as plain values."""
    if isinstance(value, dict):
        return {f"f:{name}": (part, kind.child(name) or ANY) for name, part in value.items()}
    parts: dict[str, tuple[Any, FieldType]] = {}
    for item in value:
        try:
            element = list_element(item, kind)
        except KeyError:
            continue
        parts.setdefault(element, (item, kind.element or ANY))
    return parts


def check(value: Any, kind: FieldType, path: Path = ()) -> None:
    """Raises TypingError for the first thing that does not fit: an unknown field, a wrong type, a repeated key."""
    if value is None or kind is DEDUCED:
        return
    where = shown(path)
    if kind.kind == "map":
        if not isinstance(value, dict):
            raise TypingError(f"{where}: expected map, got {value!r}")
        for name, part in value.items():
            child = kind.child(name)
            if child is None:
                if kind.element is None:
                    raise TypingError(f"{shown((*path, f'f:{name}'))}: field not declared in schema")
                child = kind.element
            check(part, child, (*path, f"f:{name}"))
    elif kind.kind == "list":
        _check_list(value, kind, path)
    elif kind.scalar:
        expected = _JSON_TYPES.get(kind.scalar)
        if expected is not None and type(value) is not expected:
            raise TypingError(f"{where}: expected {kind.scalar}, got {value!r}")
        if expected is None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypingError(f"{where}: expected numeric (int or float), got {value!r}")


def _check_list(value: Any, kind: FieldType, path: Path) -> None:
    where = shown(path)
    if not isinstance(value, list):
        raise TypingError(f"{where}: expected list, got {value!r}")
    seen: set[str] = set()
    for index, item in enumerate(value):
        if kind.atomic:
            if kind.element is not None:
                check(item, kind.element, path)
            continue
        try:
            element = list_element(item, kind)
        except KeyError as error:
            detail = f'associative list with keys has an element that omits key field "{error.args[0]}"'
            raise TypingError(f"{where}: element {index}: {detail} (and doesn't have default value)") from error
        if element in seen:
            raise TypingError(f"{where}: duplicate entries for key {shown((element,))}")
        seen.add(element)
        check(item, kind.element or ANY, (*path, element))


def fields_of(value: Any, kind: FieldType) -> FieldSet:
    """The paths that an applied object sets: its leaves, and the items of its merging lists."""
    found: list[Path] = []
    _collect(value, kind, (), found)
    return frozenset(found)


def _collect(value: Any, kind: FieldType, path: Path, found: list[Path]) -> None:
    if not _merges(value, kind):
        # null or an empty value in the place of a map or list sets nothing.
        if kind.kind == "scalar" or kind.atomic or (kind is DEDUCED and not isinstance(value, dict)):
            found.append(path)
        return
    for element, (part, child) in _items(value, kind).items():
        below = (*path, element)
        if element[0] == "f" and part is None:
            found.append(below)
            continue
        _collect(part, child, below, found)
        if element[0] != "f" and child.kind != "scalar":
            found.append(below)


@dataclass(frozen=True, slots=True)
class Difference:
    """How a second object differs from a first."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet

    @property
    def set(self) -> FieldSet:
        """What was given a value."""
        return self.added | self.modified

    @property
    def empty(self) -> bool:
        return not (self.added or self.modified or self.removed)


def compare(first: Any, second: Any, kind: FieldType) -> Difference:
    """The paths added, modified and removed on the way from the first object to the second."""
    added: list[Path] = []
    modified: list[Path] = []
    removed: list[Path] = []
    _compare(first, second, kind, (), added, modified, removed)
    return Difference(frozenset(added), frozenset(modified), frozenset(removed))


def _compare(
    first: Any, second: Any, kind: FieldType, path: Path, added: list[Path], modified: list[Path], removed: list[Path]
) -> None:
    if first is second:
        return
    if first is not _ABSENT and second is not _ABSENT and first == second and type(first) is type(second):
        return
    if path:
        if first is _ABSENT:
            added.append(path)
        elif second is _ABSENT:
            removed.append(path)
    into_first, into_second = _merges(first, kind), _merges(second, kind)
    if not (into_first and first) and not (into_second and second):
        if first is not _ABSENT and second is not _ABSENT and first != second:
            modified.append(path)
        return
    left = _items(first, kind) if into_first else {}
    right = _items(second, kind) if into_second else {}
    for element, (part, child) in left.items():
        other = right[element][0] if element in right else _ABSENT
        _compare(part, other, child, (*path, element), added, modified, removed)
    for element, (part, child) in right.items():
        if element not in left:
            _compare(_ABSENT, part, child, (*path, element), added, modified, removed)


def merge(live: Any, applied: Any, kind: FieldType) -> Any:
    """The live object with the applied one laid over it. Items keep the live order; new ones follow."""
    if not _merges(applied, kind):
        return (
            live
            if applied is None and isinstance(live, dict | list) and kind.kind != "scalar" and not kind.atomic
            else applied
        )
    if not _merges(live, kind):
        live = {} if isinstance(applied, dict) else []
    right = _items(applied, kind)
    if isinstance(applied, dict):
        merged = dict(live)
        for element, (part, child) in right.items():
            name = element[2:]
            merged[name] = merge(live[name], part, child) if name in live else part
        return merged
    left = _items(live, kind)
    result = [merge(part, right[e][0], child) if e in right else part for e, (part, child) in left.items()]
    return [*result, *(part for e, (part, _) in right.items() if e not in left)]


def remove(value: Any, kind: FieldType, paths: FieldSet) -> Any:
    """The object without the paths and what is below them; what becomes empty goes too."""
    trie: dict[str, Any] = {}
    for path in paths:
        node = trie
        for element in path:
            node = node.setdefault(element, {})
        node[""] = True
    return _remove(value, kind, trie)


def _remove(value: Any, kind: FieldType, trie: dict[str, Any]) -> Any:
    if not trie or not _merges(value, kind):
        return value
    kept = list(_kept(value, kind, trie))
    if isinstance(value, dict):
        return {element[2:]: part for element, part in kept if part is not None} or None
    return [part for _, part in kept] or None


def _kept(value: Any, kind: FieldType, trie: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for element, (part, child) in _items(value, kind).items():
        below = trie.get(element)
        if below is None:
            yield element, part
        elif "" not in below:
            yield element, _remove(part, child, below)
