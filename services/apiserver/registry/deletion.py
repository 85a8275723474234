"""delete and deletecollection: grace periods, finalizers, preconditions, propagation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from services.apiserver.admission.chain import DELETE, Attributes, Chain
from services.apiserver.cache.entry import Entry
from services.apiserver.crd.lifecycle import mark_terminating
from services.apiserver.registry.context import Context
from services.apiserver.registry.identity import precondition_failed
from services.apiserver.registry.reading import ListOptions, ListPage, Reader, Selection
from services.apiserver.registry.resource import OWN_DELETED, OWN_DELETED_GROUPS, Resource
from services.apiserver.registry.writing import ATTEMPTS, Writer, Written
from tillerman.api import times
from tillerman.api.status import (
    StatusError,
    conflict,
    invalid,
    invalid_value,
    is_not_found,
    not_found,
    not_supported,
)
from tillerman.pb.k8s import meta_v1_pb2

CRD = "CustomResourceDefinition.apiextensions.k8s.io"
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
# Kinds older than the garbage collector: deleted with no word about their dependents, they leave them.
ORPHANING = frozenset({("", "replicationcontrollers"), ("batch", "jobs")})
# Nothing depends on an event.
NEVER_COLLECTED = frozenset({("", "events")})
# Resources whose storage compares the preconditions itself, in words of its own.
OWN_CHECK = frozenset({"namespaces", "customresourcedefinitions.apiextensions.k8s.io"})
JOB_WARNING = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


@dataclass(frozen=True, slots=True)
class Deleted:
    """``entry``: the object as it is now (or was last). ``gone``: it is not stored any more."""

    entry: Entry
    gone: bool

    def status(self, resource: str, group: str) -> meta_v1_pb2.Status | None:
        """What the caller is told instead of the object; None when the object itself is the answer."""
        if not self.gone or (group in OWN_DELETED_GROUPS and resource in OWN_DELETED):
            return None
        meta = self.entry.message().metadata
        status = meta_v1_pb2.Status(status="Success")
        status.metadata.SetInParent()
        status.details.name = meta.name
        if group:
            status.details.group = group
        status.details.kind = resource
        status.details.uid = meta.uid
        return status


class Deleter:
    """Raises StatusError and StorageError."""

    def __init__(self, *, reader: Reader, writer: Writer, admission: Chain) -> None:
        self._reader = reader
        self._writer = writer
        self._admission = admission

    async def delete(
        self, resource: Resource, namespace: str, name: str, options: meta_v1_pb2.DeleteOptions, context: Context
    ) -> Deleted:
        check_options(options)
        if resource.group_kind == "Job.batch" and orphans_by_custom(resource, options):
            context.warnings.append(JOB_WARNING)
        dry_run = context.dry_run or bool(options.dryRun)
        key = resource.key(namespace, name)
        entry = resource.cache.entries.get(key)
        certain = False
        for _ in range(ATTEMPTS):
            if entry is None:
                if not certain:
                    entry, certain = await self._reader.fresh(resource, key), True
                if entry is None:
                    raise not_found(resource.name, name, resource.group)
            old = await resource.load(entry)
            try:
                check_preconditions(resource, old, options)
                attributes = Attributes(DELETE, resource, namespace, name, "", None, old, context, options=options)
                await self._admission.review(attributes)
            except StatusError:
                newest = None if certain else await self._reader.fresh(resource, key)
                if certain or (newest is not None and newest.revision == entry.revision):
                    raise
                entry, certain = newest, True
                continue
            new = resource.copy(old)
            at_once = plan(resource, new, options)
            new.metadata.ClearField("resourceVersion")
            old.metadata.ClearField("resourceVersion")
            if dry_run:
                return Deleted(resource.entry(key, await resource.encoded(new), entry.revision), at_once)
            written: Written | None
            if at_once and (not is_pod(resource) or is_over(old.metadata)):
                written, current = await self._writer.remove(resource, key, entry)
            elif new == old and not at_once:
                return Deleted(entry, False)
            else:
                # A pod is marked first, so that whoever watches it sees it end before it is gone.
                written, current = await self._writer.write(resource, key, name, entry, old, new, context)
                if written is not None and at_once and not written.deleted:
                    await self._remove_marked(resource, key, written.entry)
            if written is not None:
                return Deleted(written.entry, at_once)
            entry, certain = current, True
        raise conflict(resource.name, name, resource.group)

    async def _remove_marked(self, resource: Resource, key: str, entry: Entry) -> None:
        """Whatever others write to it meanwhile; not if they gave it a finalizer, or it is another object now."""
        uid = entry.message().metadata.uid
        current: Entry | None = entry
        while current is not None:
            meta = current.message().metadata
            if meta.uid != uid or meta.finalizers:
                return
            _, current = await self._writer.remove(resource, key, current)

    async def is_empty(self, resource: Resource) -> bool:
        """Whether no object of a resource is stored, as of now."""
        await self._reader.confirm()
        return not resource.cache.entries and not resource.cache.broken

    async def delete_collection(
        self,
        resource: Resource,
        selection: Selection,
        listing: ListOptions,
        options: meta_v1_pb2.DeleteOptions,
        context: Context,
    ) -> ListPage:
        """Deletes what a list finds, and returns that list, as it was before."""
        page = await self._reader.list(resource, selection, listing)
        for entry in page.entries:
            namespace, _, name = entry.key[len(resource.prefix) :].rpartition("/")
            each = meta_v1_pb2.DeleteOptions()
            each.CopyFrom(options)
            try:
                await self.delete(resource, namespace, name, each, context)
            except StatusError as error:
                if not is_not_found(error):
                    raise
        return page


def plan(resource: Resource, obj: Any, options: meta_v1_pb2.DeleteOptions) -> bool:
    """Marks ``obj`` as Kubernetes' registry does; True when it is to be removed now."""
    meta = obj.metadata
    if (resource.group, resource.name) == ("", "namespaces"):
        return _plan_namespace(resource, obj, options)
    if resource.group_kind == CRD and not meta.HasField("deletionTimestamp"):
        mark_terminating(obj)
        return False
    if meta.HasField("deletionTimestamp"):
        if is_over(meta):
            _set_propagation(resource, meta, options)
            return not meta.finalizers
        period = _not_negative(options.gracePeriodSeconds)
        if not options.HasField("gracePeriodSeconds") or period >= meta.deletionGracePeriodSeconds:
            return False
        began = times.to_seconds(meta.deletionTimestamp) - meta.deletionGracePeriodSeconds
        _mark(meta, began, period)
        _set_propagation(resource, meta, options)
        return meta.deletionGracePeriodSeconds == 0 and not meta.finalizers
    _set_propagation(resource, meta, options)
    period = grace_period(resource, obj, options)
    at_once = period == 0 and not meta.finalizers
    if at_once and not is_pod(resource):
        return True
    if meta.generation > 0:
        meta.generation += 1
    _mark(meta, time.time(), period)
    return at_once


def _plan_namespace(resource: Resource, obj: Any, options: meta_v1_pb2.DeleteOptions) -> bool:
    """The first delete only marks it; whoever empties it deletes it again, once spec.finalizers are gone."""
    meta = obj.metadata
    if not meta.HasField("deletionTimestamp"):
        _set_propagation(resource, meta, options)
        obj.status.phase = "Terminating"
        meta.deletionTimestamp.CopyFrom(times.now())
        return False
    if obj.spec.finalizers:
        return False
    _set_propagation(resource, meta, options)
    return not meta.finalizers


def is_over(meta: Any) -> bool:
    """Whether the object is marked, and has no grace period that it may still use."""
    return meta.HasField("deletionTimestamp") and not meta.deletionGracePeriodSeconds


def is_pod(resource: Resource) -> bool:
    return (resource.group, resource.name) == ("", "pods")


def grace_period(resource: Resource, obj: Any, options: meta_v1_pb2.DeleteOptions) -> int:
    """Seconds that the object keeps running; only pods have any."""
    if not is_pod(resource):
        return 0
    if not obj.spec.nodeName or obj.status.phase in ("Succeeded", "Failed"):
        return 0
    if options.HasField("gracePeriodSeconds"):
        period = options.gracePeriodSeconds
    else:
        period = obj.spec.terminationGracePeriodSeconds if obj.spec.HasField("terminationGracePeriodSeconds") else 30
    return _not_negative(period)


def _not_negative(seconds: int) -> int:
    """A grace period: what is below zero counts as a second."""
    return seconds if seconds >= 0 else 1


def _mark(meta: Any, began: float, period: int) -> None:
    meta.deletionTimestamp.CopyFrom(times.from_seconds(int(began + period)))
    meta.deletionGracePeriodSeconds = period


def _set_propagation(resource: Resource, meta: Any, options: meta_v1_pb2.DeleteOptions) -> None:
    """Adds or takes away the garbage collector's finalizers: as the options say, else as the object already does, else
    as is the kind's custom.
    """
    kind = (resource.group, resource.name)
    if kind in NEVER_COLLECTED:
        return
    present = list(meta.finalizers)
    if options.HasField("orphanDependents"):
        wanted = ORPHAN if options.orphanDependents else ""
    elif options.HasField("propagationPolicy"):
        wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(options.propagationPolicy, "")
    else:
        custom = ORPHAN if kind in ORPHANING else ""
        wanted = next((name for name in present if name in (ORPHAN, FOREGROUND)), custom)
    kept = [name for name in present if name not in (ORPHAN, FOREGROUND)]
    if wanted:
        kept.append(wanted)
    if set(kept) != set(present):
        del meta.finalizers[:]
        meta.finalizers.extend(kept)


def orphans_by_custom(resource: Resource, options: meta_v1_pb2.DeleteOptions) -> bool:
    """Whether the dependents stay only because the options don't say what shall become of them."""
    told = options.HasField("orphanDependents") or options.HasField("propagationPolicy")
    return not told and (resource.group, resource.name) in ORPHANING


def check_options(options: meta_v1_pb2.DeleteOptions) -> None:
    """Raises Invalid."""
    causes = []
    if options.HasField("propagationPolicy"):
        if options.HasField("orphanDependents"):
            detail = "orphanDependents and deletionPropagation cannot be both set"
            causes.append(invalid_value("propagationPolicy", options.propagationPolicy, detail))
        elif options.propagationPolicy not in ("Orphan", "Background", "Foreground"):
            causes.append(
                not_supported(
                    "propagationPolicy", options.propagationPolicy, ("Foreground", "Background", "Orphan", "nil")
                )
            )
    if any(value != "All" for value in options.dryRun):
        causes.append(not_supported("dryRun", list(options.dryRun), ("All",)))
    if causes:
        raise invalid("DeleteOptions.meta.k8s.io", "", causes)


def check_preconditions(resource: Resource, obj: Any, options: meta_v1_pb2.DeleteOptions) -> None:
    """Raises Conflict, about the kind, as Kubernetes does wherever a resource has no check of its own."""
    if not options.HasField("preconditions"):
        return
    wanted, meta = options.preconditions, obj.metadata
    checks = [
        (wanted.HasField("uid"), "UID", wanted.uid, meta.uid, "deleted and then recreated"),
        (
            wanted.HasField("resourceVersion"),
            "ResourceVersion",
            wanted.resourceVersion,
            meta.resourceVersion,
            "modified",
        ),
    ]
    for given, what, expected, found, fate in checks:
        if not given or expected == found:
            continue
        if resource.info.group_resource in OWN_CHECK:
            raise conflict(resource.name, meta.name, resource.group, precondition_failed(what, expected, found))
        detail = (
            f"the {what} in the precondition ({expected}) does not match the {what} in record ({found}). "
            f"The object might have been {fate}"
        )
        raise conflict(resource.info.kind, meta.name, resource.group, detail)
