"""metadata.ownerReferences of what is written."""

from __future__ import annotations

from typing import Any

from services.apiserver.registry.context import Context

_WARNING = (
    ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject "
    "such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
)


def distinct_owners(meta: Any, context: Context) -> None:
    """Takes out references that stand there twice, in place, and warns of them."""
    if len(meta.ownerReferences) < 2:
        return
    kept: list[Any] = []
    repeated: list[str] = []
    for reference in meta.ownerReferences:
        if reference not in kept:
            kept.append(reference)
        elif reference.uid not in repeated:
            repeated.append(reference.uid)
    if repeated:
        kept = [type(reference).FromString(reference.SerializeToString()) for reference in kept]
        del meta.ownerReferences[:]
        meta.ownerReferences.extend(kept)
        context.warnings.append(_WARNING + ", ".join(repeated))
