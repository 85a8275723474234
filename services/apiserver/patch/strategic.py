"""Strategic merge patch: lists merge by the keys that Kubernetes declares, and directives say what a merge cannot.

Directives: `$patch: delete | replace` in a map or a list's element, `$retainKeys`, and beside a list
`$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`. Declarations come from the descriptors' options.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from services.apiserver.patch.element_order import normalize_order, order_mismatch
from services.apiserver.patch.errors import bad_patch, malformed
from services.apiserver.strategy.fields import facts, is_map, json_fields
from tillerman.api import codec

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_PREFIX = "$deleteFromPrimitiveList/"
_ORDER_PREFIX = "$setElementOrder/"
BAD_RETAIN_KEYS = "invalid patch format of retainKeys"
_DIRECTIVES = (_PATCH, _RETAIN, _DELETE_PREFIX, _ORDER_PREFIX)


def strategic_merge(current: dict[str, Any], patch: Any, descriptor: Any) -> dict[str, Any]:
    """The merged object; `current` is left alone. Raises Invalid or BadRequest with Kubernetes' texts."""
    if patch is None:
        return current
    if not isinstance(patch, dict):
        raise malformed(
            f"json: cannot unmarshal {codec.json_type(patch)} into Go value of type map[string]interface {{}}"
        )
    merged: dict[str, Any] = _Merge(patch).maps(copy.deepcopy(current), _with_whole_numbers(patch), descriptor)
    return merged


def _with_whole_numbers(value: Any) -> Any:
    """A copy in which 2.0 is 2: Kubernetes goes from the patch to its structs without reading the numbers again."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Merge:
    """One merge. Holds the whole patch, which refusals quote."""

    def __init__(self, patch: dict[str, Any]) -> None:
        self._whole = go_map(patch)

    def maps(self, original: dict[str, Any], patch: dict[str, Any], descriptor: Descriptor | None) -> dict[str, Any]:
        directive = patch.pop(_PATCH, None)
        if directive == "replace":
            return clean_map(patch)
        if directive == "delete":
            return {}
        if directive is not None:
            raise malformed(f"unknown patch type: {directive} in map: {go_map({_PATCH: directive, **patch})}")
        self._retain(original, patch)
        orders = {k.removeprefix(_ORDER_PREFIX): patch.pop(k) for k in list(patch) if k.startswith(_ORDER_PREFIX)}
        deletions = {k.removeprefix(_DELETE_PREFIX): patch.pop(k) for k in list(patch) if k.startswith(_DELETE_PREFIX)}
        fields = json_fields(descriptor) if descriptor is not None else {}
        for name in list(dict.fromkeys([*patch, *orders, *deletions])):
            order, gone = orders.get(name), deletions.get(name)
            for directive_value in (order, gone):
                if directive_value is not None and not isinstance(directive_value, list):
                    self._refuse(f"cannot restore slice from {_go_kind(directive_value)}")
            if name in patch and patch[name] is None:
                original.pop(name, None)
            elif name in patch and not isinstance(patch[name], dict | list):
                original[name] = patch[name]
            elif name in patch and isinstance(patch[name], dict):
                self._map_field(original, name, patch[name], fields.get(name))
            else:
                self._list_field(original, name, patch.get(name), order, gone, fields.get(name))
        return original

    def _map_field(
        self, original: dict[str, Any], name: str, value: dict[str, Any], field: FieldDescriptor | None
    ) -> None:
        if field is not None and field.is_repeated and not is_map(field):
            self._refuse("cannot restore slice from map")
        before = original.get(name)
        whole = field is not None and "replace" in facts(field).patch_strategy
        if not isinstance(before, dict) or whole:
            if whole or before is None:
                original[name] = clean(value) if whole else self.maps({}, value, _map_type(field))
            else:
                original[name] = clean(value)
            return
        original[name] = self.maps(before, value, _map_type(field))

    def _list_field(
        self,
        original: dict[str, Any],
        name: str,
        value: list[Any] | None,
        order: list[Any] | None,
        gone: list[Any] | None,
        field: FieldDescriptor | None,
    ) -> None:
        declared = facts(field) if field is not None else None
        merges = declared is not None and "merge" in declared.patch_strategy
        before = original.get(name)
        if not merges or declared is None or not isinstance(before, list):
            if value is not None:
                original[name] = clean(value)
            elif gone and isinstance(before, list):
                original[name] = [item for item in before if item not in gone]
            return
        patch = value or []
        if not declared.merge_key or (field is not None and field.message_type is None):
            original[name] = _merge_primitives(before, patch, order, gone)
            return
        original[name] = self.lists(before, patch, order, declared.merge_key, field)

    def lists(
        self, before: list[Any], patch: list[Any], order: list[Any] | None, key: str, field: FieldDescriptor | None
    ) -> list[Any]:
        if any(not isinstance(item, dict) for item in patch):
            raise malformed(f"list element types are not identical: [{go_value(before)} {go_value(patch)}]")
        if any(item.get(_PATCH) == "replace" for item in patch):
            return [clean(item) for item in patch if _PATCH not in item]
        for item in patch:
            if key not in item:
                raise malformed(f"map: {go_map(item)} does not contain declared merge key: {key}")
            if item.get(_PATCH) == "merge":
                raise malformed("merging lists cannot yet be specified in the patch")
            if item.get(_PATCH) not in (None, "delete"):
                raise malformed(f"unknown patch type: {item[_PATCH]} in map: {go_map(item)}")
        if any(not isinstance(entry, dict) for entry in order or ()):
            raise malformed(f"list element types are not identical: [{go_value(before)} {go_value(order)}]")
        if order is not None and order_mismatch(
            [i[key] for i in patch if _PATCH not in i], [o.get(key) for o in order]
        ):
            listed = [item for item in patch if _PATCH not in item]
            text = f"The order in patch list:\n{go_value(listed)}\n doesn't match $setElementOrder list:\n"
            text += f"{go_value(order)}\n"
            raise malformed(text)
        server = list(before)
        merged = [item for item in before if not _deleted(item, patch, key)]
        element = field.message_type if field is not None else None
        for item in patch:
            if item.get(_PATCH) == "delete":
                continue
            at = next((i for i, known in enumerate(merged) if known.get(key) == item[key]), None)
            if at is None:
                merged.append(clean(item))
            else:
                merged[at] = self.maps(dict(merged[at]), dict(item), element)
        wanted = (
            [entry.get(key) for entry in order] if order is not None else [i[key] for i in patch if _PATCH not in i]
        )
        return normalize_order(merged, wanted, [item.get(key) for item in server], lambda item: item.get(key))

    def _retain(self, original: dict[str, Any], patch: dict[str, Any]) -> None:
        if _RETAIN not in patch:
            return
        keys = patch.pop(_RETAIN)
        if not isinstance(keys, list):
            raise malformed(BAD_RETAIN_KEYS)
        for key, value in patch.items():
            if value is not None and key not in keys and not key.startswith((_DELETE_PREFIX, _ORDER_PREFIX)):
                raise malformed(BAD_RETAIN_KEYS)
        for key in [k for k in original if k not in keys]:
            del original[key]

    def _refuse(self, detail: str) -> NoReturn:
        raise bad_patch(self._whole, detail)


def _map_type(field: FieldDescriptor | None) -> Descriptor | None:
    """The type whose fields the JSON map has; None for maps with free keys."""
    return None if field is None or is_map(field) else field.message_type


def _deleted(item: Any, patch: list[Any], key: str) -> bool:
    return any(p.get(_PATCH) == "delete" and isinstance(item, dict) and item.get(key) == p.get(key) for p in patch)


def _merge_primitives(
    before: list[Any], patch: list[Any], order: list[Any] | None, gone: list[Any] | None
) -> list[Any]:
    kept = [item for item in before if item not in (gone or [])]
    merged = kept + [item for item in dict.fromkeys(patch) if item not in kept]
    return normalize_order(merged, order if order is not None else patch, before, lambda item: item)


def clean_map(value: dict[str, Any]) -> dict[str, Any]:
    """A patch's map as an object's: without directives and nulls."""
    return {k: clean(v) for k, v in value.items() if v is not None and not k.startswith(_DIRECTIVES)}


def clean(value: Any) -> Any:
    """A patch's value as an object's."""
    if isinstance(value, dict):
        return clean_map(value)
    if isinstance(value, list):
        # Where nothing was, there is nothing to delete or replace.
        return [
            clean(item) for item in value if not (isinstance(item, dict) and item.get(_PATCH) in ("delete", "replace"))
        ]
    return value


def _go_kind(value: Any) -> str:
    return "map" if isinstance(value, dict) else "string" if isinstance(value, str) else "number"


def go_map(value: dict[str, Any]) -> str:
    """As Go prints a map: `map[a:1 b:map[c:2]]`, keys sorted."""
    return f"map[{' '.join(f'{k}:{go_value(value[k])}' for k in sorted(value))}]"


def go_value(value: Any) -> str:
    if isinstance(value, dict):
        return go_map(value)
    if isinstance(value, list):
        return f"[{' '.join(map(go_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
