"""Feeds what the informers say to the snapshot and the queue. All methods are synchronous informer handlers."""

from services.scheduler.queue import GATED
from services.scheduler.scheduler import Scheduler
from services.scheduler.snapshot import Change
from services.scheduler.template import PodInfo, TemplateCache
from services.scheduler.writer import Writer
from tillerman.api.pods import is_terminal
from tillerman.client.informer import InformerFactory
from tillerman.pb.k8s import core_v1_pb2 as core

GATED_MESSAGE = "Scheduling is blocked due to non-empty scheduling gates"


class Observer:
    """Pods that name another scheduler only count on their nodes."""

    def __init__(self, scheduler: Scheduler, templates: TemplateCache, writer: Writer | None = None) -> None:
        self._scheduler = scheduler
        self._snapshot = scheduler.snapshot
        self._queue = scheduler.queue
        self._templates = templates
        self._writer = writer

    def watch(self, informers: InformerFactory) -> None:
        informers.informer(core.Node).add_handler(
            on_add=self.node_set, on_update=lambda _, node: self.node_set(node), on_delete=self.node_gone
        )
        informers.informer(core.Namespace).add_handler(
            on_add=self.namespace_set, on_update=lambda _, new: self.namespace_set(new), on_delete=self.namespace_gone
        )
        informers.informer(core.Pod).add_handler(
            on_add=self.pod_set, on_update=self.pod_changed, on_delete=self.pod_gone
        )

    # -- nodes and namespaces

    def node_set(self, node: core.Node) -> None:
        self._queue.changed(self._snapshot.set_node(node))

    def node_gone(self, node: core.Node) -> None:
        self._snapshot.remove_node(node.metadata.name)

    def namespace_set(self, namespace: core.Namespace) -> None:
        if self._snapshot.set_namespace(namespace.metadata.name, dict(namespace.metadata.labels)):
            self._queue.changed({Change.NAMESPACE})

    def namespace_gone(self, namespace: core.Namespace) -> None:
        self._snapshot.set_namespace(namespace.metadata.name, None)

    # -- pods

    def pod_changed(self, old: core.Pod, new: core.Pod) -> None:
        if old.metadata.uid != new.metadata.uid:
            self.pod_gone(old)
        self.pod_set(new)

    def pod_set(self, pod: core.Pod) -> None:
        info = self._templates.info(pod)
        if is_terminal(pod):
            self._left(info)
        elif info.node:
            self._placed(info)
        elif pod.spec.schedulerName == self._scheduler.name or not pod.spec.schedulerName:
            self._waits(info)

    def pod_gone(self, pod: core.Pod) -> None:
        self._left(self._templates.info(pod))

    def _placed(self, info: PodInfo) -> None:
        scheduler, snapshot = self._scheduler, self._snapshot
        scheduler.assumed.pop(info.key, None)
        scheduler.nominated.pop(info.key, None)
        waiting = self._queue.get(info.key)
        if waiting is not None:
            self._queue.done(info.key)
        before = snapshot.pod(info.key)
        if before is not None and _counts_alike(before, info):
            before.pod, before.started = info.pod, info.started
            return
        snapshot.add_pod(info)
        if before is None:
            self._queue.changed({Change.POD_ADD})
        elif before.template is not info.template:
            self._queue.changed({Change.POD_LABELS})
        elif before.node != info.node or before.terminating != info.terminating:
            self._queue.changed({Change.POD_REMOVE, Change.POD_ADD})

    def _waits(self, info: PodInfo) -> None:
        assumed = self._scheduler.assumed.get(info.key)
        if assumed is not None:
            if assumed.uid == info.uid:
                return
            self._scheduler.forget(info.key)
        if info.terminating:
            self._left(info)
            return
        self._queue.add(info)
        queued = self._queue.get(info.key)
        if queued is not None and queued.place == GATED and self._writer is not None:
            self._writer.mark_unschedulable(info.pod, GATED_MESSAGE, reason="SchedulingGated")

    def _left(self, info: PodInfo) -> None:
        self._scheduler.assumed.pop(info.key, None)
        if self._scheduler.nominated.pop(info.key, None) is not None:
            self._queue.changed({Change.POD_REMOVE})
        self._queue.remove(info.key)
        if self._snapshot.remove_pod(info.key) is not None:
            self._queue.changed({Change.POD_REMOVE})


def _counts_alike(before: PodInfo, after: PodInfo) -> bool:
    return (
        before.template is after.template
        and before.node == after.node
        and before.terminating == after.terminating
        and before.uid == after.uid
    )
