"""Moves single fields between objects: what may change is given its old value before the rest is compared."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from services.apiserver.strategy.fields import is_map


def take_field(target: Any, source: Any, name: str) -> None:
    """Make one field of `target` what it is in `source`, present or not."""
    field = target.DESCRIPTOR.fields_by_name[name]
    target.ClearField(name)
    value = getattr(source, name)
    if is_map(field):
        getattr(target, name).MergeFrom(value)
    elif field.is_repeated:
        getattr(target, name).extend(value)
    elif source.HasField(name):
        if isinstance(value, Message):
            getattr(target, name).CopyFrom(value)
        else:
            setattr(target, name, value)


def keep_metadata(new: Any, old: Any) -> None:
    """A write of the status leaves the metadata of some kinds as it is."""
    for name in ("labels", "annotations", "ownerReferences", "finalizers", "deletionTimestamp"):
        take_field(new.metadata, old.metadata, name)


def take_node_affinity(target: Any, source: Any) -> None:
    """Make the node affinity of one pod spec what it is in another; the affinity to pods stays."""
    if source.affinity.HasField("nodeAffinity"):
        target.affinity.nodeAffinity.CopyFrom(source.affinity.nodeAffinity)
    elif target.HasField("affinity"):
        target.affinity.ClearField("nodeAffinity")
    if target.HasField("affinity") and not target.affinity.ListFields() and not source.HasField("affinity"):
        target.ClearField("affinity")
    elif source.HasField("affinity"):
        target.affinity.SetInParent()
