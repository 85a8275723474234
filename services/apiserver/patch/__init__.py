"""Patches: a function from the current object (its JSON form) and a patch to the patched object."""

from services.apiserver.patch.apply import apply, parse_applied, track_update
from services.apiserver.patch.dispatch import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    apply_patch,
    check_type,
)

__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "apply",
    "apply_patch",
    "check_type",
    "parse_applied",
    "track_update",
]
