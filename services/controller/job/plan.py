"""The Job controller's decisions.

A Job's pods carry a finalizer, so that none disappears before it is counted. A finished pod goes through three steps,
each of which may be the last before a crash: its uid is noted in status.uncountedTerminatedPods, its finalizer goes,
and the noted uid becomes a count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tillerman.api.meta import get_condition
from tillerman.api.pods import is_ready, is_terminal
from tillerman.api.times import from_seconds, to_seconds
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
FIRST_BACKOFF, LAST_BACKOFF = 10.0, 360.0


@dataclass
class JobPlan:
    """`create` holds completion indexes (-1 for Jobs without); `after` are seconds until another look."""

    status: batch.JobStatus
    create: list[int] = field(default_factory=list)
    delete: list[core.Pod] = field(default_factory=list)
    unfinalize: list[core.Pod] = field(default_factory=list)
    after: float | None = None
    event: tuple[str, str, str] | None = None


def is_finished(job: batch.Job) -> bool:
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in job.status.conditions)


def is_indexed(job: batch.Job) -> bool:
    return job.spec.completionMode == "Indexed"


def index_of(pod: core.Pod) -> int:
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isdigit() else -1


def parse_indexes(text: str) -> set[int]:
    """ "0-2,5" as numbers."""
    result: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        result.update(range(int(first), int(last or first) + 1))
    return result


def format_indexes(indexes: Sequence[int] | set[int]) -> str:
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


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
    _count(job, pods, plan)
    active = [pod for pod in pods if not is_terminal(pod) and not pod.metadata.HasField("deletionTimestamp")]
    failed = status.failed + len(status.uncountedTerminatedPods.failed)
    succeeded = _succeeded(job, status)
    verdict = _verdict(job, pods, succeeded, failed, now)
    terminating = sum(1 for pod in pods if not is_terminal(pod) and pod.metadata.HasField("deletionTimestamp"))
    if verdict is not None:
        plan.delete = active
        _finish(job, plan, verdict, still_running=bool(active or terminating), now=now)
        active = []
    elif job.spec.suspend:
        plan.delete, active = active, []
        _suspend(status, now, plan)
    else:
        _resume(status, now, plan)
        _size(job, pods, active, succeeded, plan, now)
    status.active = len(active)
    status.ready = sum(1 for pod in active if is_ready(pod))
    status.terminating = terminating
    return plan


def _count(job: batch.Job, pods: Sequence[core.Pod], plan: JobPlan) -> None:
    """The three steps of counting, as far as they can go now."""
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
        # What this controller deletes has lost its finalizer before: a tracked pod on its way out has failed.
        if pod.metadata.uid not in tracked or not (is_terminal(pod) or pod.metadata.HasField("deletionTimestamp")):
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
        else:
            uncounted.failed.append(pod.metadata.uid)
    if is_indexed(job):
        status.completedIndexes = format_indexes(completed)


def _succeeded(job: batch.Job, status: batch.JobStatus) -> int:
    if is_indexed(job):
        return len(parse_indexes(status.completedIndexes))
    return status.succeeded + len(status.uncountedTerminatedPods.succeeded)


def _verdict(
    job: batch.Job, pods: Sequence[core.Pod], succeeded: int, failed: int, now: float
) -> tuple[str, str, str] | None:
    """(condition type, reason, message) once the Job's end is decided."""
    spec = job.spec
    limit = spec.backoffLimit if spec.HasField("backoffLimit") else 6
    restarts = 0
    if spec.template.spec.restartPolicy == "OnFailure":
        restarts = sum(s.restartCount for pod in pods for s in pod.status.containerStatuses if not is_terminal(pod))
    known = get_condition(job.status.conditions, "FailureTarget")
    if known is not None and known.status == "True":
        return ("Failed", known.reason, known.message)
    if failed > limit or (restarts and failed + restarts > limit):
        return ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if deadline_in(job, now) == 0.0:
        return ("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
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
    job: batch.Job, pods: Sequence[core.Pod], active: list[core.Pod], succeeded: int, plan: JobPlan, now: float
) -> None:
    spec = job.spec
    wanted = spec.parallelism if spec.HasField("parallelism") else 1
    if spec.HasField("completions"):
        wanted = min(wanted, spec.completions - succeeded)
    elif succeeded:
        wanted = len(active)
    surplus = len(active) - wanted
    plan.after = deadline_in(job, now)
    if surplus > 0:
        active.sort(key=lambda pod: (is_ready(pod), pod.status.phase == "Running", -index_of(pod)))
        plan.delete = active[:surplus]
        del active[:surplus]
        return
    if surplus == 0:
        return
    wait = backoff_seconds(pods, now)
    if wait > 0:
        plan.after = wait if plan.after is None else min(plan.after, wait)
        return
    if not is_indexed(job):
        plan.create = [-1] * min(-surplus, 500)
        return
    taken = parse_indexes(plan.status.completedIndexes) | {index_of(pod) for pod in active}
    plan.create = [index for index in range(spec.completions) if index not in taken][: min(-surplus, 500)]


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
    return max(last + min(FIRST_BACKOFF * 2.0 ** (failures - 1), LAST_BACKOFF) - now, 0.0)


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
