"""The StatefulSet controller."""

from __future__ import annotations

import orjson

from services.controller.framework import ControllerContext
from services.controller.history import RevisionHistory, hash_of
from services.controller.outcomes import unless_present
from services.controller.pod_owner import PodOwner
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
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core


class StatefulSetController(PodOwner[apps.StatefulSet]):
    name = "statefulset"
    message = apps.StatefulSet
    # A pod that is ready lets the next one start.
    gather = 0.0

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._history = RevisionHistory(context.client, self.informer(apps.ControllerRevision))

    async def reconcile(self, key: str) -> float | None:
        stateful = self.newest(key)
        if stateful is None or self.selector_of(stateful).empty or stateful.metadata.HasField("deletionTimestamp"):
            return None
        pods = await self.claimed(stateful)
        pods = [pod for pod in pods if ordinal_of(pod, stateful.metadata.name) >= 0]
        new = await self._history.current(stateful)
        known = {revision.metadata.name: revision for revision in self._history.of(stateful)}
        old = known.get(stateful.status.currentRevision, new)
        now = self.clock.time()
        settled_in = self.expectations.wait_seconds(key)
        if settled_in is None:
            plan = plan_stateful(stateful, pods, hash_of(new), now)
            await self._carry_out(stateful, key, plan, old, new)
        live = {new.metadata.name, old.metadata.name}
        await self._history.truncate(stateful, live)
        names = (old.metadata.name, hash_of(old)), (new.metadata.name, hash_of(new))
        await self.write_status(stateful, plan_status(stateful, pods, *names, now))
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
        deleted = await self.pod_control.delete(stateful, key, plan.delete)
        for number, _ in plan.create:
            for wanted in make_claims(stateful, number):
                await unless_present(self.client.resource(core.PersistentVolumeClaim).create(wanted))

        def make(index: int) -> core.Pod:
            number, is_new = plan.create[index]
            revision = new if is_new else old
            template = stateful.spec.template if is_new else template_of(revision)
            return make_pod(stateful, number, template, hash_of(revision))

        created = await self.pod_control.create(stateful, key, len(plan.create), make)
        failure = deleted.failure or created.failure
        if failure is not None:
            raise failure


def template_of(revision: apps.ControllerRevision) -> core.PodTemplateSpec:
    """The pod template that a revision holds."""
    content = dict(orjson.loads(revision.data.raw)["spec"]["template"])
    content.pop("$patch", None)
    template = from_dict(content, core.PodTemplateSpec)
    assert isinstance(template, core.PodTemplateSpec)
    return template
