"""The ResourceQuota controller: status.used of each quota, as the objects of its namespace add up.

Admission charges what is created or grows; this controller credits what shrinks or goes, and repairs the sum at every
full count. It counts by the same rules (tillerman.api.quota). Kinds that are only counted are followed, by their
metadata, as long as some quota counts them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar

from services.controller.framework import Controller, ControllerContext, in_namespace, index_by_namespace
from services.controller.garbage.graph import Kind
from services.controller.garbage.metadata import metadata_informer
from tillerman.api import quota as rules
from tillerman.api.meta import key_of
from tillerman.api.pods import is_terminal
from tillerman.api.quota import Usage
from tillerman.api.status import StatusError
from tillerman.api.times import to_seconds
from tillerman.client.informer import Informer
from tillerman.pb.k8s import core_v1_pb2 as core

GATHER = 0.1
# Seconds between two full counts of a quota.
PERIOD = 300.0
# What is created while a quota is new may have been admitted before it was in force: it is counted again soon.
NEW, NEW_PERIOD = 10.0, 2.0
DISCOVERY_RETRY = 5.0


def counted_kinds(quota: core.ResourceQuota) -> set[tuple[str, str]]:
    """(group, resource) of what the quota limits."""
    return {kind for kind in map(rules.kind_counted, quota.spec.hard) if kind is not None}


def total(quota: core.ResourceQuota, kind: tuple[str, str], objects: Iterable[Any], now: float) -> Usage:
    """What objects of one kind use of a quota."""
    used: Usage = {}
    for obj in objects:
        if rules.in_scopes(quota.spec, *kind, obj):
            rules.add(used, rules.usage(*kind, obj, now=now))
    return used


class ResourceQuotaController(Controller):
    name = "resourcequota"
    workers: ClassVar[int] = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._quotas = self.informer(core.ResourceQuota)
        self._pods = self.informer(core.Pod)
        self._services = self.informer(core.Service)
        self._claims = self.informer(core.PersistentVolumeClaim)
        self._whole: dict[tuple[str, str], Informer[Any]] = {
            rules.PODS: self._pods,
            rules.SERVICES: self._services,
            rules.CLAIMS: self._claims,
        }
        # Kinds of which only the number matters.
        self._followed: dict[tuple[str, str], tuple[Informer[Any], asyncio.Task[None]]] = {}
        self._unserved: set[tuple[str, str]] = set()
        self._kinds_changed = asyncio.Event()
        for informer in (self._quotas, *self._whole.values()):
            index_by_namespace(informer)
        self._quotas.add_handler(on_add=self._added, on_update=self._updated, on_delete=self._note_kinds)
        self._pods.add_handler(on_update=self._pod_updated, on_delete=self._object_changed)
        for informer in (self._services, self._claims):
            informer.add_handler(on_update=self._object_updated, on_delete=self._object_changed)

    def known_keys(self) -> list[str]:
        return [key_of(quota) for quota in self._quotas.list()]

    def background(self) -> list[Callable[[], Awaitable[None]]]:
        return [self._follow_kinds]

    # -- what happens ----------------------------------------------------------------------------------------------

    def _added(self, quota: core.ResourceQuota) -> None:
        self._note_kinds(quota)
        self.enqueue(quota)

    def _updated(self, old: core.ResourceQuota, new: core.ResourceQuota) -> None:
        if old.spec != new.spec:
            self._note_kinds(new)
        if old.spec != new.spec or new.status.hard != new.spec.hard:
            self.enqueue(new)

    def _note_kinds(self, _: core.ResourceQuota) -> None:
        self._kinds_changed.set()

    def _pod_updated(self, old: core.Pod, new: core.Pod) -> None:
        if is_terminal(new) != is_terminal(old) or new.spec != old.spec:
            self._object_changed(new)

    def _object_updated(self, old: Any, new: Any) -> None:
        if old.spec != new.spec or old.status != new.status:
            self._object_changed(new)

    def _object_changed(self, obj: Any) -> None:
        for quota in in_namespace(self._quotas, obj.metadata.namespace):
            self.queue.add_after(key_of(quota), GATHER)

    # -- kinds that are only counted -------------------------------------------------------------------------------

    async def _follow_kinds(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._kinds_changed.clear()
                wanted = {kind for quota in self._quotas.list() for kind in counted_kinds(quota)} - self._whole.keys()
                for kind in self._followed.keys() - wanted:
                    self._followed.pop(kind)[1].cancel()
                unknown = await self._start(wanted - self._followed.keys(), group)
                for kind in unknown - self._unserved:
                    self._recount(kind)
                self._unserved = unknown
                timer = self.clock.call_later(DISCOVERY_RETRY, self._kinds_changed.set) if unknown else None
                try:
                    await self._kinds_changed.wait()
                finally:
                    if timer is not None:
                        timer.cancel()

    async def _start(self, kinds: set[tuple[str, str]], group: asyncio.TaskGroup) -> set[tuple[str, str]]:
        """Follows these kinds; returns those that are not served (yet)."""
        if not kinds:
            return set()
        try:
            served = await self.client.discover()
        except StatusError as error:
            self.log.warning("kinds not discovered, trying again", controller=self.name, error=error.message)
            return kinds
        unknown = set(kinds)
        for found in served:
            kind = (found.api_version.rpartition("/")[0], found.resource)
            if kind not in unknown or not {"list", "watch"} <= set(found.verbs):
                continue
            unknown.discard(kind)
            shape = Kind(found.api_version, found.resource, found.kind, found.namespaced)
            informer = metadata_informer(self.client, shape, self.clock)
            index_by_namespace(informer)
            informer.add_handler(on_delete=self._object_changed)
            task = group.create_task(informer.run(), name=f"{self.name}-{found.resource}")
            self._followed[kind] = (informer, task)
            group.create_task(self._when_synced(kind, informer), name=f"{self.name}-{found.resource}-synced")
        return unknown

    async def _when_synced(self, kind: tuple[str, str], informer: Informer[Any]) -> None:
        await informer.synced.wait()
        self._recount(kind)

    def _recount(self, kind: tuple[str, str]) -> None:
        for quota in self._quotas.list():
            if kind in counted_kinds(quota):
                self.enqueue(quota)

    # -- counting --------------------------------------------------------------------------------------------------

    async def reconcile(self, key: str) -> float | None:
        quota = self._quotas.get(key)
        if quota is None or quota.metadata.HasField("deletionTimestamp"):
            return None
        now = self.clock.time()
        used: Usage = {}
        for kind in counted_kinds(quota):
            objects = self._objects(kind, quota.metadata.namespace)
            if objects is None:
                # Nothing is written on half of the facts; the quota comes again when the kind is known.
                return None
            rules.add(used, total(quota, kind, objects, now))
        changed = core.ResourceQuota()
        changed.CopyFrom(quota)
        changed.status.hard.clear()
        changed.status.used.clear()
        for name, amount in quota.spec.hard.items():
            changed.status.hard[name].CopyFrom(amount)
            changed.status.used[name].string = str(used.get(name, rules.NOTHING))
        before = rules.amounts_of(quota.status.used)
        if rules.amounts_of(changed.status.used) != before or changed.status.hard != quota.status.hard:
            await self.client.resource(core.ResourceQuota).update_status(changed)
        return NEW_PERIOD if now - to_seconds(quota.metadata.creationTimestamp) < NEW else PERIOD

    def _objects(self, kind: tuple[str, str], namespace: str) -> list[Any] | None:
        """None while they are not known; there are none of a kind that is not served."""
        if kind in self._whole:
            return in_namespace(self._whole[kind], namespace)
        if kind in self._unserved:
            return []
        informer, _ = self._followed.get(kind, (None, None))
        if informer is None or not informer.synced.is_set():
            return None
        return in_namespace(informer, namespace)
