"""The garbage collector: feeds the graph from watches of every kind, and carries out what the graph says.

Keys are uids. Nothing is deleted before every watch has synced, and no object for a missing owner before the API
server has confirmed that the owner is missing. Deletes carry uid and resourceVersion as preconditions, so an object
that has found a new owner meanwhile stays.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar

from prometheus_client import Counter, Gauge

from services.controller.framework import Controller, ControllerContext
from services.controller.garbage.graph import (
    FOREGROUND,
    ORPHAN,
    Action,
    Graph,
    Kind,
    Node,
    Owner,
    agrees,
    node_from,
    plan,
)
from services.controller.garbage.metadata import metadata_informer, metadata_resource
from services.controller.outcomes import unless_gone
from tillerman.api.status import StatusError, is_conflict, is_not_found
from tillerman.client.informer import Informer
from tillerman.pb.k8s import apiextensions_v1_pb2 as apiextensions

# Kinds that own nothing, are owned by nothing, and change much.
IGNORED = frozenset({("v1", "events"), ("events.k8s.io/v1", "events")})
# Seconds between looks for kinds that have come or gone, besides CRD events.
DISCOVERY_PERIOD = 30.0
_ABSENT_OWNERS = 5000
# (namespace, api version, kind, name, uid) of an owner.
Reference = tuple[str, str, str, str, str]

COLLECTED = Counter("garbagecollector_controller_objects_collected", "Objects deleted by the collector.", ["resource"])
GRAPH_SIZE = Gauge("garbagecollector_controller_graph_nodes", "Objects in the ownership graph.")


class GarbageCollector(Controller):
    name = "garbagecollector"
    workers: ClassVar[int] = 20

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._graph = Graph()
        self._absent: OrderedDict[Reference, None] = OrderedDict()
        self._kinds: dict[Kind, asyncio.Task[None]] = {}
        self._by_kind: dict[tuple[str, str], Kind] = {}
        self._all_synced = asyncio.Event()
        self._rediscover = asyncio.Event()
        self._crds = self.informer(apiextensions.CustomResourceDefinition)
        self._crds.add_handler(
            on_add=self._kinds_changed, on_update=lambda _, new: self._kinds_changed(new), on_delete=self._kinds_changed
        )
        GRAPH_SIZE.set_function(lambda: len(self._graph.nodes))

    def known_keys(self) -> list[str]:
        return list(self._graph.nodes)

    def background(self) -> list[Callable[[], Awaitable[None]]]:
        return [self._follow_kinds]

    def _kinds_changed(self, _: object) -> None:
        self._rediscover.set()

    async def _follow_kinds(self) -> None:
        """Keeps one metadata watch per served kind."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._rediscover.clear()
                try:
                    served = await self.client.discover()
                except StatusError as error:
                    self.log.warning("kinds not discovered, trying again", controller=self.name, error=error.message)
                    await self.clock.sleep(1.0)
                    continue
                # One version of each resource is enough: the objects behind them are the same.
                versions = {
                    (r.api_version.rpartition("/")[0], r.resource): Kind(
                        r.api_version, r.resource, r.kind, r.namespaced
                    )
                    for r in sorted(served, key=lambda r: r.api_version)
                    if {"list", "watch", "delete"} <= set(r.verbs) and (r.api_version, r.resource) not in IGNORED
                }
                kinds = set(versions.values())
                self._follow(kinds, group)
                self._by_kind = {(kind.api_version, kind.kind): kind for kind in kinds}
                await self._next_discovery()

    def _follow(self, kinds: set[Kind], group: asyncio.TaskGroup) -> None:
        for kind in [known for known in self._kinds if known not in kinds]:
            self._kinds.pop(kind).cancel()
            for uid in [node.uid for node in self._graph.nodes.values() if node.kind == kind]:
                self._removed(uid)
        fresh: list[Informer[Any]] = []
        for kind in sorted(kinds - self._kinds.keys()):
            informer = metadata_informer(self.client, kind, self.clock)
            put = partial(self._put, kind)
            informer.add_handler(on_add=put, on_update=partial(_newer, put), on_delete=self._gone)
            fresh.append(informer)
            self._kinds[kind] = group.create_task(informer.run(), name=f"garbage-{kind.resource}")
        if not self._all_synced.is_set():
            group.create_task(self._note_synced(fresh), name="garbage-synced")

    async def _note_synced(self, informers: list[Informer[Any]]) -> None:
        for informer in informers:
            await informer.synced.wait()
        self._all_synced.set()

    async def _next_discovery(self) -> None:
        timer = self.clock.call_later(DISCOVERY_PERIOD, self._rediscover.set)
        try:
            await self._rediscover.wait()
        finally:
            timer.cancel()

    def _put(self, kind: Kind, obj: Any) -> None:
        for uid in self._graph.put(node_from(kind, obj.metadata)):
            self.queue.add(uid)

    def _gone(self, obj: Any) -> None:
        self._removed(obj.metadata.uid)

    def _removed(self, uid: str) -> None:
        node = self._graph.nodes.get(uid)
        if node is not None:
            self._note_absent((node.namespace, node.kind.api_version, node.kind.kind, node.name, uid))
        for due in self._graph.remove(uid):
            self.queue.add(due)

    def _note_absent(self, reference: Reference) -> None:
        self._absent[reference] = None
        while len(self._absent) > _ABSENT_OWNERS:
            self._absent.popitem(last=False)

    async def reconcile(self, key: str) -> float | None:
        await self._all_synced.wait()
        node = self._graph.nodes.get(key)
        if node is None:
            return None
        absent = [owner.uid for owner in node.owners if await self._is_absent(node, owner)]
        try:
            await self._carry_out(node, plan(self._graph, node, absent))
        except StatusError as error:
            if is_not_found(error):
                return None
            if is_conflict(error):
                # The graph is behind; the event that is under way brings the new state.
                return 0.5
            raise
        return None

    async def _is_absent(self, node: Node, owner: Owner) -> bool:
        """Whether there is no object of the owner's kind, name and uid where the dependent would have it."""
        known = self._graph.nodes.get(owner.uid)
        if known is not None and agrees(owner, known, node):
            return False
        kind = self._by_kind.get((owner.api_version, owner.kind)) or self._other_version(owner)
        if kind is None:
            return False
        if kind.namespaced and not node.namespace:
            # Nobody can say which namespace was meant.
            return False
        namespace = node.namespace if kind.namespaced else ""
        reference = (namespace, kind.api_version, kind.kind, owner.name, owner.uid)
        if reference in self._absent:
            return True
        try:
            live = await metadata_resource(self.client, kind).get(owner.name, namespace or None)
        except StatusError as error:
            if not is_not_found(error):
                raise
        else:
            if live.metadata.uid == owner.uid:
                return False
        self._note_absent(reference)
        return True

    def _other_version(self, owner: Owner) -> Kind | None:
        group = owner.api_version.rpartition("/")[0]
        for (api_version, kind), found in self._by_kind.items():
            if kind == owner.kind and api_version.rpartition("/")[0] == group:
                return found
        return None

    async def _carry_out(self, node: Node, action: Action) -> None:
        match action.verb:
            case "delete":
                await self._delete(node, action.policy)
            case "disown":
                await self._disown(node, action.owners)
            case "unblock-and-delete":
                await self._unblock(node)
                await self._delete(node, action.policy, any_version=True)
            case "finish":
                await self._drop_finalizer(node, FOREGROUND)
            case "orphan":
                for child in self._graph.dependents(node.uid):
                    await unless_gone(self._disown(child, (node.uid,)))
                await self._drop_finalizer(node, ORPHAN)

    async def _delete(self, node: Node, policy: str, *, any_version: bool = False) -> None:
        await metadata_resource(self.client, node.kind).delete(
            node.name,
            node.namespace or None,
            propagation_policy=policy,
            uid=node.uid,
            resource_version=None if any_version else node.resource_version,
        )
        COLLECTED.labels(node.kind.resource).inc()
        self.log.debug("collected", object=str(node), policy=policy)

    async def _disown(self, node: Node, owners: tuple[str, ...]) -> None:
        kept = [ref for ref in await self._references(node) if ref.uid not in owners]
        await self._patch(node, {"ownerReferences": [_as_dict(ref) for ref in kept]})

    async def _unblock(self, node: Node) -> None:
        references = [_as_dict(ref) | {"blockOwnerDeletion": False} for ref in await self._references(node)]
        await self._patch(node, {"ownerReferences": references})

    async def _references(self, node: Node) -> list[Any]:
        live = await metadata_resource(self.client, node.kind).get(node.name, node.namespace or None)
        node.resource_version = live.metadata.resourceVersion
        return list(live.metadata.ownerReferences)

    async def _drop_finalizer(self, node: Node, finalizer: str) -> None:
        live = await metadata_resource(self.client, node.kind).get(node.name, node.namespace or None)
        if live.metadata.uid != node.uid or finalizer not in live.metadata.finalizers:
            return
        node.resource_version = live.metadata.resourceVersion
        await self._patch(node, {"finalizers": [item for item in live.metadata.finalizers if item != finalizer]})

    async def _patch(self, node: Node, metadata: dict[str, Any]) -> None:
        patch = {"metadata": {"uid": node.uid, "resourceVersion": node.resource_version, **metadata}}
        await metadata_resource(self.client, node.kind).patch(node.name, node.namespace or None, patch, type="merge")


def _newer(put: Callable[[Any], None], _: Any, new: Any) -> None:
    put(new)


def _as_dict(reference: Any) -> dict[str, Any]:
    result: dict[str, Any] = {
        "apiVersion": reference.apiVersion,
        "kind": reference.kind,
        "name": reference.name,
        "uid": reference.uid,
    }
    for flag in ("controller", "blockOwnerDeletion"):
        if reference.HasField(flag):
            result[flag] = getattr(reference, flag)
    return result
