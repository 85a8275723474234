"""RFC 6902 JSON patch, with the habits of the library that Kubernetes uses.

A path without its leading slash does nothing; "test" of a missing path against null passes; "add" without a value adds
null. A patch is applied whole or not at all.
"""

from __future__ import annotations

import copy
from typing import Any

from services.apiserver.patch.errors import cannot_apply, malformed
from tillerman.api.status import request_entity_too_large

MAX_OPERATIONS = 10_000


def apply(current: dict[str, Any], operations: Any) -> dict[str, Any]:
    """The object after all operations. Raises BadRequest (not a patch) or Invalid (does not fit)."""
    if not isinstance(operations, list):
        raise malformed(f"json: cannot unmarshal {_go_type(operations)} into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        detail = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise request_entity_too_large(detail)
    document: Any = copy.deepcopy(current)
    for operation in operations:
        if not isinstance(operation, dict):
            raise malformed(f"json: cannot unmarshal {_go_type(operation)} into Go value of type jsonpatch.Operation")
        try:
            document = _run(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise cannot_apply() from error
    if not isinstance(document, dict):
        raise cannot_apply()
    return document


def _run(document: Any, operation: dict[str, Any]) -> Any:
    kind, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str):
        raise KeyError("path")
    value = operation.get("value")
    if kind == "test":
        if not _equal(_find(document, path), value):
            raise ValueError(path)
    elif kind == "add":
        _add(document, path, copy.deepcopy(value))
    elif kind == "remove":
        _remove(document, path)
    elif kind == "replace":
        container, key = _parent(document, path)
        _get(container, key)
        _set(container, key, copy.deepcopy(value))
    elif kind in ("move", "copy"):
        source = operation.get("from")
        if not isinstance(source, str):
            raise KeyError("from")
        container, key = _parent(document, source)
        moved = copy.deepcopy(_get(container, key))
        if kind == "move":
            _remove(document, source)
        _add(document, path, moved)
    else:
        raise ValueError(f"unexpected kind: {kind}")
    return document


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


def _find(document: Any, path: str) -> Any:
    """The value there, or the mark of nothing: a missing member is tested as null, a missing parent is an error."""
    container, key = _parent(document, path)
    if isinstance(container, dict):
        return container.get(key)
    return _get(container, key)


def _index(container: list[Any], key: str) -> int:
    index = int(key)
    if index < 0:
        # Kubernetes' library counts negative indices from the end.
        if index < -len(container):
            raise IndexError(key)
        index += len(container)
    return index


def _get(container: Any, key: str) -> Any:
    if isinstance(container, dict):
        return container[key]
    return container[_index(container, key)]


def _set(container: Any, key: str, value: Any) -> None:
    if isinstance(container, dict):
        container[key] = value
    else:
        container[_index(container, key)] = value


def _add(document: Any, path: str, value: Any) -> None:
    container, key = _parent(document, path)
    if isinstance(container, dict):
        container[key] = value
        return
    if key == "-":
        container.append(value)
        return
    index = int(key)
    if index < 0:
        index += len(container) + 1
    if not 0 <= index <= len(container):
        raise IndexError(key)
    container.insert(index, value)


def _remove(document: Any, path: str) -> None:
    container, key = _parent(document, path)
    if isinstance(container, dict):
        del container[key]
    else:
        del container[_index(container, key)]


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, bool) != isinstance(second, bool):
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_equal(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)


def _go_type(value: Any) -> str:
    names: dict[type, str] = {dict: "object", str: "string", bool: "bool", list: "array"}
    return names.get(type(value), "number")
