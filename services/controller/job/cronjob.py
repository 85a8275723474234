"""The CronJob controller: creates a Job when its time has come, and keeps the history short.

A Job's name holds the minute it was due, so a time is never served twice, whatever happens in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from services.controller.children import CONTROLLER_INDEX, index_by_owner
from services.controller.framework import Controller, ControllerContext
from services.controller.job.plan import is_finished
from services.controller.job.schedule import Schedule, ScheduleError, parse_schedule
from services.controller.outcomes import unless_gone, unless_present
from services.controller.overlay import Overlay
from tillerman.api.meta import controller_of, key_of, owner_reference
from tillerman.api.times import from_seconds, rfc3339, to_seconds
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core

MOST_MISSED = 100
SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"


@dataclass
class CronPlan:
    """`due` is the epoch second of a Job to create; `replace` are Jobs to delete before it."""

    due: float | None = None
    replace: list[batch.Job] = field(default_factory=list)
    expired: list[batch.Job] = field(default_factory=list)
    after: float | None = None
    event: tuple[str, str, str] | None = None


def plan_cron(cron: batch.CronJob, jobs: Sequence[batch.Job], schedule: Schedule, now: float) -> CronPlan:
    plan = CronPlan(expired=expired_jobs(cron, jobs))
    if cron.spec.suspend:
        return plan
    upcoming = schedule.after(now)
    plan.after = upcoming - now + 0.1 if upcoming is not None else None
    due, missed = last_due(cron, schedule, now)
    if due is None:
        return plan
    if missed > MOST_MISSED:
        plan.event = ("Warning", "TooManyMissedTimes", "too many missed start times. Set or decrease "
                      ".spec.startingDeadlineSeconds or check clock skew")  # fmt: skip
    if cron.spec.HasField("startingDeadlineSeconds") and due + cron.spec.startingDeadlineSeconds < now:
        text = f"Missed scheduled time to start a job: {rfc3339(from_seconds(due))}"
        plan.event = ("Warning", "MissSchedule", text)
        return plan
    active = [job for job in jobs if not is_finished(job)]
    if active and cron.spec.concurrencyPolicy == "Forbid":
        plan.event = (
            "Normal",
            "JobAlreadyActive",
            "Not starting job because prior execution is running and concurrency policy is Forbid",
        )
        return plan
    if cron.spec.concurrencyPolicy == "Replace":
        plan.replace = active
    plan.due = due
    return plan


def last_due(cron: batch.CronJob, schedule: Schedule, now: float) -> tuple[float | None, int]:
    """(the latest unmet time up to now, how many times were missed before it, at most 101)."""
    earliest = to_seconds(
        cron.status.lastScheduleTime if cron.status.HasField("lastScheduleTime") else cron.metadata.creationTimestamp
    )
    if cron.spec.HasField("startingDeadlineSeconds"):
        earliest = max(earliest, now - cron.spec.startingDeadlineSeconds)
    latest: float | None = None
    missed = 0
    moment = schedule.after(earliest)
    while moment is not None and moment <= now:
        if latest is not None:
            missed += 1
        latest = moment
        if missed > MOST_MISSED:
            # Far behind: jump close to now instead of counting every minute.
            moment = schedule.after(max(moment, now - 86_400.0 * 8))
            missed = MOST_MISSED + 1
            while moment is not None and moment <= now:
                latest, moment = moment, schedule.after(moment)
            break
        moment = schedule.after(moment)
    return latest, missed


def expired_jobs(cron: batch.CronJob, jobs: Sequence[batch.Job]) -> list[batch.Job]:
    """Finished Jobs beyond the history limits, oldest first."""
    result: list[batch.Job] = []
    spec = cron.spec
    limits = {
        "Complete": spec.successfulJobsHistoryLimit if spec.HasField("successfulJobsHistoryLimit") else 3,
        "Failed": spec.failedJobsHistoryLimit if spec.HasField("failedJobsHistoryLimit") else 1,
    }
    for kind, limit in limits.items():
        ended = [job for job in jobs if any(c.type == kind and c.status == "True" for c in job.status.conditions)]
        ended.sort(key=lambda job: (to_seconds(job.status.startTime), job.metadata.name))
        result += ended[: max(len(ended) - limit, 0)]
    return result


def make_job(cron: batch.CronJob, due: float) -> batch.Job:
    job = batch.Job()
    job.metadata.name = f"{cron.metadata.name[:52]}-{int(due) // 60}"
    job.metadata.namespace = cron.metadata.namespace
    template = cron.spec.jobTemplate
    job.metadata.labels.update(template.metadata.labels)
    job.metadata.annotations.update(template.metadata.annotations)
    job.metadata.annotations[SCHEDULED_AT] = rfc3339(from_seconds(due))
    job.metadata.ownerReferences.append(owner_reference(cron))
    job.spec.CopyFrom(template.spec)
    return job


class CronJobController(Controller):
    name = "cronjob"
    workers: ClassVar[int] = 4

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder("cronjob-controller")
        self._crons = self.informer(batch.CronJob)
        self._jobs = self.informer(batch.Job)
        self._written: Overlay[batch.CronJob] = Overlay()
        index_by_owner(self._jobs)
        self._crons.add_handler(
            on_add=self._changed, on_update=lambda _, new: self._changed(new), on_delete=self._written.forget
        )
        self._jobs.add_handler(
            on_add=self._job_changed, on_update=lambda _, new: self._job_changed(new), on_delete=self._job_changed
        )

    def known_keys(self) -> list[str]:
        return [key_of(cron) for cron in self._crons.list()]

    def _changed(self, cron: batch.CronJob) -> None:
        self._written.seen(cron)
        self.enqueue(cron)

    def _job_changed(self, job: batch.Job) -> None:
        reference = controller_of(job)
        if reference is not None and reference.kind == "CronJob":
            self.queue.add(f"{job.metadata.namespace}/{reference.name}")

    async def reconcile(self, key: str) -> float | None:
        cached = self._crons.get(key)
        if cached is None or cached.metadata.HasField("deletionTimestamp"):
            return None
        cron = self._written.newest(cached)
        try:
            schedule = parse_schedule(cron.spec.schedule, cron.spec.timeZone)
        except ScheduleError as error:
            self._recorder.event(cron, "Warning", "UnparseableSchedule", f"unparseable schedule: {error}")
            return None
        jobs = self._jobs.by_index(CONTROLLER_INDEX, cron.metadata.uid)
        plan = plan_cron(cron, jobs, schedule, self.clock.time())
        if plan.event is not None:
            self._recorder.event(cron, *plan.event)
        for job in plan.expired:
            await self._delete(job)
            self._recorder.event(cron, "Normal", "SuccessfulDelete", f"Deleted job {job.metadata.name}")
        started = await self._start(cron, plan) if plan.due is not None else None
        await self._write_status(cron, jobs, plan, started)
        return plan.after

    async def _start(self, cron: batch.CronJob, plan: CronPlan) -> batch.Job | None:
        for job in plan.replace:
            await self._delete(job)
            self._recorder.event(cron, "Normal", "SuccessfulDelete", f"Deleted job {job.metadata.name}")
        wanted = make_job(cron, plan.due or 0.0)
        created = await unless_present(self.client.resource(batch.Job).create(wanted))
        if created is not None:
            self._recorder.event(cron, "Normal", "SuccessfulCreate", f"Created job {wanted.metadata.name}")
        return created

    async def _delete(self, job: batch.Job) -> None:
        await unless_gone(
            self.client.resource(batch.Job).delete(
                job.metadata.name, job.metadata.namespace, propagation_policy="Background", uid=job.metadata.uid
            )
        )

    async def _write_status(
        self, cron: batch.CronJob, jobs: Sequence[batch.Job], plan: CronPlan, started: batch.Job | None
    ) -> None:
        changed = batch.CronJob()
        changed.CopyFrom(cron)
        gone = {job.metadata.uid for job in [*plan.replace, *plan.expired]}
        active = [job for job in jobs if not is_finished(job) and job.metadata.uid not in gone]
        if started is not None and started.metadata.uid not in {job.metadata.uid for job in active}:
            active.append(started)
        del changed.status.active[:]
        for job in sorted(active, key=lambda job: job.metadata.name):
            changed.status.active.append(
                core.ObjectReference(
                    kind="Job",
                    apiVersion="batch/v1",
                    name=job.metadata.name,
                    namespace=job.metadata.namespace,
                    uid=job.metadata.uid,
                    resourceVersion=job.metadata.resourceVersion,
                )
            )
        if plan.due is not None:
            changed.status.lastScheduleTime.CopyFrom(from_seconds(plan.due))
        ends = [job.status.completionTime for job in jobs if job.status.HasField("completionTime")]
        latest = max(ends, key=to_seconds, default=None)
        if latest is not None and to_seconds(latest) > to_seconds(changed.status.lastSuccessfulTime):
            changed.status.lastSuccessfulTime.CopyFrom(latest)
        if changed.status != cron.status:
            self._written.wrote(await self.client.resource(batch.CronJob).update_status(changed))
