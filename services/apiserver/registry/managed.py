"""metadata.managedFields: who set what, kept up to date by every write of an object that has such a record.

The record is begun by clients that name themselves, people and their tools. The cluster's own components don't begin
one: a ReplicaSet's pods and their status are the hot path, and nobody applies to them. Server-side apply of an object
without a record takes everything that is there as owned by "before-first-apply", as Kubernetes does for objects older
than apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.apiserver import patch as patches
from services.apiserver import strategy
from services.apiserver.registry.context import Context
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.versions import VIEWS, form
from services.apiserver.strategy.alike import Alike, Content
from tillerman.api import codec, times
from tillerman.api.scheme import SCHEME
from tillerman.pb.k8s import meta_v1_pb2

# What a manager owns of a new object whose likes have been created before.
_OWNED = Alike()
# Bytes in a manager's name.
MAX_MANAGER = 128
UNKNOWN = "unknown"
COMPONENTS = ("system:kube-", "system:node:", "system:cloud-controller-manager", "system:apiserver")


def manager_of(context: Context) -> str:
    """The name that the caller gave, or its program's."""
    unnamed = UNKNOWN if context.user_agent else context.user.name
    return context.field_manager or program_of(context.user_agent) or unnamed


def program_of(user_agent: str) -> str:
    """ "kubectl/v1.32" is kubectl; what cannot be printed, and what is too long for a manager's name, is left out."""
    name = "".join(filter(str.isprintable, user_agent.partition("/")[0]))
    return name.encode()[:MAX_MANAGER].decode(errors="ignore")


def begins_record(context: Context) -> bool:
    named = bool(context.field_manager or context.user_agent)
    return named and not context.user.name.startswith(COMPONENTS)


def track(resource: Resource, new: Any, old: Any | None, context: Context, subresource: str = "") -> None:
    """Brings ``new``'s record up to date, in place. Through a subresource nobody edits the record itself."""
    if old is not None and subresource:
        put_entries(new, old.metadata.managedFields)
    if old is None:
        if not begins_record(context):
            del new.metadata.managedFields[:]
            return
    elif not old.metadata.managedFields and not new.metadata.managedFields:
        return
    manager = manager_of(context)
    alike = strategy.alike_content(new) if old is None and not new.metadata.managedFields else None
    if alike is not None and (owned := _OWNED.known(_owned_by(manager, alike))) is not None:
        entry = new.metadata.managedFields.add()
        entry.MergeFromString(owned)
        entry.time.CopyFrom(times.now())
        return
    info = resource.info
    view = VIEWS.get(context.asked) if context.asked is not None else None
    wrote_as = view.info.api_version if view is not None else info.api_version

    def in_version(api_version: str) -> tuple[dict[str, Any] | None, dict[str, Any]] | None:
        after = form(resource, new, api_version)
        return None if after is None else (None if old is None else form(resource, old, api_version), after)

    own = in_version(wrote_as)
    assert own is not None
    entries = patches.track_update(
        *own,
        manager=manager,
        time=times.rfc3339(times.now()),
        api_version=wrote_as,
        kind=info.kind,
        types=resource.field_types if view is None else None,
        in_version=in_version,
    )
    put_record(new, entries)
    if alike is not None and len(new.metadata.managedFields) == 1:
        _OWNED.remember(_owned_by(manager, alike), new.metadata.managedFields[0].SerializeToString())


def _owned_by(manager: str, content: Content) -> Content:
    return manager.encode() + b"\0" + content


def same_but_for_times(new: Any, old: Any, same: Callable[[Any, Any], bool]) -> bool:
    """Whether a write changes nothing, or only when somebody set again what was so already."""
    entries, before = list(new.metadata.managedFields), old.metadata.managedFields
    if entries == list(before) or len(entries) != len(before):
        return same(new, old)
    for entry, known in zip(entries, before, strict=True):
        timeless = type(entry)()
        timeless.CopyFrom(entry)
        timeless.time.CopyFrom(known.time)
        if timeless != known:
            return False
    put_entries(new, list(before))
    if same(new, old):
        return True
    put_entries(new, entries)
    return False


def put_entries(obj: Any, entries: Iterable[Any]) -> None:
    del obj.metadata.managedFields[:]
    obj.metadata.managedFields.extend(entries)


def track_body(body: Any, context: Context) -> None:
    """The record of an object that is answered and not stored (a TokenRequest), in place."""
    api_version, kind = SCHEME.kind_of(body)
    entries = patches.track_update(
        None,
        codec.to_dict(body),
        manager=manager_of(context),
        time=times.rfc3339(times.now()),
        api_version=api_version,
        kind=kind,
    )
    put_record(body, entries)


def put_record(obj: Any, entries: list[dict[str, Any]]) -> None:
    record = codec.from_dict({"managedFields": entries}, meta_v1_pb2.ObjectMeta)
    put_entries(obj, record.managedFields)  # type: ignore[attr-defined]
