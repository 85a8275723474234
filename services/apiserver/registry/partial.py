"""Subresources through which a part of the object is written: everything else stays as it is stored."""

from __future__ import annotations

from typing import Any

# A part of the object is all that may be written here.
RESTRICTED = frozenset({"approval", "ephemeralcontainers", "resize"})
# Written by code that knows what it does: the kinds' rules about updates don't apply.
OWN_RULES = frozenset({"binding", "lifecycle"})


def restrict(subresource: str, new: Any, old: Any, merged: Any) -> Any:
    """``merged`` (a copy of ``old``) with the part of ``new`` that the subresource may write."""
    if subresource == "approval":
        del merged.status.conditions[:]
        merged.status.conditions.extend(new.status.conditions)
    elif subresource == "ephemeralcontainers":
        del merged.spec.ephemeralContainers[:]
        merged.spec.ephemeralContainers.extend(new.spec.ephemeralContainers)
    elif subresource == "resize":
        wanted = {container.name: container.resources for container in new.spec.containers}
        for container in merged.spec.containers:
            if container.name in wanted:
                container.resources.CopyFrom(wanted[container.name])
    else:
        return new
    merged.metadata.resourceVersion = new.metadata.resourceVersion or old.metadata.resourceVersion
    merged.metadata.uid = new.metadata.uid or old.metadata.uid
    return merged
