"""The Deployment controller: reads its ReplicaSets, asks the plans, resizes, writes status.

What was just written is kept in an overlay until the informers show it, so that a reconcile never plans with sizes it
has already changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.controller.children import CONTROLLER_INDEX, claim, index_by_owner
from services.controller.deployment import plan
from services.controller.deployment.revisions import (
    REVISION,
    ReplicaSets,
    annotate_new,
    annotate_sizes,
    expired_sets,
    new_replica_set,
    next_revision,
    revision_of,
    same_template,
    sort_out,
)
from services.controller.deployment.sizes import is_rolling
from services.controller.deployment.status import (
    counted_status,
    is_complete,
    pause_condition,
    progress_deadline,
    rollout_status,
    seconds_to_deadline,
    set_condition,
)
from services.controller.framework import Controller, ControllerContext
from services.controller.overlay import Overlay
from tillerman.api.meta import controller_of, get_condition, key_of
from tillerman.api.selectors import from_message
from tillerman.api.status import StatusError, is_already_exists, is_not_found
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

# Seconds in which status changes of one Deployment's ReplicaSets are gathered into one reconcile.
GATHER = 0.005


class DeploymentController(Controller):
    name = "deployment"
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder("deployment-controller")
        self._deployments = self.informer(apps.Deployment)
        self._replica_sets = self.informer(apps.ReplicaSet)
        self._pods = self.informer(core.Pod)
        self._written_sets: Overlay[apps.ReplicaSet] = Overlay()
        self._written: Overlay[apps.Deployment] = Overlay()
        index_by_owner(self._replica_sets)
        index_by_owner(self._pods)
        self._deployments.add_handler(
            on_add=self._changed, on_update=lambda _, new: self._changed(new), on_delete=self._deployment_deleted
        )
        self._replica_sets.add_handler(
            on_add=self._set_changed, on_update=self._set_updated, on_delete=self._set_deleted
        )
        self._pods.add_handler(on_delete=self._pod_deleted)

    def known_keys(self) -> list[str]:
        return [key_of(deployment) for deployment in self._deployments.list()]

    def _changed(self, deployment: apps.Deployment) -> None:
        self._written.seen(deployment)
        self.enqueue(deployment)

    def _deployment_deleted(self, deployment: apps.Deployment) -> None:
        self._written.forget(deployment)
        self.enqueue(deployment)

    def _queue_owner(self, replica_set: apps.ReplicaSet, delay: float = 0.0) -> None:
        reference = controller_of(replica_set)
        if reference is not None:
            if reference.kind == "Deployment":
                self.queue.add_after(f"{replica_set.metadata.namespace}/{reference.name}", delay)
            return
        for deployment in self._deployments.list(replica_set.metadata.namespace):
            if from_message(deployment.spec.selector).matches(replica_set.metadata.labels):
                self.enqueue(deployment)

    def _set_changed(self, replica_set: apps.ReplicaSet) -> None:
        self._written_sets.seen(replica_set)
        self._queue_owner(replica_set)

    def _set_updated(self, old: apps.ReplicaSet, new: apps.ReplicaSet) -> None:
        self._written_sets.seen(new)
        old_reference, reference = controller_of(old), controller_of(new)
        if old_reference is not None and (reference is None or reference.uid != old_reference.uid):
            self._queue_owner(old)
        self._queue_owner(new, GATHER)

    def _set_deleted(self, replica_set: apps.ReplicaSet) -> None:
        self._written_sets.forget(replica_set)
        self._queue_owner(replica_set)

    def _pod_deleted(self, pod: core.Pod) -> None:
        """A Recreate rollout waits for the last old pod to go."""
        reference = controller_of(pod)
        if reference is None or reference.kind != "ReplicaSet":
            return
        replica_set = self._replica_sets.get(f"{pod.metadata.namespace}/{reference.name}")
        owner = controller_of(replica_set) if replica_set is not None else None
        if owner is None:
            return
        key = f"{pod.metadata.namespace}/{owner.name}"
        deployment = self._deployments.get(key)
        if deployment is not None and not is_rolling(deployment):
            self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        cached = self._deployments.get(key)
        if cached is None:
            return None
        deployment = apps.Deployment()
        deployment.CopyFrom(self._written.newest(cached))
        selector = from_message(deployment.spec.selector)
        if selector.empty:
            message = "This deployment is selecting all pods. A non-empty selector is required."
            self._recorder.event(deployment, "Warning", "SelectingAll", message)
            return None
        owned = await claim(
            deployment,
            children=self._replica_sets,
            selector=selector,
            owner_client=self.client.resource(apps.Deployment),
            child_client=self.client.resource(apps.ReplicaSet),
        )
        owned = self._written_sets.merge(owned, extra=lambda rs: _owned_by(rs, deployment))
        sets = sort_out(deployment, owned)
        now = self.clock.time()
        if deployment.metadata.HasField("deletionTimestamp"):
            await self._write_status(deployment, counted_status(deployment, sets, now))
            return None
        told = pause_condition(deployment)
        if told is not None:
            status = apps.DeploymentStatus()
            status.CopyFrom(deployment.status)
            set_condition(status, "Progressing", "Unknown", *told, now)
            deployment = await self._write_status(deployment, status)
        if deployment.spec.paused or plan.is_resized(deployment, sets):
            return await self._resize(deployment, sets)
        if is_rolling(deployment):
            return await self._roll(deployment, sets)
        return await self._recreate(deployment, sets)

    async def _resize(self, deployment: apps.Deployment, sets: ReplicaSets) -> float | None:
        sets = await self._with_revision(deployment, sets)
        sets = await self._carry_out(deployment, sets, plan.plan_scale(deployment, sets))
        if deployment.spec.paused:
            await self._clean_up(deployment, sets)
        status = (
            counted_status(deployment, sets, self.clock.time())
            if deployment.spec.paused
            else rollout_status(deployment, sets, self.clock.time())
        )
        await self._write_status(deployment, status)
        return None

    async def _roll(self, deployment: apps.Deployment, sets: ReplicaSets) -> float | None:
        deployment, sets = await self._with_new_set(deployment, sets)
        resizes = plan.plan_new(deployment, sets) or plan.plan_old(deployment, sets)
        sets = await self._carry_out(deployment, sets, resizes)
        return await self._finish(deployment, sets)

    async def _recreate(self, deployment: apps.Deployment, sets: ReplicaSets) -> float | None:
        resizes = plan.plan_recreate_old(sets)
        if resizes:
            sets = await self._carry_out(deployment, sets, resizes)
        elif not plan.old_pods_running(sets.new, self._pods_of(sets.all)):
            deployment, sets = await self._with_new_set(deployment, sets)
            sets = await self._carry_out(deployment, sets, plan.plan_new(deployment, sets))
        return await self._finish(deployment, sets)

    async def _finish(self, deployment: apps.Deployment, sets: ReplicaSets) -> float | None:
        now = self.clock.time()
        status = rollout_status(deployment, sets, now)
        if is_complete(deployment, status):
            await self._clean_up(deployment, sets)
        deployment = await self._write_status(deployment, status)
        return seconds_to_deadline(deployment, deployment.status, now)

    def _pods_of(self, replica_sets: Iterable[apps.ReplicaSet]) -> list[tuple[str, core.Pod]]:
        return [
            (replica_set.metadata.uid, pod)
            for replica_set in replica_sets
            for pod in self._pods.by_index(CONTROLLER_INDEX, replica_set.metadata.uid)
        ]

    async def _with_revision(self, deployment: apps.Deployment, sets: ReplicaSets) -> ReplicaSets:
        """An existing new ReplicaSet gets the newest revision, the Deployment's annotations and minReadySeconds."""
        if sets.new is None:
            return sets
        changed = apps.ReplicaSet()
        changed.CopyFrom(sets.new)
        annotated = annotate_new(deployment, changed, next_revision(sets), existed=True)
        if changed.spec.minReadySeconds != deployment.spec.minReadySeconds:
            changed.spec.minReadySeconds = deployment.spec.minReadySeconds
            annotated = True
        new = await self._update_set(changed) if annotated else sets.new
        await self._note_revision(deployment, new)
        return ReplicaSets(new, sets.old)

    async def _with_new_set(
        self, deployment: apps.Deployment, sets: ReplicaSets
    ) -> tuple[apps.Deployment, ReplicaSets]:
        """The same with the new ReplicaSet, created if need be. The Deployment's conditions tell which of both."""
        now = self.clock.time()
        if sets.new is not None:
            sets = await self._with_revision(deployment, sets)
            if progress_deadline(deployment) is not None and not get_condition(
                deployment.status.conditions, "Progressing"
            ):
                found = f'Found new replica set "{sets.new.metadata.name}"' if sets.new is not None else ""
                set_condition(deployment.status, "Progressing", "True", "FoundNewReplicaSet", found, now)
            return deployment, sets
        created = await self._create_set(deployment, sets)
        if progress_deadline(deployment) is not None:
            message = f'Created new replica set "{created.metadata.name}"'
            set_condition(deployment.status, "Progressing", "True", "NewReplicaSetCreated", message, now)
        await self._note_revision(deployment, created)
        return deployment, ReplicaSets(created, sets.old)

    async def _create_set(self, deployment: apps.Deployment, sets: ReplicaSets) -> apps.ReplicaSet:
        wanted = new_replica_set(deployment, sets)
        client = self.client.resource(apps.ReplicaSet)
        try:
            created = await client.create(wanted)
        except StatusError as error:
            if is_already_exists(error):
                present = await client.get(wanted.metadata.name, wanted.metadata.namespace)
                if _owned_by(present, deployment) and same_template(deployment.spec.template, present.spec.template):
                    self._written_sets.wrote(present)
                    return present
                status = apps.DeploymentStatus()
                status.CopyFrom(deployment.status)
                status.collisionCount += 1
                await self._write_status(deployment, status)
                raise
            message = f'Failed to create new replica set "{wanted.metadata.name}": {error.message}'
            status = apps.DeploymentStatus()
            status.CopyFrom(deployment.status)
            set_condition(
                status, "Progressing", "False", "ReplicaSetCreateError", message, self.clock.time()
            )  # fmt: skip
            await self._write_status(deployment, status)
            raise
        self._written_sets.wrote(created)
        if created.spec.replicas > 0:
            message = f"Scaled up replica set {created.metadata.name} to {created.spec.replicas}"
            self._recorder.event(deployment, "Normal", "ScalingReplicaSet", message)
        return created

    async def _note_revision(self, deployment: apps.Deployment, new: apps.ReplicaSet) -> None:
        revision = new.metadata.annotations.get(REVISION, "")
        if not revision or revision_of(deployment) == revision_of(new):
            return
        patch = {"metadata": {"uid": deployment.metadata.uid, "annotations": {REVISION: revision}}}
        client = self.client.resource(apps.Deployment)
        # With the status: any other write of annotations counts as a new generation.
        stored = await client.patch(
            deployment.metadata.name, deployment.metadata.namespace, patch, subresource="status"
        )
        self._written.wrote(stored)
        # The status that is written next carries the metadata along, so all of it must be that of now, or it would undo
        # what others have written since; what is observed is still the generation that this round has seen.
        generation = deployment.metadata.generation
        deployment.metadata.CopyFrom(stored.metadata)
        deployment.metadata.generation = generation

    async def _carry_out(
        self, deployment: apps.Deployment, sets: ReplicaSets, resizes: Sequence[plan.Resize]
    ) -> ReplicaSets:
        """The ReplicaSets with their new sizes."""
        changed: dict[str, apps.ReplicaSet] = {}
        for resize in resizes:
            wanted = apps.ReplicaSet()
            wanted.CopyFrom(resize.replica_set)
            annotated = annotate_sizes(deployment, wanted)
            before = resize.replica_set.spec.replicas
            if not annotated and before == resize.replicas:
                continue
            wanted.spec.replicas = resize.replicas
            changed[wanted.metadata.uid] = await self._update_set(wanted)
            if before != resize.replicas:
                direction = "up" if resize.replicas > before else "down"
                message = f"Scaled {direction} replica set {wanted.metadata.name} to {resize.replicas} from {before}"
                self._recorder.event(deployment, "Normal", "ScalingReplicaSet", message)
        new = changed.get(sets.new.metadata.uid, sets.new) if sets.new is not None else None
        return ReplicaSets(new, tuple(changed.get(rs.metadata.uid, rs) for rs in sets.old))

    async def _update_set(self, replica_set: apps.ReplicaSet) -> apps.ReplicaSet:
        stored = await self.client.resource(apps.ReplicaSet).update(replica_set)
        self._written_sets.wrote(stored)
        return stored

    async def _clean_up(self, deployment: apps.Deployment, sets: ReplicaSets) -> None:
        for replica_set in expired_sets(deployment, sets.old):
            try:
                await self.client.resource(apps.ReplicaSet).delete(
                    replica_set.metadata.name, replica_set.metadata.namespace, uid=replica_set.metadata.uid
                )
            except StatusError as error:
                if not is_not_found(error):
                    raise

    async def _write_status(self, deployment: apps.Deployment, status: apps.DeploymentStatus) -> apps.Deployment:
        """The Deployment with its new status; writes only what differs from the stored one."""
        stored = self._deployments.get(key_of(deployment))
        known = self._written.newest(stored) if stored is not None else deployment
        if status == known.status:
            return deployment
        changed = apps.Deployment()
        changed.CopyFrom(deployment)
        changed.status.CopyFrom(status)
        written = await self.client.resource(apps.Deployment).update_status(changed)
        self._written.wrote(written)
        return written


def _owned_by(replica_set: apps.ReplicaSet, deployment: apps.Deployment) -> bool:
    reference = controller_of(replica_set)
    return reference is not None and reference.uid == deployment.metadata.uid
