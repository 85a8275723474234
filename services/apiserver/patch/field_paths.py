"""Sets of field paths, and their FieldsV1 form.

A path is a tuple of elements as FieldsV1 spells them: "f:spec" (a field or map key), 'k:{"name":"main"}' (an element of
a keyed list), 'v:"a"' (an element of a set). A FieldSet is a frozenset of paths; a member stands for itself, not for
what is below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from tillerman.api.json_text import compact

Path = tuple[str, ...]
FieldSet = frozenset[Path]
EMPTY: FieldSet = frozenset()


def decode(fields: Mapping[str, Any]) -> FieldSet:
    """The set that a FieldsV1 object names."""
    found: list[Path] = []
    _decode(fields, (), found)
    return frozenset(found)


def _decode(node: Mapping[str, Any], path: Path, found: list[Path]) -> None:
    for element, below in node.items():
        if element == ".":
            found.append(path)
        elif isinstance(below, Mapping):
            if below:
                _decode(below, (*path, element), found)
            else:
                found.append((*path, element))


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """The FieldsV1 object of a set, its elements in order."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for element in path[:-1]:
            child = node.setdefault(element, {})
            if child is _LEAF:
                child = node[element] = {".": {}}
            node = child
        if not path:
            node["."] = {}
        elif path[-1] in node:
            node[path[-1]] = {".": {}, **node[path[-1]]}
        else:
            node[path[-1]] = _LEAF
    return _plain(root)


_LEAF: dict[str, Any] = {}


def _plain(node: dict[str, Any]) -> dict[str, Any]:
    return {k: ({} if v is _LEAF else _plain(v)) for k, v in node.items()}


def with_named_parents(paths: Iterable[Path]) -> FieldSet:
    """The set and every field above its members; elements of lists are not drawn in."""
    found = set(paths)
    for path in list(found):
        for length in range(len(path) - 1, 0, -1):
            if path[length - 1].startswith("f:"):
                found.add(path[:length])
    return frozenset(found)


def element_of_key(values: Mapping[str, Any]) -> str:
    """The path element of a keyed list's item, from the values of its keys."""
    return "k:" + compact(values, sort=True)


def element_of_value(value: Any) -> str:
    return "v:" + compact(value)


def shown(path: Path) -> str:
    """As messages spell a path: `.spec.containers[name="main"].image`."""
    text = []
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text.append(f".{rest}")
        elif kind == "k":
            keys = orjson.loads(rest)
            text.append("[" + ",".join(f"{k}={compact(keys[k])}" for k in sorted(keys)) + "]")
        else:
            text.append(f"[={rest}]")
    return "".join(text)
