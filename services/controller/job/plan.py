"""The Job controller's decisions.

A Job's pods carry a finalizer, so that none disappears before it is counted. A finished pod goes through three steps,
each of which may be the last before a crash: its uid is noted in status.uncountedTerminatedPods, its finalizer goes,
and the noted uid becomes a count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.controller.job.indexes import format_indexes, index_of, is_indexed, parse_indexes
from services.controller.job.policies import (
    FAIL_JOB,
    IGNORE,
    Indexes,
    judge,
    limits_indexes,
    look_at_indexes,
    replaces_only_failed,
    success_of,
)
from tillerman.api.meta import get_condition
from tillerman.api.pods import is_ready, is_terminal
from tillerman.api.times import from_seconds, to_seconds
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core

FINALIZER = "batch.kubernetes.io/job-tracking"
FIRST_BACKOFF, LAST_BACKOFF = 10.0, 360.0


@dataclass
class JobPlan:
    """`create` holds completion indexes (-1 for Jobs without), `failures` how often some have failed; `after` are
    seconds until another look.
    """

    status: batch.JobStatus
    create: list[int] = field(default_factory=list)
    failures: dict[int, int] = field(default_factory=dict)
    delete: list[core.Pod] = field(default_factory=list)
    unfinalize: list[core.Pod] = field(default_factory=list)
    after: float | None = None
    event: tuple[str, str, str] | None = None


def is_finished(job: batch.Job) -> bool:
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in job.status.conditions)


def plan_job(job: batch.Job, pods: Sequence[core.Pod], now: float) -> JobPlan:
    """What follows from the Job and all its pods, finished and terminating ones included."""
    status = batch.JobStatus()
    status.CopyFrom(job.status)
    plan = JobPlan(status)
    if is_finished(job):
        plan.unfinalize = [pod for pod in pods if FINALIZER in pod.metadata.finalizers]
        return plan
    if job.spec.suspend:
        status.ClearField("startTime")
    elif not status.HasField("startTime"):
        status.startTime.CopyFrom(from_seconds(now))
    indexes = _count(job, pods, plan)
    active = [pod for pod in pods if not is_terminal(pod) and not pod.metadata.HasField("deletionTimestamp")]
    failed = status.failed + len(status.uncountedTerminatedPods.failed)
    succeeded = _succeeded(job, status)
    verdict = _verdict(job, pods, indexes, status, failed, now)
    terminating = sum(1 for pod in pods if not is_terminal(pod) and pod.metadata.HasField("deletionTimestamp"))
    if verdict is None:
        # These tell how often their indexes have failed.
        telling = {pod.metadata.uid for pod in indexes.latest.values()}
        plan.unfinalize = [pod for pod in plan.unfinalize if pod.metadata.uid not in telling]
    if verdict is not None:
        plan.delete = active
        _finish(job, plan, verdict, still_running=bool(active or terminating), now=now)
        active = []
    elif job.spec.suspend:
        plan.delete, active = active, []
        _suspend(status, now, plan)
    else:
        _resume(status, now, plan)
        _size(job, pods, active, indexes, succeeded, plan, now)
    status.active = len(active)
    status.ready = sum(1 for pod in active if is_ready(pod))
    status.terminating = terminating
    return plan


def _count(job: batch.Job, pods: Sequence[core.Pod], plan: JobPlan) -> Indexes:
    """The three steps of counting, as far as they can go now; what has failed of the indexes."""
    status = plan.status
    tracked = {pod.metadata.uid for pod in pods if FINALIZER in pod.metadata.finalizers}
    uncounted = status.uncountedTerminatedPods
    for name in ("succeeded", "failed"):
        noted = getattr(uncounted, name)
        done = [uid for uid in noted if uid not in tracked]
        if done:
            kept = [uid for uid in noted if uid in tracked]
            del noted[:]
            noted.extend(kept)
            setattr(status, name, getattr(status, name) + len(done))
    known = {*uncounted.succeeded, *uncounted.failed}
    completed = parse_indexes(status.completedIndexes)
    for pod in pods:
        if pod.metadata.uid not in tracked or not _over(job, pod):
            continue
        if pod.metadata.uid in known:
            plan.unfinalize.append(pod)
        elif pod.status.phase == "Succeeded":
            if is_indexed(job):
                # A second success of an index adds nothing.
                if index_of(pod) in completed or not 0 <= index_of(pod) < job.spec.completions:
                    plan.unfinalize.append(pod)
                    continue
                completed.add(index_of(pod))
            uncounted.succeeded.append(pod.metadata.uid)
        elif judge(job, pod).action == IGNORE:
            plan.unfinalize.append(pod)
        else:
            uncounted.failed.append(pod.metadata.uid)
    if is_indexed(job):
        status.completedIndexes = format_indexes(completed)
    if not limits_indexes(job):
        return Indexes()
    indexes = look_at_indexes(job, pods, completed)
    status.failedIndexes = format_indexes(indexes.failed)
    return indexes


def _over(job: batch.Job, pod: core.Pod) -> bool:
    """Whether a tracked pod is to be counted. What this controller deletes has lost its finalizer before: a tracked pod
    on its way out has failed, or will have.
    """
    if is_terminal(pod):
        return True
    return pod.metadata.HasField("deletionTimestamp") and not (replaces_only_failed(job) and pod.spec.nodeName)


def _succeeded(job: batch.Job, status: batch.JobStatus) -> int:
    if is_indexed(job):
        return len(parse_indexes(status.completedIndexes))
    return status.succeeded + len(status.uncountedTerminatedPods.succeeded)


def _verdict(
    job: batch.Job, pods: Sequence[core.Pod], indexes: Indexes, status: batch.JobStatus, failed: int, now: float
) -> tuple[str, str, str] | None:
    """(condition type, reason, message) once the Job's end is decided; ``status`` is that of now."""
    spec = job.spec
    succeeded = _succeeded(job, status)
    limit = spec.backoffLimit if spec.HasField("backoffLimit") else 6
    restarts = 0
    if spec.template.spec.restartPolicy == "OnFailure":
        restarts = sum(s.restartCount for pod in pods for s in pod.status.containerStatuses if not is_terminal(pod))
    for target, end in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
        known = get_condition(job.status.conditions, target)
        if known is not None and known.status == "True":
            return (end, known.reason, known.message)
    for pod in pods:
        ruling = judge(job, pod)
        if ruling.action == FAIL_JOB:
            return ("Failed", "PodFailurePolicy", ruling.message)
    if failed > limit or (restarts and failed + restarts > limit):
        return ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if deadline_in(job, now) == 0.0:
        return ("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    if spec.HasField("maxFailedIndexes") and len(indexes.failed) > spec.maxFailedIndexes:
        return ("Failed", "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
    if is_indexed(job) and (met := success_of(job, parse_indexes(status.completedIndexes))):
        return ("Complete", "SuccessPolicy", met)
    if indexes.failed and succeeded + len(indexes.failed) >= spec.completions:
        return ("Failed", "FailedIndexes", "Job has failed indexes")
    running = any(not is_terminal(pod) for pod in pods)
    if not spec.HasField("completions"):
        if succeeded and not running:
            return ("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
        return None
    if succeeded >= spec.completions:
        return ("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def deadline_in(job: batch.Job, now: float) -> float | None:
    """Seconds until activeDeadlineSeconds have passed; 0 when they have, None without a deadline."""
    if not job.spec.HasField("activeDeadlineSeconds") or not job.status.HasField("startTime") or job.spec.suspend:
        return None
    return max(to_seconds(job.status.startTime) + job.spec.activeDeadlineSeconds - now, 0.0)


def _finish(job: batch.Job, plan: JobPlan, verdict: tuple[str, str, str], *, still_running: bool, now: float) -> None:
    """Notes the end as soon as it is decided; declares it when every pod has ended and is counted."""
    kind, reason, message = verdict
    status = plan.status
    target = "FailureTarget" if kind == "Failed" else "SuccessCriteriaMet"
    _set(status, target, "True", reason, message, now)
    uncounted = status.uncountedTerminatedPods
    if still_running or uncounted.succeeded or uncounted.failed:
        return
    _set(status, kind, "True", reason, message, now)
    if kind == "Complete":
        status.completionTime.CopyFrom(from_seconds(now))
        plan.event = ("Normal", "Completed", "Job completed")
    else:
        plan.event = ("Warning", reason, message)


def _suspend(status: batch.JobStatus, now: float, plan: JobPlan) -> None:
    known = get_condition(status.conditions, "Suspended")
    if known is None or known.status != "True":
        _set(status, "Suspended", "True", "JobSuspended", "Job suspended", now)
        plan.event = ("Normal", "Suspended", "Job suspended")


def _resume(status: batch.JobStatus, now: float, plan: JobPlan) -> None:
    known = get_condition(status.conditions, "Suspended")
    if known is not None and known.status == "True":
        _set(status, "Suspended", "False", "JobResumed", "Job resumed", now)
        plan.event = ("Normal", "Resumed", "Job resumed")


def _size(
    job: batch.Job,
    pods: Sequence[core.Pod],
    active: list[core.Pod],
    indexes: Indexes,
    succeeded: int,
    plan: JobPlan,
    now: float,
) -> None:
    spec = job.spec
    wanted = spec.parallelism if spec.HasField("parallelism") else 1
    if spec.HasField("completions"):
        wanted = min(wanted, spec.completions - succeeded - len(indexes.failed))
    elif succeeded:
        wanted = len(active)
    surplus = len(active) - wanted
    plan.after = deadline_in(job, now)
    if surplus > 0:
        active.sort(key=lambda pod: (is_ready(pod), pod.status.phase == "Running", -index_of(pod)))
        plan.delete = active[:surplus]
        del active[:surplus]
        return
    leaving = [pod for pod in pods if replaces_only_failed(job) and not _over(job, pod) and pod not in active]
    surplus += len(leaving)
    if surplus >= 0:
        return
    if limits_indexes(job):
        _replace_indexes(job, [*active, *leaving], indexes, plan, -surplus, now)
        return
    wait = backoff_seconds(pods, now)
    if wait > 0:
        plan.after = wait if plan.after is None else min(plan.after, wait)
        return
    if not is_indexed(job):
        plan.create = [-1] * min(-surplus, 500)
        return
    taken = parse_indexes(plan.status.completedIndexes) | {index_of(pod) for pod in (*active, *leaving)}
    plan.create = [index for index in range(spec.completions) if index not in taken][: min(-surplus, 500)]


def _replace_indexes(
    job: batch.Job, present: list[core.Pod], indexes: Indexes, plan: JobPlan, number: int, now: float
) -> None:
    """Each index waits for its own failures."""
    taken = parse_indexes(plan.status.completedIndexes) | indexes.failed | {index_of(pod) for pod in present}
    for index in range(job.spec.completions):
        if index in taken:
            continue
        last = indexes.latest.get(index)
        failures = indexes.failures.get(index, 0)
        wait = 0.0 if last is None else max(_ended_at(last) + _backoff(failures) - now, 0.0)
        if wait > 0:
            plan.after = wait if plan.after is None else min(plan.after, wait)
        elif len(plan.create) < min(number, 500):
            plan.create.append(index)
            if failures:
                plan.failures[index] = failures


def backoff_seconds(pods: Sequence[core.Pod], now: float) -> float:
    """Seconds to wait before the next pod: 10 doubling to 360 with each failure since the last success."""
    ends = sorted((_ended_at(pod), pod.status.phase) for pod in pods if is_terminal(pod))
    failures = 0
    for _, phase in reversed(ends):
        if phase == "Succeeded":
            break
        failures += 1
    if not failures:
        return 0.0
    last = ends[-1][0]
    return max(last + _backoff(failures) - now, 0.0)


def _backoff(failures: int) -> float:
    return min(FIRST_BACKOFF * 2.0 ** (min(failures, 10) - 1), LAST_BACKOFF) if failures else 0.0


def _ended_at(pod: core.Pod) -> float:
    ends = [to_seconds(s.state.terminated.finishedAt) for s in pod.status.containerStatuses]
    return max([*ends, to_seconds(pod.metadata.creationTimestamp)])


def _set(status: batch.JobStatus, type: str, value: str, reason: str, message: str, now: float) -> None:
    known = get_condition(status.conditions, type)
    if known is None:
        known = status.conditions.add(type=type)
    if known.status == value and known.reason == reason:
        return
    known.status, known.reason, known.message = value, reason, message
    known.lastProbeTime.CopyFrom(from_seconds(now))
    known.lastTransitionTime.CopyFrom(from_seconds(now))


def expires_in(job: batch.Job, now: float) -> float | None:
    """Seconds until ttlSecondsAfterFinished have passed; None when the Job does not expire (yet)."""
    if not is_finished(job) or not job.spec.HasField("ttlSecondsAfterFinished"):
        return None
    ends = [c.lastTransitionTime for c in job.status.conditions if c.type in ("Complete", "Failed")]
    return max(to_seconds(ends[0]) + job.spec.ttlSecondsAfterFinished - now, 0.0)
