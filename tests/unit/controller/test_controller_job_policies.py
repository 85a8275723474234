"""Failure policies, limits per index and success policies of Jobs."""

from typing import Any

import pytest

from services.controller.job.controller import make_pod
from services.controller.job.indexes import INDEX
from services.controller.job.plan import FINALIZER, plan_job
from services.controller.job.policies import FAILURES, judge
from tillerman.api.codec import from_dict
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core

NOW = 1_700_000_000.0


def job(**spec: Any) -> Any:
    made = from_dict({"metadata": {"name": "work", "uid": "job"}, "spec": spec}, batch.Job)
    made.status.startTime.seconds = int(NOW - 1000)
    return made


def indexed(completions: int, **spec: Any) -> Any:
    return job(completions=completions, parallelism=completions, completionMode="Indexed", backoffLimit=10**6, **spec)


def pod(uid: str, phase: str = "Running", *, code: int = 1, index: int | None = None, failures: int = 0) -> core.Pod:
    made = core.Pod()
    made.metadata.name = made.metadata.uid = uid
    made.metadata.namespace = "default"
    made.metadata.finalizers.append(FINALIZER)
    made.spec.nodeName = "n"
    made.status.phase = phase
    if index is not None:
        made.metadata.annotations[INDEX] = str(index)
        made.metadata.annotations[FAILURES] = str(failures)
    if phase in ("Succeeded", "Failed"):
        terminated = made.status.containerStatuses.add(name="c").state.terminated
        terminated.exitCode = code if phase == "Failed" else 0
        terminated.finishedAt.seconds = int(NOW - 900)
    return made


def on_codes(action: str, operator: str, *values: int, name: str = "") -> dict[str, Any]:
    codes: dict[str, Any] = {"operator": operator, "values": list(values)}
    return {"action": action, "onExitCodes": codes | ({"containerName": name} if name else {})}


DISRUPTED = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


@pytest.mark.parametrize(
    "rules, code, action, message",
    [
        ([on_codes("FailJob", "In", 42)], 42, "FailJob", "Container c for pod default/a failed with exit code 42"),
        ([on_codes("FailJob", "In", 42)], 1, "Count", ""),
        (
            [on_codes("FailJob", "NotIn", 1, 2)],
            3,
            "FailJob",
            "exit code 3 matching FailJob rule at index 0",
        ),
        ([on_codes("FailJob", "In", 42, name="other")], 42, "Count", ""),
        ([on_codes("Count", "In", 42), on_codes("FailJob", "In", 42)], 42, "Count", "Count rule at index 0"),
        ([DISRUPTED, on_codes("FailIndex", "In", 7)], 7, "FailIndex", "FailIndex rule at index 1"),
    ],
)
def test_the_first_rule_that_fits_decides(rules: list[Any], code: int, action: str, message: str) -> None:
    ruling = judge(job(podFailurePolicy={"rules": rules}), pod("a", "Failed", code=code))
    assert ruling.action == action and message in ruling.message


def test_conditions_of_pods_are_looked_at() -> None:
    failed = pod("a", "Failed")
    failed.status.conditions.add(type="DisruptionTarget", status="True")
    ruling = judge(job(podFailurePolicy={"rules": [DISRUPTED]}), failed)
    assert ruling.message == "Pod default/a has condition DisruptionTarget matching Ignore rule at index 0"


def conditions(status: batch.JobStatus) -> list[tuple[str, str]]:
    return [(condition.type, condition.reason) for condition in status.conditions if condition.status == "True"]


def test_a_failure_that_ends_the_job_ends_the_other_pods() -> None:
    work = job(parallelism=2, completions=2, podFailurePolicy={"rules": [on_codes("FailJob", "In", 42)]})
    plan = plan_job(work, [pod("a", "Failed", code=42), pod("b")], NOW)
    assert conditions(plan.status) == [("FailureTarget", "PodFailurePolicy")]
    assert [one.metadata.uid for one in plan.delete] == ["b"] and not plan.create


def test_an_ignored_failure_does_not_count_and_is_replaced() -> None:
    work = job(parallelism=1, completions=1, backoffLimit=0, podFailurePolicy={"rules": [on_codes("Ignore", "In", 1)]})
    plan = plan_job(work, [pod("a", "Failed")], NOW)
    assert [one.metadata.uid for one in plan.unfinalize] == ["a"]
    assert (plan.status.failed, list(plan.status.uncountedTerminatedPods.failed)) == (0, [])
    assert plan.create == [-1] and not plan.status.conditions


def test_a_pod_on_its_way_out_is_replaced_when_it_has_ended_where_the_job_says_so() -> None:
    leaving = pod("a")
    leaving.metadata.deletionTimestamp.seconds = 1
    for policy, created in (("TerminatingOrFailed", [-1]), ("Failed", [])):
        work = job(parallelism=1, completions=1, backoffLimit=6, podReplacementPolicy=policy)
        assert plan_job(work, [leaving], NOW).create == created, policy


def test_each_index_has_failures_of_its_own() -> None:
    work = indexed(3, backoffLimitPerIndex=1)
    pods = [pod("a", "Failed", index=0), pod("b", "Failed", index=1, failures=1), pod("c", index=2)]
    plan = plan_job(work, pods, NOW)
    assert plan.status.failedIndexes == "1"
    assert (plan.create, plan.failures) == ([0], {0: 1})
    assert make_pod(work, 0, plan.failures).metadata.annotations[FAILURES] == "1"
    # What tells the failures of an index stays until another pod has taken its place.
    work.status.CopyFrom(plan.status)
    assert [one.metadata.uid for one in plan_job(work, pods, NOW).unfinalize] == ["b"]
    again = plan_job(work, [*pods, pod("d", index=0, failures=1)], NOW)
    assert sorted(one.metadata.uid for one in again.unfinalize) == ["a", "b"]


def test_an_index_waits_longer_after_each_of_its_failures() -> None:
    recent = pod("a", "Failed", index=0, failures=2)
    recent.status.containerStatuses[0].state.terminated.finishedAt.seconds = int(NOW - 5)
    plan = plan_job(indexed(2, backoffLimitPerIndex=5), [recent], NOW)
    assert (plan.create, plan.after) == ([1], 35.0)


@pytest.mark.parametrize(
    "spec, reason",
    [
        ({"backoffLimitPerIndex": 0}, "FailedIndexes"),
        ({"backoffLimitPerIndex": 0, "maxFailedIndexes": 0}, "MaxFailedIndexesExceeded"),
        (
            {"backoffLimitPerIndex": 9, "podFailurePolicy": {"rules": [on_codes("FailIndex", "In", 1)]}},
            "FailedIndexes",
        ),
    ],
)
def test_failed_indexes_fail_the_job_when_nothing_else_is_left(spec: dict[str, Any], reason: str) -> None:
    work = indexed(2, **spec)
    work.status.completedIndexes = "0"
    plan = plan_job(work, [pod("a", "Failed", index=1)], NOW)
    assert conditions(plan.status) == [("FailureTarget", reason)]
    work.status.CopyFrom(plan.status)
    assert [one.metadata.uid for one in plan_job(work, [pod("a", "Failed", index=1)], NOW).unfinalize] == ["a"]


@pytest.mark.parametrize(
    "rules, completed, met",
    [
        ([{"succeededCount": 1}], "", False),
        ([{"succeededCount": 1}], "3", True),
        ([{"succeededIndexes": "0,2"}], "0-1", False),
        ([{"succeededIndexes": "0,2"}], "0-2", True),
        ([{"succeededIndexes": "0-3", "succeededCount": 2}], "1,4", False),
        ([{"succeededIndexes": "0-3", "succeededCount": 2}], "1,3", True),
        ([{"succeededIndexes": "0"}, {"succeededCount": 1}], "4", True),
    ],
)
def test_a_job_succeeds_as_its_policy_says(rules: list[Any], completed: str, met: bool) -> None:
    work = indexed(5, successPolicy={"rules": rules})
    work.status.completedIndexes = completed
    plan = plan_job(work, [pod("a", index=2)], NOW)
    assert (("SuccessCriteriaMet", "SuccessPolicy") in conditions(plan.status)) == met
    assert ([one.metadata.uid for one in plan.delete] == ["a"]) == met
