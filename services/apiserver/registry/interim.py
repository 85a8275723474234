"""Rules to start with while the kinds' own are being written: metadata kept, status kept apart, nothing validated."""

from __future__ import annotations

import json
from typing import Any

SYSTEM = ("uid", "generation", "deletionGracePeriodSeconds")


def default(obj: Any) -> None:
    return None


def allows_unconditional_update(obj: Any) -> bool:
    return True


def allows_create_on_update(obj: Any) -> bool:
    return False


def prepare_for_create(obj: Any) -> None:
    obj.metadata.generation = 1


def prepare_for_update(new: Any, old: Any, subresource: str = "") -> None:
    for name in SYSTEM:
        new.metadata.ClearField(name)
        if old.metadata.HasField(name):
            setattr(new.metadata, name, getattr(old.metadata, name))
    for name in ("creationTimestamp", "deletionTimestamp"):
        new.metadata.ClearField(name)
        if old.metadata.HasField(name):
            getattr(new.metadata, name).CopyFrom(getattr(old.metadata, name))
    names = new.DESCRIPTOR.fields_by_name
    if "status" in names and subresource == "":
        new.ClearField("status")
        new.status.CopyFrom(old.status)
    if subresource == "status":
        new.ClearField("spec")
        new.spec.CopyFrom(old.spec)
    elif "spec" in names and new.spec != old.spec:
        new.metadata.generation = old.metadata.generation + 1


def validate_create(obj: Any) -> list[Any]:
    return []


def validate_update(new: Any, old: Any, subresource: str = "") -> list[Any]:
    return []


def apply_patch(patch_type: str, current: dict[str, Any], patch: bytes, resource_info: Any) -> dict[str, Any]:
    result: dict[str, Any] = _merge(current, json.loads(patch))
    return result


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result
