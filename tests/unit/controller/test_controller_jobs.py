"""Jobs step by step, and cron's clock."""

from datetime import UTC, datetime

import pytest

from services.controller.job.cronjob import expired_jobs, last_due, make_job, plan_cron
from services.controller.job.indexes import INDEX, format_indexes, parse_indexes
from services.controller.job.plan import FINALIZER, backoff_seconds, expires_in, plan_job
from services.controller.job.schedule import ScheduleError, parse_schedule
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core

NOW = 1_700_000_000.0


def job(**spec) -> batch.Job:
    result = batch.Job()
    result.metadata.name, result.metadata.uid = "work", "job"
    for name, value in spec.items():
        setattr(result.spec, name, value)
    result.status.startTime.seconds = int(NOW - 100)
    return result


def pod(uid: str, phase="Running", *, index: int | None = None, tracked=True, ended=100) -> core.Pod:
    result = core.Pod()
    result.metadata.name = result.metadata.uid = uid
    result.status.phase = phase
    if index is not None:
        result.metadata.annotations[INDEX] = str(index)
    if tracked:
        result.metadata.finalizers.append(FINALIZER)
    if phase in ("Succeeded", "Failed"):
        state = result.status.containerStatuses.add(name="c").state
        state.terminated.finishedAt.seconds = int(NOW - ended)
    return result


def conditions(status: batch.JobStatus) -> list[tuple[str, str]]:
    return [(condition.type, condition.reason) for condition in status.conditions if condition.status == "True"]


def test_starts_parallel_pods_up_to_what_is_left() -> None:
    assert plan_job(job(parallelism=3, completions=5), [], NOW).create == [-1] * 3
    assert plan_job(job(parallelism=3, completions=2), [pod("a")], NOW).create == [-1]


def test_a_success_is_noted_freed_and_counted_in_three_steps() -> None:
    work = job(parallelism=1, completions=1)
    first = plan_job(work, [pod("a", "Succeeded")], NOW)
    assert list(first.status.uncountedTerminatedPods.succeeded) == ["a"]
    assert (first.status.succeeded, first.unfinalize, first.create) == (0, [], [])
    work.status.CopyFrom(first.status)
    second = plan_job(work, [pod("a", "Succeeded")], NOW)
    assert [p.metadata.uid for p in second.unfinalize] == ["a"]
    assert conditions(second.status) == [("SuccessCriteriaMet", "CompletionsReached")]
    work.status.CopyFrom(second.status)
    third = plan_job(work, [pod("a", "Succeeded", tracked=False)], NOW)
    assert third.status.succeeded == 1
    assert ("Complete", "CompletionsReached") in conditions(third.status)
    assert third.event == ("Normal", "Completed", "Job completed")


def test_failures_back_off_and_end_at_the_limit() -> None:
    work = job(parallelism=1, completions=1, backoffLimit=1)
    failed = [pod("a", "Failed", tracked=False, ended=3)]
    work.status.failed = 1
    plan = plan_job(work, failed, NOW)
    assert (plan.create, plan.after) == ([], 7.0)
    assert backoff_seconds([pod("a", "Failed", ended=50), pod("b", "Failed", ended=5)], NOW) == 15.0
    assert backoff_seconds([pod("a", "Failed", ended=50), pod("b", "Succeeded", ended=5)], NOW) == 0.0
    work.status.failed = 2
    plan = plan_job(work, [*failed, pod("b")], NOW)
    assert [p.metadata.uid for p in plan.delete] == ["b"]
    assert conditions(plan.status) == [("FailureTarget", "BackoffLimitExceeded")]
    work.status.CopyFrom(plan.status)
    assert ("Failed", "BackoffLimitExceeded") in conditions(plan_job(work, failed, NOW).status)


def test_deadline_and_suspension() -> None:
    late = plan_job(job(parallelism=1, completions=1, activeDeadlineSeconds=100), [pod("a")], NOW)
    assert conditions(late.status) == [("FailureTarget", "DeadlineExceeded")]
    waiting = plan_job(job(parallelism=1, completions=1, activeDeadlineSeconds=130), [pod("a")], NOW)
    assert waiting.after == 30
    suspended = plan_job(job(parallelism=1, completions=1, suspend=True), [pod("a")], NOW)
    assert [p.metadata.uid for p in suspended.delete] == ["a"]
    assert conditions(suspended.status) == [("Suspended", "JobSuspended")]


def test_indexed_jobs_start_the_missing_indexes() -> None:
    work = job(parallelism=3, completions=5, completionMode="Indexed")
    work.status.completedIndexes = "0,2"
    assert plan_job(work, [pod("a", index=1)], NOW).create == [3, 4]
    done = plan_job(work, [pod("a", "Succeeded", index=1)], NOW)
    assert done.status.completedIndexes == "0-2"


def test_indexes_as_text() -> None:
    assert format_indexes([5, 0, 1, 2, 7]) == "0-2,5,7"
    assert parse_indexes("0-2,5,7") == {0, 1, 2, 5, 7}
    assert parse_indexes("") == set()


def test_expiry() -> None:
    work = job(ttlSecondsAfterFinished=60)
    assert expires_in(work, NOW) is None
    work.status.conditions.add(type="Complete", status="True").lastTransitionTime.seconds = int(NOW - 50)
    assert expires_in(work, NOW) == 10


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text, zone, moment, expected",
    [
        ("*/5 * * * *", "", "2024-01-01T00:01:30", "2024-01-01T00:05:00"),
        ("0 0 * * *", "", "2024-01-01T00:00:00", "2024-01-02T00:00:00"),
        ("30 2 29 2 *", "", "2024-03-01T00:00:00", "2028-02-29T02:30:00"),
        ("0 9 * * mon-fri", "", "2024-01-05T10:00:00", "2024-01-08T09:00:00"),
        ("0 0 13 * 5", "", "2024-09-01T00:00:00", "2024-09-06T00:00:00"),
        ("@hourly", "", "2024-01-01T00:00:01", "2024-01-01T01:00:00"),
        ("0 12 * jan 7", "", "2024-01-01T00:00:00", "2024-01-07T12:00:00"),
        ("0 9 * * *", "America/New_York", "2024-07-01T12:00:00", "2024-07-01T13:00:00"),
        ("30 2 10 3 *", "America/New_York", "2024-03-01T00:00:00", "2025-03-10T06:30:00"),
    ],
)
def test_schedules(text: str, zone: str, moment: str, expected: str) -> None:
    found = parse_schedule(text, zone).after(at(moment))
    assert found is not None
    assert datetime.fromtimestamp(found, UTC) == datetime.fromtimestamp(at(expected), UTC)


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *"])
def test_bad_schedules(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse_schedule(text)


def cron(**spec) -> batch.CronJob:
    result = batch.CronJob()
    result.metadata.name = "tick"
    result.metadata.creationTimestamp.seconds = int(at("2024-01-01T00:00:30"))
    result.spec.schedule = "*/10 * * * *"
    for name, value in spec.items():
        setattr(result.spec, name, value)
    return result


def test_a_cron_job_serves_its_latest_time_once() -> None:
    schedule = parse_schedule("*/10 * * * *")
    now = at("2024-01-01T00:35:00")
    tick = cron()
    plan = plan_cron(tick, [], schedule, now)
    assert plan.due == at("2024-01-01T00:30:00")
    assert last_due(tick, schedule, now)[1] == 2
    assert make_job(tick, plan.due).metadata.name == f"tick-{int(plan.due) // 60}"
    tick.status.lastScheduleTime.seconds = int(plan.due)
    again = plan_cron(tick, [], schedule, now)
    assert again.due is None
    assert again.after == pytest.approx(300.1)


def test_policies_for_a_run_that_still_goes_on() -> None:
    schedule, now = parse_schedule("*/10 * * * *"), at("2024-01-01T00:10:01")
    assert plan_cron(cron(concurrencyPolicy="Forbid"), [job()], schedule, now).due is None
    replacing = plan_cron(cron(concurrencyPolicy="Replace"), [job()], schedule, now)
    assert len(replacing.replace) == 1
    assert plan_cron(cron(suspend=True), [], schedule, now).due is None
    assert plan_cron(cron(startingDeadlineSeconds=5), [], schedule, now + 60).due is None


def test_history_limits() -> None:
    ended = []
    for number in range(5):
        one = job()
        one.metadata.name = f"j{number}"
        one.status.startTime.seconds = number + 1
        one.status.conditions.add(type="Complete" if number else "Failed", status="True")
        ended.append(one)
    assert [one.metadata.name for one in expired_jobs(cron(), ended)] == ["j1"]
