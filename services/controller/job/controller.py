"""The controllers job and ttl-after-finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from prometheus_client import Counter

from services.controller.children import CONTROLLER_INDEX
from services.controller.framework import Controller, ControllerContext
from services.controller.job.indexes import INDEX, is_indexed
from services.controller.job.plan import FINALIZER, JobPlan, expires_in, is_finished, plan_job
from services.controller.job.policies import FAILURES, limits_indexes
from services.controller.naming import generated_name
from services.controller.outcomes import unless_gone
from services.controller.pod_control import pod_from_template
from services.controller.pod_owner import PodOwner
from tillerman.api.meta import controller_of, key_of
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core

FINISHED = Counter("job_controller_jobs_finished", "Jobs that came to an end.", ["result"])
PODS_FINISHED = Counter("job_controller_job_pods_finished", "Pods of Jobs that were counted.", ["result"])


class JobController(PodOwner[batch.Job]):
    name = "job"
    message = batch.Job

    async def reconcile(self, key: str) -> float | None:
        job = self.newest(key)
        if job is None:
            await self._free_pods_of_gone(key)
            return None
        if job.spec.managedBy and job.spec.managedBy != "kubernetes.io/job-controller":
            return None
        pods = self.pods.by_index(CONTROLLER_INDEX, job.metadata.uid)
        if job.metadata.HasField("deletionTimestamp"):
            await self._unfinalize([pod for pod in pods if FINALIZER in pod.metadata.finalizers])
            return None
        plan = plan_job(job, pods, self.clock.time())
        job = await self._tell(job, plan)
        await self._unfinalize(plan.unfinalize)
        settled_in = self.expectations.wait_seconds(key)
        if settled_in is not None:
            return settled_in if plan.after is None else min(plan.after, settled_in)
        await self._unfinalize(plan.delete)
        outcome = await self.pod_control.delete(job, key, plan.delete)
        if outcome.failure is None and plan.create:
            outcome = await self.pod_control.create(
                job, key, len(plan.create), lambda number: make_pod(job, plan.create[number], plan.failures)
            )
        if outcome.failure is not None:
            raise outcome.failure
        return plan.after

    async def _tell(self, job: batch.Job, plan: JobPlan) -> batch.Job:
        stored = await self.write_status(job, plan.status)
        if stored is job:
            return job
        PODS_FINISHED.labels("succeeded").inc(max(plan.status.succeeded - job.status.succeeded, 0))
        PODS_FINISHED.labels("failed").inc(max(plan.status.failed - job.status.failed, 0))
        if is_finished(stored) and not is_finished(job):
            done = any(c.type == "Complete" and c.status == "True" for c in stored.status.conditions)
            FINISHED.labels("succeeded" if done else "failed").inc()
        if plan.event is not None:
            self.recorder.event(job, *plan.event)
        return stored

    async def _unfinalize(self, pods: list[core.Pod]) -> None:
        for pod in pods:
            kept = [finalizer for finalizer in pod.metadata.finalizers if finalizer != FINALIZER]
            patch = {"metadata": {"uid": pod.metadata.uid, "finalizers": kept or None}}
            await unless_gone(
                self.client.resource(core.Pod).patch(pod.metadata.name, pod.metadata.namespace, patch, type="merge")
            )

    async def _free_pods_of_gone(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        for pod in self.pods.list(namespace):
            reference = controller_of(pod)
            if reference is not None and reference.kind == "Job" and reference.name == name:
                await self._unfinalize([pod] if FINALIZER in pod.metadata.finalizers else [])


def make_pod(job: batch.Job, index: int, failures: Mapping[int, int]) -> core.Pod:
    """A pod of the Job; `index` is its completion index, -1 for none; `failures`: how often indexes have failed."""
    indexed = is_indexed(job)
    name = generated_name(f"{job.metadata.name}-{index}-") if indexed else ""
    pod = pod_from_template(job.spec.template, job, name=name)
    pod.metadata.finalizers.append(FINALIZER)
    labels = {"controller-uid": job.metadata.uid, "job-name": job.metadata.name}
    for label, value in labels.items():
        pod.metadata.labels[label] = value
        pod.metadata.labels[f"batch.kubernetes.io/{label}"] = value
    if indexed:
        pod.metadata.generateName = f"{job.metadata.name}-{index}-"
        pod.metadata.annotations[INDEX] = str(index)
        pod.metadata.labels[INDEX] = str(index)
        if limits_indexes(job):
            pod.metadata.annotations[FAILURES] = str(failures.get(index, 0))
        pod.spec.hostname = f"{job.metadata.name}-{index}"
        for container in [*pod.spec.initContainers, *pod.spec.containers]:
            if not any(known.name == "JOB_COMPLETION_INDEX" for known in container.env):
                variable = container.env.add(name="JOB_COMPLETION_INDEX")
                variable.valueFrom.fieldRef.fieldPath = f"metadata.annotations['{INDEX}']"
    return pod


class TTLAfterFinishedController(Controller):
    """Deletes finished Jobs after their ttlSecondsAfterFinished."""

    name = "ttl-after-finished"
    workers: ClassVar[int] = 2

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._jobs = self.informer(batch.Job)
        self._jobs.add_handler(on_add=self._changed, on_update=lambda _, new: self._changed(new))

    def known_keys(self) -> list[str]:
        return [key_of(job) for job in self._jobs.list()]

    def _changed(self, job: batch.Job) -> None:
        if job.spec.HasField("ttlSecondsAfterFinished") and is_finished(job):
            self.enqueue(job)

    async def reconcile(self, key: str) -> float | None:
        job = self._jobs.get(key)
        if job is None or job.metadata.HasField("deletionTimestamp"):
            return None
        wait = expires_in(job, self.clock.time())
        if wait != 0.0:
            return wait
        await unless_gone(
            self.client.resource(batch.Job).delete(
                job.metadata.name,
                job.metadata.namespace,
                propagation_policy="Foreground",
                uid=job.metadata.uid,
                resource_version=job.metadata.resourceVersion,
            )
        )
        return None
