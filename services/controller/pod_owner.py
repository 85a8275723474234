"""What the controllers of pods share: their informers, what they expect, and which owner a pod's change is about.

A subclass names the kind that owns (`message`) and implements `reconcile`. An owner is queued when it changes, when one
of its pods changes or goes, and when a pod without an owner appears that it may adopt.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from services.controller.children import claim, index_by_owner
from services.controller.expectations import Expectations
from services.controller.framework import Controller, ControllerContext, in_namespace, index_by_namespace
from services.controller.overlay import Overlay
from services.controller.pod_control import PodControl
from tillerman.api.meta import controller_of, key_of
from tillerman.api.selectors import LabelSelector, from_message
from tillerman.pb.k8s import core_v1_pb2 as core

T = TypeVar("T", bound=Any)


class PodOwner(Controller, Generic[T]):
    message: ClassVar[Any]
    # Seconds in which pod changes of one owner are gathered into one reconcile: pods start in bursts, and one status
    # write then covers all that changed meanwhile. Deletions are not delayed, a replacement waits for them.
    gather: ClassVar[float] = 0.02

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.expectations = Expectations(context.clock)
        self.recorder = context.recorder(f"{self.name}-controller")
        self.pod_control = PodControl(context.client, self.recorder, self.expectations)
        self.owners = self.informer(self.message)
        self.pods = self.informer(core.Pod)
        self._written: Overlay[T] = Overlay()
        index_by_namespace(self.owners)
        index_by_owner(self.pods)
        self.owners.add_handler(
            on_add=self._owner_seen, on_update=lambda _, new: self._owner_seen(new), on_delete=self._owner_gone
        )
        self.pods.add_handler(on_add=self._pod_added, on_update=self._pod_updated, on_delete=self._pod_gone)

    def selector_of(self, owner: T) -> LabelSelector:
        """Which pods are the owner's, or may be."""
        return from_message(owner.spec.selector)

    def known_keys(self) -> list[str]:
        return [key_of(owner) for owner in self.owners.list()]

    def newest(self, key: str) -> T | None:
        """The owner as it was last read or written here; None when it is gone."""
        cached = self.owners.get(key)
        if cached is None:
            self.expectations.forget(key)
            return None
        return self._written.newest(cached)

    async def claimed(self, owner: T) -> list[core.Pod]:
        """The owner's pods, after adopting and releasing."""
        return await claim(
            owner,
            children=self.pods,
            selector=self.selector_of(owner),
            owner_client=self.client.resource(self.message),
            child_client=self.client.resource(core.Pod),
        )

    async def write_status(self, owner: T, status: Any) -> T:
        """Writes the status if it differs; the owner as it is then."""
        if status == owner.status:
            return owner
        changed = self.message()
        changed.CopyFrom(owner)
        changed.status.CopyFrom(status)
        stored: T = await self.client.resource(self.message).update_status(changed)
        self._written.wrote(stored)
        return stored

    # -- events ----------------------------------------------------------------------------------------------------

    def _owner_seen(self, owner: T) -> None:
        self._written.seen(owner)
        self.enqueue(owner)

    def _owner_gone(self, owner: T) -> None:
        self._written.forget(owner)
        self.expectations.forget(key_of(owner))
        self.enqueue(owner)

    def named_owner(self, pod: core.Pod) -> str | None:
        """The key of the owner that the pod names, which may be gone, or another of the same name by now."""
        reference = controller_of(pod)
        if reference is None or reference.kind != self.message.DESCRIPTOR.name:
            return None
        return f"{pod.metadata.namespace}/{reference.name}"

    def _owner_key(self, pod: core.Pod) -> str | None:
        """The key of the pod's owner, if that is there."""
        key, reference = self.named_owner(pod), controller_of(pod)
        owner = self.owners.get(key) if key else None
        return key if owner is not None and reference is not None and owner.metadata.uid == reference.uid else None

    def _queue_adopters(self, pod: core.Pod) -> None:
        for owner in in_namespace(self.owners, pod.metadata.namespace):
            selector = self.selector_of(owner)
            if not selector.empty and selector.matches(pod.metadata.labels):
                self.enqueue(owner)

    def _pod_added(self, pod: core.Pod) -> None:
        if pod.metadata.HasField("deletionTimestamp"):
            self._pod_gone(pod)
        elif controller_of(pod) is None:
            self._queue_adopters(pod)
        elif (key := self._owner_key(pod)) is not None:
            self.expectations.creation_settled(key, pod.metadata.name)
            self.queue.add_after(key, self.gather)

    def _pod_updated(self, old: core.Pod, new: core.Pod) -> None:
        if new.metadata.HasField("deletionTimestamp") and not old.metadata.HasField("deletionTimestamp"):
            self._pod_gone(new)
            return
        before, after = controller_of(old), controller_of(new)
        released = before is not None and (after is None or after.uid != before.uid)
        if released and (key := self._owner_key(old)) is not None:
            self.queue.add(key)
        if after is None:
            if released or old.metadata.labels != new.metadata.labels:
                self._queue_adopters(new)
        elif (key := self._owner_key(new)) is not None:
            self.queue.add_after(key, self.gather)

    def _pod_gone(self, pod: core.Pod) -> None:
        """The pod is leaving, or has left: also an owner of the same name may have waited for that."""
        key = self.named_owner(pod)
        if key is not None:
            self.expectations.creation_settled(key, pod.metadata.name)
            self.expectations.deletion_settled(key, pod.metadata.uid)
            self.queue.add(key)
