"""RFC 6902 JSON patch, with the habits of the library that Kubernetes uses.

A path without its leading slash does nothing; a member that is missing counts as null where it is tested, replaced or
copied; "add" without a value adds null. A patch is applied whole or not at all.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from services.apiserver.patch.errors import cannot_apply, malformed
from tillerman.api.json_text import compact
from tillerman.api.status import request_entity_too_large

MAX_OPERATIONS = 10_000
# What all copies of one patch may add up to, in bytes of JSON.
MAX_COPIED = 3 * 1024 * 1024

_INDEX = re.compile(r"[+-]?[0-9]+")


def apply(current: dict[str, Any], operations: Any) -> dict[str, Any]:
    """The object after all operations. Raises BadRequest (not a patch) or Invalid (does not fit)."""
    if operations is None:
        return current
    if not isinstance(operations, list):
        raise malformed(f"json: cannot unmarshal {_go_type(operations)} into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        detail = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise request_entity_too_large(detail)
    for operation in operations:
        if operation is not None and not isinstance(operation, dict):
            raise malformed(f"json: cannot unmarshal {_go_type(operation)} into Go value of type jsonpatch.Operation")
    document = copy.deepcopy(current)
    copied = 0
    for operation in operations:
        try:
            copied += _run(document, operation or {})
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise cannot_apply() from error
        if copied > MAX_COPIED:
            raise cannot_apply()
    return document


def _run(document: dict[str, Any], operation: dict[str, Any]) -> int:
    """Applies one operation in place; the bytes that it copied."""
    kind, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str):
        raise KeyError("path")
    value = operation.get("value")
    if kind == "test":
        if "value" not in operation or not _equal(_get(*_parent(document, path)), value):
            raise ValueError(path)
    elif kind == "add":
        _add(document, path, copy.deepcopy(value))
    elif kind == "remove":
        _remove(document, path)
    elif kind == "replace":
        _set(*_parent(document, path), copy.deepcopy(value))
    elif kind in ("move", "copy"):
        source = operation.get("from")
        if not isinstance(source, str):
            raise KeyError("from")
        moved = copy.deepcopy(_get(*_parent(document, source)))
        if kind == "move":
            _remove(document, source)
        _add(document, path, moved)
        return len(compact(moved).encode()) if kind == "copy" else 0
    else:
        raise ValueError(f"unexpected kind: {kind}")
    return 0


def _tokens(path: str) -> list[str]:
    if "/" not in path:
        raise KeyError(path)
    # What stands before the first slash is dropped, so "data/c" means "/c".
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def _parent(document: Any, path: str) -> tuple[Any, str]:
    *steps, last = _tokens(path)
    container = document
    for step in steps:
        container = _get(container, step)
        if not isinstance(container, dict | list):
            raise KeyError(path)
    return container, last


def _index(key: str) -> int:
    if not _INDEX.fullmatch(key):
        raise ValueError(key)
    return int(key)


def _present(container: list[Any], key: str) -> int:
    """The index of an item to look at or replace, which is never counted from the end."""
    index = _index(key)
    if not 0 <= index < len(container):
        raise IndexError(key)
    return index


def _get(container: Any, key: str) -> Any:
    return container.get(key) if isinstance(container, dict) else container[_present(container, key)]


def _set(container: Any, key: str, value: Any) -> None:
    container[key if isinstance(container, dict) else _present(container, key)] = value


def _add(document: Any, path: str, value: Any) -> None:
    container, key = _parent(document, path)
    if isinstance(container, dict):
        container[key] = value
        return
    if key == "-":
        container.append(value)
        return
    index = _index(key)
    if index < 0:
        # From the end, where the new item will be the last.
        index += len(container) + 1
    if not 0 <= index <= len(container):
        raise IndexError(key)
    container.insert(index, value)


def _remove(document: Any, path: str) -> None:
    container, key = _parent(document, path)
    if isinstance(container, dict):
        del container[key]
        return
    index = _index(key)
    if not -len(container) <= index < len(container):
        raise IndexError(key)
    del container[index]


def _equal(first: Any, second: Any) -> bool:
    # As texts: 1 is not 1.0.
    if type(first) is not type(second):
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_equal(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)


def _go_type(value: Any) -> str:
    names: dict[type, str] = {dict: "object", str: "string", bool: "bool", list: "array"}
    return names.get(type(value), "number")
