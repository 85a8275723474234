"""Keeps every CustomResourceDefinition's status true, and carries out its deletion.

One task per API server, and all servers run it: each looks at its own cache and writes on condition that the definition
is still as it saw it, so only one write of each step wins. It starts from what is stored whenever a definition changes
or an attempt failed, so a server that is killed anywhere is simply followed by the next.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import structlog

from services.apiserver.cache.watcher import WatcherDropped
from services.apiserver.crd import lifecycle
from services.apiserver.crd.definition import ESTABLISHED, TERMINATING, is_true
from services.apiserver.crd.served import ServedCustoms
from services.apiserver.registry.context import APISERVER, Context
from services.apiserver.registry.deletion import Deleter
from services.apiserver.registry.reading import ListOptions, Selection
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.writing import Writer
from services.apiserver.storage.errors import StorageError
from tillerman.api.status import StatusError, is_conflict, is_not_found
from tillerman.pb.k8s import meta_v1_pb2

# Seconds until the next look at instances that are still there, and until a failed step is tried again.
LOOK_AGAIN = 1.0

log = structlog.get_logger("apiserver.crd")


class DefinitionController:
    """``definitions``: the resource of CustomResourceDefinitions; ``customs``: what they serve."""

    def __init__(self, *, definitions: Resource, customs: ServedCustoms, writer: Writer, deleter: Deleter) -> None:
        self._definitions = definitions
        self._customs = customs
        self._writer = writer
        self._deleter = deleter

    async def run(self) -> None:
        """Never returns; cancel it."""
        cache = self._definitions.cache
        while True:
            watcher = cache.watch(prefix=self._definitions.prefix, predicate=None, index=("", ""))
            try:
                while True:
                    wait = None if await self._settle_all() else LOOK_AGAIN
                    try:
                        async with asyncio.timeout(wait):
                            await watcher.take()
                    except TimeoutError:
                        pass
            except WatcherDropped:
                # The cache was filled anew: everything is looked at again.
                continue
            finally:
                cache.unwatch(watcher)

    async def _settle_all(self) -> bool:
        """One look at every definition; whether nothing is left to do."""
        groups: dict[str, list[Any]] = defaultdict(list)
        for entry in self._definitions.cache.entries.values():
            crd = entry.message()
            groups[crd.spec.group].append(crd)
        done = True
        for members in groups.values():
            # Names go to whoever has them, then to the oldest that asks.
            members.sort(key=lambda crd: (crd.metadata.creationTimestamp.seconds, crd.metadata.name))
            for index, crd in enumerate(members):
                others = members[:index] + members[index + 1 :]
                done &= await self._settle_one(crd, others)
        return done

    async def _settle_one(self, crd: Any, others: list[Any]) -> bool:
        try:
            if lifecycle.deletion_due(crd):
                return await self._remove_instances(crd)
            if not crd.metadata.HasField("deletionTimestamp"):
                wanted = self._definitions.copy(crd)
                lifecycle.settle(wanted, others)
                if wanted.status != crd.status:
                    await self._write(wanted)
                    # Who is looked at next must see the names that were just given away.
                    crd.CopyFrom(wanted)
        except (StatusError, StorageError) as error:
            if is_conflict(error) or is_not_found(error):
                # Somebody else wrote; that change brings us back here.
                return True
            log.warning("a definition's step failed, trying again", definition=crd.metadata.name, error=str(error))
            return False
        return True

    async def _write(self, wanted: Any) -> None:
        """Stores status and finalizers if nobody wrote meanwhile. Raises Conflict, NotFound."""

        async def replace(_current: Any) -> Any:
            return self._definitions.copy(wanted)

        name = wanted.metadata.name
        await self._writer.modify(
            self._definitions, "", name, replace, Context(APISERVER), "lifecycle", retry=False, track=False
        )

    async def _remove_instances(self, crd: Any) -> bool:
        """Deletes the instances; takes the finalizer away, and with it the definition, once there are none."""
        resource = self._customs.as_stored(crd.metadata.name)
        if resource is None or not is_true(crd, ESTABLISHED):
            lifecycle.condition(crd, TERMINATING, "False", "NeverEstablished", "resource was never established")
            await self._release(crd)
            return True
        if resource.cache.entries:
            before = self._definitions.copy(crd)
            lifecycle.condition(
                crd, TERMINATING, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress"
            )
            if crd.status != before.status:
                await self._write(crd)
                # The write itself leads back here.
                return True
            await self._deleter.delete_collection(
                resource, Selection(), ListOptions(), meta_v1_pb2.DeleteOptions(), Context(APISERVER)
            )
            return False
        # The cache may be behind; instances are created no more once it knows of the end.
        if not await self._deleter.is_empty(resource):
            return False
        lifecycle.condition(crd, TERMINATING, "False", "InstanceDeletionCompleted", "removed all instances")
        await self._release(crd)
        return True

    async def _release(self, crd: Any) -> None:
        crd.metadata.finalizers.remove(lifecycle.FINALIZER)
        await self._write(crd)
