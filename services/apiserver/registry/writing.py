"""create, update and patch: the one write path. Decode, default, admit, validate, then one conditional write.

An update starts from the cached object; when that turns out to be old, from what etcd holds. Every method raises
StatusError or StorageError.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, Chain
from services.apiserver.cache.entry import Entry
from services.apiserver.registry import managed
from services.apiserver.registry.context import Context
from services.apiserver.registry.creations import Creations, tells_all
from services.apiserver.registry.identity import check_identity, generate_name, precondition_conflict
from services.apiserver.registry.owners import distinct_owners
from services.apiserver.registry.partial import OWN_RULES, RESTRICTED, restrict
from services.apiserver.registry.reading import Reader
from services.apiserver.registry.requester import REQUESTS, name_requester
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.uids import new_uid
from services.apiserver.registry.versions import ruled
from services.apiserver.storage.errors import OutcomeUnknown, RequestTooLarge, StorageError, StorageUnavailable
from services.apiserver.storage.store import Store
from services.apiserver.strategy.metadata import resource_version_needed
from tillerman.api import times
from tillerman.api.status import (
    StatusError,
    already_exists,
    bad_request,
    conflict,
    invalid,
    make,
    not_found,
    request_entity_too_large,
)

# How many are tried.
GENERATED_NAMES = 8
ATTEMPTS = 20
# Failures after which an object may have been written all the same. What it was given is not taken back then: the
# hook's own repair does that once it is seen to be unused.
UNCERTAIN = (StorageUnavailable, OutcomeUnknown, asyncio.CancelledError)
RULES_OF_ADMISSION = frozenset(
    {
        ("", "limitranges"),
        ("", "namespaces"),
        ("", "resourcequotas"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("networking.k8s.io", "ingressclasses"),
        ("node.k8s.io", "runtimeclasses"),
        ("scheduling.k8s.io", "priorityclasses"),
        ("storage.k8s.io", "storageclasses"),
    }
)

log = structlog.get_logger("apiserver.registry")

Mutate = Callable[[Any], Awaitable[Any]]
Undo = Callable[[], Awaitable[None]]


class WriteHook(Protocol):
    """What a resource does around its writes beside the object itself (a Service's addresses and ports)."""

    async def allocate(self, new: Any, old: Any | None, context: Context) -> Undo:
        """Completes ``new`` in place; the returned function takes it back when the write fails. Raises StatusError."""

    async def settle(self, new: Any | None, old: Any | None) -> None:
        """After the write: gives back what ``old`` held and ``new`` (None: deleted) does not."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write left: the entry, and whether the object is gone (``entry`` is its last state then)."""

    entry: Entry
    deleted: bool = False
    created: bool = False


class Writer:
    def __init__(
        self,
        *,
        store: Store,
        reader: Reader,
        admission: Chain,
        hooks: dict[tuple[str, str], WriteHook],
        creations: Creations,
        event_ttl: int = 3600,
    ) -> None:
        self._store = store
        self._reader = reader
        self._admission = admission
        self._hooks = hooks
        self._creations = creations
        self._event_ttl = event_ttl

    # -- create ----------------------------------------------------------------------------------------------------

    async def create(
        self, resource: Resource, namespace: str, obj: Any, context: Context, name: str = "", *, track: bool = True
    ) -> Written:
        check_identity(resource, obj, namespace, name)
        if obj.metadata.resourceVersion:
            raise bad_request("resourceVersion should not be set on objects to be created")
        likeness = context.likeness
        if likeness is not None and not tells_all(likeness, obj.metadata):
            likeness = None
        distinct_owners(obj.metadata, context)
        resource.default(obj)
        if track:
            # What admission and the kind's rules add is not the caller's.
            managed.track(resource, obj, None, context)
        attributes = Attributes(CREATE, resource, namespace, obj.metadata.name, "", obj, None, context)
        await self._admission.admit(attributes)
        admitted = attributes.obj

        async def create(name: str) -> Written:
            candidate = admitted
            if name != admitted.metadata.name:
                candidate = resource.copy(admitted)
                candidate.metadata.name = name
            return await self._create(attributes, candidate)

        written = await self._named(resource, admitted.metadata.name, admitted.metadata.generateName, create)
        if likeness is not None:
            self._creations.remember(likeness, attributes)
        return written

    async def create_alike(self, resource: Resource, namespace: str, raw: bytes, context: Context) -> Written | None:
        """Creates the object with these bytes as others like it were. None where there were none: ``create`` it with
        the same context, which then remembers what it comes to.
        """
        likeness = context.likeness = self._creations.likeness(resource, namespace, raw, context)
        if likeness is None or (known := likeness.known) is None:
            return None

        async def create(name: str) -> Written:
            if causes := resource.validate_name(name):
                raise invalid(resource.group_kind, name, causes)
            key = resource.key(namespace, name)
            raw = known.under(namespace, name)
            outcome = await self._put(resource, key, raw, expected=0, name=name)
            if not outcome.succeeded:
                raise await self._taken(resource, key, name)
            return Written(resource.written(key, raw, outcome.revision), created=True)

        return await self._named(resource, likeness.name, likeness.generate_name, create)

    async def _named(
        self, resource: Resource, name: str, base: str, create: Callable[[str], Awaitable[Written]]
    ) -> Written:
        """Creates under the name, or without one under names that begin with ``base``."""
        if name or not base:
            return await create(name)
        for _ in range(GENERATED_NAMES):
            try:
                return await create(generate_name(base))
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
        raise make(
            409,
            "AlreadyExists",
            f'{resource.info.group_resource} "{base}" already exists, '
            "the server was not able to generate a unique name for the object",
            name=base,
            group=resource.group,
            kind=resource.name,
        )

    async def _create(self, attributes: Attributes, obj: Any) -> Written:
        resource, namespace, context = attributes.resource, attributes.namespace, attributes.context
        meta = obj.metadata
        meta.uid = new_uid()
        meta.creationTimestamp.CopyFrom(times.now())
        if resource.namespaced:
            meta.namespace = namespace
        prepared = resource.prepare_for_create(obj)
        if (resource.group, resource.name) == REQUESTS:
            name_requester(obj.spec, context.user)
        if causes := resource.validate_create(ruled(obj, context), prepared):
            raise invalid(resource.group_kind, meta.name or meta.generateName, causes)
        attributes.obj = obj
        await self._admission.validate(attributes)
        key = resource.key(namespace, meta.name)
        hook = self._hooks.get((resource.group, resource.name))
        undo: Undo | None = None
        try:
            if hook and not context.dry_run:
                undo = await hook.allocate(obj, None, context)
            raw = await resource.encoded(obj)
            if context.dry_run:
                if await self._exists(resource, key):
                    raise await self._taken(resource, key, meta.name)
                return Written(_without_version(resource, key, raw), created=True)
            outcome = await self._put(resource, key, raw, expected=0, name=meta.name)
            if not outcome.succeeded:
                raise await self._taken(resource, key, meta.name)
        except BaseException as error:
            attributes.revoke()
            if undo is not None and not isinstance(error, UNCERTAIN):
                await undo()
            raise
        await self._in_force(resource, outcome.revision)
        return Written(resource.written(key, raw, outcome.revision), created=True)

    async def _exists(self, resource: Resource, key: str) -> bool:
        return key in resource.cache.entries or await self._reader.fresh(resource, key) is not None

    async def _taken(self, resource: Resource, key: str, name: str) -> StatusError:
        """Why an object cannot be created under a name that is in use."""
        status = already_exists(resource.name, name, resource.group).status
        entry = None
        # What cannot be decoded takes its name all the same.
        with contextlib.suppress(StatusError):
            entry = await self._reader.fresh(resource, key)
        if entry is not None and entry.message().metadata.HasField("deletionTimestamp"):
            status.message = f"object is being deleted: {status.message}"
        return StatusError(status)

    # -- update ----------------------------------------------------------------------------------------------------

    async def update(
        self, resource: Resource, namespace: str, name: str, obj: Any, context: Context, subresource: str = ""
    ) -> Written:
        check_identity(resource, obj, namespace, name)
        uid = obj.metadata.uid
        creates = not subresource and not obj.metadata.resourceVersion and resource.allows_create_on_update(obj)
        if (uid or creates) and not await self._exists(resource, resource.key(namespace, name)):
            if uid:
                raise precondition_conflict(resource, namespace, name, uid, "")
            return await self.create(resource, namespace, obj, context, name)

        async def replace(old: Any) -> Any:
            if obj.metadata.uid and obj.metadata.uid != old.metadata.uid:
                raise precondition_conflict(resource, namespace, name, obj.metadata.uid, old.metadata.uid)
            new = resource.copy(obj)
            if not new.metadata.resourceVersion and resource.allows_unconditional_update(new):
                new.metadata.resourceVersion = old.metadata.resourceVersion
            return new

        retry = not obj.metadata.resourceVersion
        return await self.modify(resource, namespace, name, replace, context, subresource, retry=retry)

    async def modify(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        mutate: Mutate,
        context: Context,
        subresource: str = "",
        *,
        retry: bool = True,
        track: bool = True,
        admitted: bool = False,
    ) -> Written:
        """Read, ``mutate`` (given a copy of its own; returns the new object), check, write; again while others write.

        With ``retry`` False a write by somebody else in between is a Conflict. ``admitted``: ``mutate`` has seen to
        admission, in the form in which the write was asked for (a Scale, a Binding).
        """
        key = resource.key(namespace, name)
        # A dry run writes nothing that would show that the cache is behind.
        entry = None if context.dry_run else resource.cache.entries.get(key)
        certain = False
        for _ in range(ATTEMPTS):
            if entry is None:
                if not certain:
                    entry, certain = await self._reader.fresh(resource, key), True
                if entry is None:
                    raise not_found(resource.name, name, resource.group)
            old = await resource.load(entry)
            attributes = Attributes(UPDATE, resource, namespace, name, subresource, None, old, context)
            try:
                new = await self._prepared(attributes, mutate, track=track, admitted=admitted)
            except StatusError:
                # The refusal may be due to an old object in the cache.
                if certain:
                    raise
                newest = await self._reader.fresh(resource, key)
                if newest is not None and newest.revision == entry.revision:
                    raise
                entry, certain = newest, True
                continue
            try:
                written, current = await self.write(resource, key, name, entry, old, new, context)
            except BaseException:
                attributes.revoke()
                raise
            if written is not None and written.entry is entry and not certain:
                # Nothing would change, as far as the cache knows.
                newest, certain = await self._reader.fresh(resource, key), True
                if newest is None or newest.revision != entry.revision:
                    attributes.revoke()
                    entry = newest
                    continue
            if written is not None:
                return written
            attributes.revoke()
            entry, certain = current, True
            if not retry:
                if entry is None:
                    raise not_found(resource.name, name, resource.group)
                raise conflict(resource.name, name, resource.group)
        raise conflict(resource.name, name, resource.group)

    async def _prepared(self, attributes: Attributes, mutate: Mutate, *, track: bool, admitted: bool) -> Any:
        resource, name, subresource = attributes.resource, attributes.name, attributes.subresource
        old, context = attributes.old, attributes.context
        new = await mutate(resource.copy(old))
        if subresource in RESTRICTED:
            new = restrict(subresource, new, old, resource.copy(old))
        meta = new.metadata
        if not meta.resourceVersion and resource.demands_version(new):
            # Kubernetes names the resource here where other refusals name the kind.
            raise invalid(resource.name, name, [resource_version_needed()], resource.group)
        if meta.resourceVersion and meta.resourceVersion != old.metadata.resourceVersion:
            raise conflict(resource.name, name, resource.group)
        distinct_owners(meta, context)
        resource.default(new)
        if subresource == "status":
            # What the write has no say in is nobody's loss either, however old the rest of the object is.
            resource.prepare_for_update(new, old, subresource)
        if track:
            managed.track(resource, new, old, context, subresource)
        attributes.obj = new
        if not admitted:
            await self._admission.admit(attributes)
            new = attributes.obj
        resource.prepare_for_update(new, old, subresource)
        if subresource not in OWN_RULES and (
            causes := resource.validate_update(ruled(new, context), ruled(old, context), subresource)
        ):
            raise invalid(resource.group_kind, name, causes)
        if not admitted:
            await self._admission.validate(attributes)
        return new

    async def write(
        self, resource: Resource, key: str, name: str, entry: Entry, old: Any, new: Any, context: Context
    ) -> tuple[Written | None, Entry | None]:
        """(what was written, _), or (None, what etcd holds) when somebody else wrote in between."""
        old.metadata.ClearField("resourceVersion")
        new.metadata.ClearField("resourceVersion")
        finished = removes(resource, new, old)
        if not finished and managed.same_but_for_times(new, old, resource.same):
            return Written(entry), None
        hook = self._hooks.get((resource.group, resource.name))
        undo = await hook.allocate(new, old, context) if hook and not context.dry_run else None
        try:
            raw = await resource.encoded(new)
            if context.dry_run:
                return Written(resource.entry(key, raw, entry.revision), deleted=finished), None
            if finished:
                outcome = await self._store.delete(key, expected=entry.revision)
            else:
                outcome = await self._put(resource, key, raw, expected=entry.revision, name=name)
        except BaseException as error:
            if undo is not None and not isinstance(error, UNCERTAIN):
                await undo()
            raise
        if not outcome.succeeded:
            if undo is not None:
                await undo()
            return None, None if outcome.current is None else resource.from_pair(outcome.current)
        if hook:
            await self._settle(hook, None if finished else new, old)
        await self._in_force(resource, outcome.revision)
        if finished:
            # An object that is gone now keeps the version that it had.
            return Written(resource.entry(key, raw, entry.revision), deleted=True), None
        return Written(resource.written(key, raw, outcome.revision)), None

    async def remove(self, resource: Resource, key: str, entry: Entry) -> tuple[Written | None, Entry | None]:
        """Deletes the object if it is still as ``entry`` says; else (None, what etcd holds)."""
        outcome = await self._store.delete(key, expected=entry.revision)
        if not outcome.succeeded:
            return None, None if outcome.current is None else resource.from_pair(outcome.current)
        hook = self._hooks.get((resource.group, resource.name))
        if hook:
            await self._settle(hook, None, await resource.load(entry))
        await self._in_force(resource, outcome.revision)
        return Written(entry.at(outcome.revision), deleted=True), None

    async def _in_force(self, resource: Resource, revision: int) -> None:
        """Whoever is told that a rule was written finds it obeyed: admission reads these from the caches."""
        if (resource.group, resource.name) in RULES_OF_ADMISSION:
            await self._reader.reached(revision)

    async def _settle(self, hook: WriteHook, new: Any | None, old: Any) -> None:
        try:
            await hook.settle(new, old)
        except StorageError as error:
            # The write itself is done; the hook's own repair takes care of the rest.
            log.warning("could not give back what an object held", name=old.metadata.name, error=str(error))

    async def _put(self, resource: Resource, key: str, raw: bytes, *, expected: int, name: str) -> Any:
        ttl = self._event_ttl if (resource.group, resource.name) == ("", "events") else 0
        try:
            return await self._store.put(key, resource.store_value(raw), expected=expected, ttl_seconds=ttl)
        except RequestTooLarge as error:
            message = f'Request entity too large: {resource.info.group_resource} "{name}": {error}'
            raise request_entity_too_large(message) from error


def removes(resource: Resource, new: Any, old: Any) -> bool:
    """Whether an update takes away the last thing that a deleted object waited for."""
    meta = old.metadata
    if not meta.HasField("deletionTimestamp") or new.metadata.finalizers:
        return False
    if (resource.group, resource.name) == ("", "namespaces") and new.spec.finalizers:
        return False
    return not meta.deletionGracePeriodSeconds


def _without_version(resource: Resource, key: str, raw: bytes) -> Entry:
    """A dry run's object: never stored, so it has no resourceVersion."""
    return resource.entry(key, raw, 0)
