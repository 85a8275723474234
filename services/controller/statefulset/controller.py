"""The StatefulSet controller."""

from __future__ import annotations

from typing import ClassVar

import orjson

from services.controller.children import claim, index_by_owner
from services.controller.expectations import Expectations
from services.controller.framework import Controller, ControllerContext
from services.controller.history import RevisionHistory, hash_of
from services.controller.outcomes import unless_present
from services.controller.overlay import Overlay
from services.controller.pod_control import PodControl
from services.controller.replicaset.plan import next_available_in
from services.controller.statefulset.plan import (
    StatefulPlan,
    make_claims,
    make_pod,
    ordinal_of,
    plan_stateful,
    plan_status,
)
from tillerman.api.codec import from_dict
from tillerman.api.meta import controller_of, key_of
from tillerman.api.selectors import from_message
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core


class StatefulSetController(Controller):
    name = "statefulset"
    workers: ClassVar[int] = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._expectations = Expectations(context.clock)
        self._recorder = context.recorder("statefulset-controller")
        self._pod_control = PodControl(context.client, self._recorder, self._expectations)
        self._sets = self.informer(apps.StatefulSet)
        self._pods = self.informer(core.Pod)
        revisions = self.informer(apps.ControllerRevision)
        index_by_owner(revisions)
        index_by_owner(self._pods)
        self._history = RevisionHistory(context.client, revisions)
        self._written: Overlay[apps.StatefulSet] = Overlay()
        self._sets.add_handler(
            on_add=self._changed, on_update=lambda _, new: self._changed(new), on_delete=self._deleted
        )
        self._pods.add_handler(
            on_add=self._pod_seen, on_update=lambda _, new: self._pod_seen(new), on_delete=self._pod_deleted
        )

    def known_keys(self) -> list[str]:
        return [key_of(stateful) for stateful in self._sets.list()]

    def _changed(self, stateful: apps.StatefulSet) -> None:
        self._written.seen(stateful)
        self.enqueue(stateful)

    def _deleted(self, stateful: apps.StatefulSet) -> None:
        self._written.forget(stateful)
        self._expectations.forget(key_of(stateful))

    def _owner_key(self, pod: core.Pod) -> str | None:
        reference = controller_of(pod)
        return f"{pod.metadata.namespace}/{reference.name}" if reference and reference.kind == "StatefulSet" else None

    def _pod_seen(self, pod: core.Pod) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.creation_settled(key, pod.metadata.name)
            if pod.metadata.HasField("deletionTimestamp"):
                self._expectations.deletion_settled(key, pod.metadata.uid)
            self.queue.add(key)

    def _pod_deleted(self, pod: core.Pod) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.creation_settled(key, pod.metadata.name)
            self._expectations.deletion_settled(key, pod.metadata.uid)
            self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        cached = self._sets.get(key)
        if cached is None:
            return None
        stateful = self._written.newest(cached)
        selector = from_message(stateful.spec.selector)
        if selector.empty or stateful.metadata.HasField("deletionTimestamp"):
            return None
        pods = await claim(
            stateful,
            children=self._pods,
            selector=selector,
            owner_client=self.client.resource(apps.StatefulSet),
            child_client=self.client.resource(core.Pod),
        )
        pods = [pod for pod in pods if ordinal_of(pod, stateful.metadata.name) >= 0]
        new = await self._history.current(stateful)
        known = {revision.metadata.name: revision for revision in self._history.of(stateful)}
        old = known.get(stateful.status.currentRevision, new)
        now = self.clock.time()
        settled_in = self._expectations.wait_seconds(key)
        if settled_in is None:
            plan = plan_stateful(stateful, pods, hash_of(new), now)
            await self._carry_out(stateful, key, plan, old, new)
        live = {new.metadata.name, old.metadata.name}
        await self._history.truncate(stateful, live)
        names = (old.metadata.name, hash_of(old)), (new.metadata.name, hash_of(new))
        await self._write_status(stateful, plan_status(stateful, pods, *names, now))
        waits = [next_available_in(pods, stateful.spec.minReadySeconds, now), settled_in]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _carry_out(
        self,
        stateful: apps.StatefulSet,
        key: str,
        plan: StatefulPlan,
        old: apps.ControllerRevision,
        new: apps.ControllerRevision,
    ) -> None:
        deleted = await self._pod_control.delete(stateful, key, plan.delete)
        for number, _ in plan.create:
            for wanted in make_claims(stateful, number):
                await unless_present(self.client.resource(core.PersistentVolumeClaim).create(wanted))

        def make(index: int) -> core.Pod:
            number, is_new = plan.create[index]
            revision = new if is_new else old
            template = stateful.spec.template if is_new else template_of(revision)
            return make_pod(stateful, number, template, hash_of(revision))

        created = await self._pod_control.create(stateful, key, len(plan.create), make)
        failure = deleted.failure or created.failure
        if failure is not None:
            raise failure

    async def _write_status(self, stateful: apps.StatefulSet, status: apps.StatefulSetStatus) -> None:
        if status == stateful.status:
            return
        changed = apps.StatefulSet()
        changed.CopyFrom(stateful)
        changed.status.CopyFrom(status)
        self._written.wrote(await self.client.resource(apps.StatefulSet).update_status(changed))


def template_of(revision: apps.ControllerRevision) -> core.PodTemplateSpec:
    """The pod template that a revision holds."""
    content = dict(orjson.loads(revision.data.raw)["spec"]["template"])
    content.pop("$patch", None)
    template = from_dict(content, core.PodTemplateSpec)
    assert isinstance(template, core.PodTemplateSpec)
    return template
