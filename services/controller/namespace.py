"""The namespace controller: empties a namespace that is being deleted, then lets it go.

Pods go first, so that nothing they rely on (their ConfigMaps, their Services) disappears under them; then all the rest.
The finalizer "kubernetes" in spec.finalizers goes last, when a list of every kind has come back empty.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from services.controller.framework import Controller, ControllerContext
from services.controller.outcomes import unless_gone
from tillerman.api.meta import get_condition
from tillerman.api.status import StatusError
from tillerman.api.times import from_seconds
from tillerman.client.resource import ResourceClient
from tillerman.pb.k8s import core_v1_pb2 as core

FINALIZER = "kubernetes"
# Seconds between two looks at a namespace that is not empty yet: first, and at most.
FIRST_LOOK, LAST_LOOK = 0.2, 5.0


class Remaining(NamedTuple):
    """What a namespace still holds of one resource, with its group. ``finalizers``: how many objects have each."""

    resource: str
    left: int
    finalizers: Mapping[str, int]


class NamespaceController(Controller):
    name = "namespace"
    workers: ClassVar[int] = 4

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._looks: dict[str, int] = {}
        self._namespaces = self.informer(core.Namespace)
        self._pods = self.informer(core.Pod)
        self._namespaces.add_handler(
            on_add=self._changed, on_update=lambda _, new: self._changed(new), on_delete=self._deleted
        )
        self._pods.add_handler(on_delete=self._pod_deleted)

    def known_keys(self) -> list[str]:
        return [namespace.metadata.name for namespace in self._namespaces.list()]

    def _changed(self, namespace: core.Namespace) -> None:
        if namespace.metadata.HasField("deletionTimestamp"):
            self.enqueue(namespace)

    def _deleted(self, namespace: core.Namespace) -> None:
        self._looks.pop(namespace.metadata.name, None)

    def _pod_deleted(self, pod: core.Pod) -> None:
        if pod.metadata.namespace in self._looks:
            self.queue.add_after(pod.metadata.namespace, 0.05)

    async def reconcile(self, key: str) -> float | None:
        namespace = self._namespaces.get(key)
        if namespace is None or not namespace.metadata.HasField("deletionTimestamp"):
            return None
        client = self.client.resource(core.Namespace)
        if FINALIZER not in namespace.spec.finalizers:
            if not namespace.spec.finalizers:
                await unless_gone(client.delete(key, uid=namespace.metadata.uid))
            return None
        looks = self._looks.get(key, 0)
        self._looks[key] = looks + 1
        try:
            resources = await self._resources()
        except StatusError as error:
            await self._tell(namespace, [], discovery=error.message)
            raise
        remaining = await self._empty(key, resources)
        if remaining:
            await self._tell(namespace, remaining)
            return float(min(FIRST_LOOK * 2**looks, LAST_LOOK))
        emptied = core.Namespace()
        emptied.CopyFrom(namespace)
        kept = [finalizer for finalizer in namespace.spec.finalizers if finalizer != FINALIZER]
        if kept:
            # It stays for a while, and does not wait for us.
            await self._tell(namespace, [])
        del emptied.spec.finalizers[:]
        emptied.spec.finalizers.extend(kept)
        # The status written above has a newer version than the cache; the write is about the finalizer alone.
        emptied.metadata.resourceVersion = ""
        await unless_gone(client.subresource_update(key, None, "finalize", emptied))
        return 1.0

    async def _resources(self) -> list[ResourceClient[dict[str, Any]]]:
        """Every namespaced resource that can be deleted, once, custom resources included."""
        served = await self.client.discover()
        chosen: dict[tuple[str, str], tuple[str, str]] = {}
        for found in served:
            group = found.api_version.rpartition("/")[0]
            if found.namespaced and {"list", "delete"} <= set(found.verbs) and group != "events.k8s.io":
                chosen.setdefault((group, found.resource), (found.api_version, found.resource))
        return [self.client.dynamic(api_version, resource, True) for api_version, resource in chosen.values()]

    async def _empty(self, name: str, resources: Sequence[ResourceClient[dict[str, Any]]]) -> list[Remaining]:
        """Deletes what there is; returns what is still there afterwards."""
        pods = [resource for resource in resources if (resource.api_version, resource.resource) == ("v1", "pods")]
        remaining = await self._empty_all(name, pods)
        if remaining:
            return remaining
        return await self._empty_all(name, [resource for resource in resources if resource not in pods])

    async def _empty_all(self, name: str, resources: Sequence[ResourceClient[dict[str, Any]]]) -> list[Remaining]:
        found = await asyncio.gather(*(self._empty_one(name, resource) for resource in resources))
        return [remaining for remaining in found if remaining is not None]

    async def _empty_one(self, name: str, resource: ResourceClient[dict[str, Any]]) -> Remaining | None:
        if not (await resource.list(name, limit=1)).items:
            return None
        try:
            await resource.delete_collection(name, propagation_policy="Background")
        except StatusError as error:
            if error.reason != "MethodNotAllowed":
                raise
            for obj in (await resource.list(name)).items:
                await unless_gone(resource.delete(obj["metadata"]["name"], name))
        left = (await resource.list(name)).items
        if not left:
            return None
        finalizers = Counter(finalizer for obj in left for finalizer in obj["metadata"].get("finalizers", ()))
        group = resource.api_version.rpartition("/")[0]
        return Remaining(f"{resource.resource}.{group}", len(left), finalizers)

    async def _tell(self, namespace: core.Namespace, remaining: Sequence[Remaining], discovery: str = "") -> None:
        """Writes the conditions that say why the namespace is still there."""
        changed = core.Namespace()
        changed.CopyFrom(namespace)
        changed.status.phase = "Terminating"
        for type, reason, message in conditions(remaining, discovery):
            known = get_condition(changed.status.conditions, type)
            status = "True" if reason in _PROBLEMS else "False"
            if known is None:
                known = changed.status.conditions.add(type=type)
            if known.status != status:
                known.lastTransitionTime.CopyFrom(from_seconds(self.clock.time()))
            known.status, known.reason, known.message = status, reason, message
        if changed.status != namespace.status:
            await unless_gone(self.client.resource(core.Namespace).update_status(changed))


_PROBLEMS = frozenset({"DiscoveryFailed", "SomeResourcesRemain", "SomeFinalizersRemain"})


def conditions(remaining: Sequence[Remaining], discovery: str) -> list[tuple[str, str, str]]:
    """(type, reason, message) of the conditions of a terminating namespace, in Kubernetes' words."""
    finalizers: Counter[str] = Counter()
    for item in remaining:
        finalizers.update(item.finalizers)
    left = ", ".join(sorted(f"{item.resource} has {item.left} resource instances" for item in remaining))
    held = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
    return [
        ("NamespaceDeletionDiscoveryFailure", "DiscoveryFailed", f"Discovery failed for some groups: {discovery}")
        if discovery
        else (
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        ("NamespaceContentRemaining", "SomeResourcesRemain", f"Some resources are remaining: {left}")
        if remaining
        else ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
        (
            "NamespaceFinalizersRemaining",
            "SomeFinalizersRemain",
            f"Some content in the namespace has finalizers remaining: {held}",
        )
        if finalizers
        else ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    ]
