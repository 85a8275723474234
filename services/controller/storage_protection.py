"""pvc-protection and pv-protection: the finalizers of claims and volumes go once nobody uses them any more."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from services.controller.framework import Controller, ControllerContext, in_namespace, index_by_namespace
from tillerman.api.meta import key_of
from tillerman.api.pods import is_terminal
from tillerman.api.status import is_not_found
from tillerman.pb.k8s import core_v1_pb2 as core

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


def claims_of(pod: core.Pod) -> set[str]:
    """Names of the claims that the pod keeps in use; one that has no node yet, or that has ended, keeps none."""
    if not pod.spec.nodeName or is_terminal(pod):
        return set()
    sources = [volume.volumeSource for volume in pod.spec.volumes]
    found = {source.persistentVolumeClaim.claimName for source in sources if source.HasField("persistentVolumeClaim")}
    ephemeral = (volume.name for volume in pod.spec.volumes if volume.volumeSource.HasField("ephemeral"))
    return found | {f"{pod.metadata.name}-{name}" for name in ephemeral}


class _Protection(Controller):
    finalizer: ClassVar[str]
    message: ClassVar[Any]
    workers: ClassVar[int] = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._objects = self.informer(self.message)
        self._objects.add_handler(on_add=self._seen, on_update=lambda _, new: self._seen(new))

    def known_keys(self) -> list[str]:
        return [key_of(obj) for obj in self._objects.list()]

    def _seen(self, obj: Any) -> None:
        leaving = obj.metadata.HasField("deletionTimestamp")
        if leaving == (self.finalizer in obj.metadata.finalizers):
            self.enqueue(obj)

    @abstractmethod
    async def in_use(self, obj: Any) -> bool:
        """As the API server knows it now, where the answer would be no."""

    async def reconcile(self, key: str) -> float | None:
        obj = self._objects.get(key)
        if obj is None:
            return None
        leaving = obj.metadata.HasField("deletionTimestamp")
        protected = self.finalizer in obj.metadata.finalizers
        if leaving != protected or (leaving and await self.in_use(obj)):
            return None
        changed = self.message()
        changed.CopyFrom(obj)
        if leaving:
            changed.metadata.finalizers.remove(self.finalizer)
        else:
            changed.metadata.finalizers.append(self.finalizer)
        try:
            await self.client.resource(self.message).update(changed)
        except Exception as error:
            if not is_not_found(error):
                raise
        return None


class ClaimProtection(_Protection):
    name = "pvc-protection"
    finalizer = CLAIM_FINALIZER
    message = core.PersistentVolumeClaim

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._pods = self.informer(core.Pod)
        index_by_namespace(self._pods)
        self._pods.add_handler(on_update=self._pod_changed, on_delete=self._pod_gone)

    def _pod_changed(self, old: core.Pod, new: core.Pod) -> None:
        if is_terminal(new) and not is_terminal(old):
            self._pod_gone(old)

    def _pod_gone(self, pod: core.Pod) -> None:
        for volume in pod.spec.volumes:
            source = volume.volumeSource
            if source.HasField("persistentVolumeClaim"):
                self.queue.add(f"{pod.metadata.namespace}/{source.persistentVolumeClaim.claimName}")
            elif source.HasField("ephemeral"):
                self.queue.add(f"{pod.metadata.namespace}/{pod.metadata.name}-{volume.name}")

    async def in_use(self, obj: Any) -> bool:
        namespace, name = obj.metadata.namespace, obj.metadata.name
        if any(name in claims_of(pod) for pod in in_namespace(self._pods, namespace)):
            return True
        # The cache may not have seen yet where the scheduler has just put a pod.
        listed = await self.client.resource(core.Pod).list(namespace)
        return any(name in claims_of(pod) for pod in listed.items)


class VolumeProtection(_Protection):
    name = "pv-protection"
    finalizer = VOLUME_FINALIZER
    message = core.PersistentVolume

    async def in_use(self, obj: Any) -> bool:
        return bool(obj.status.phase == "Bound")
