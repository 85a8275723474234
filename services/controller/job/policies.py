"""What a Job says of its pods' failures and its own success: podFailurePolicy, backoffLimitPerIndex, successPolicy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.controller.job.indexes import index_of, parse_indexes
from tillerman.api.pods import is_terminal
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core

# On a pod of an index: how often the index had failed before.
FAILURES = "batch.kubernetes.io/job-index-failure-count"
FAIL_JOB, FAIL_INDEX, IGNORE, COUNT = "FailJob", "FailIndex", "Ignore", "Count"


@dataclass(frozen=True, slots=True)
class Ruling:
    """``message``: why, where a rule has decided."""

    action: str = COUNT
    message: str = ""


def judge(job: batch.Job, pod: core.Pod) -> Ruling:
    """What the first rule that fits a failed pod says."""
    if pod.status.phase != "Failed":
        return Ruling()
    for number, rule in enumerate(job.spec.podFailurePolicy.rules):
        found = _matched(rule, pod)
        if found:
            return Ruling(rule.action, f"{found} matching {rule.action} rule at index {number}")
    return Ruling()


def _matched(rule: batch.PodFailurePolicyRule, pod: core.Pod) -> str:
    """What fits the rule, in words; empty when nothing does."""
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    if rule.HasField("onExitCodes"):
        wanted = rule.onExitCodes
        for status in (*pod.status.initContainerStatuses, *pod.status.containerStatuses):
            code = status.state.terminated.exitCode
            if not status.state.HasField("terminated") or not code or wanted.containerName not in ("", status.name):
                continue
            if (code in wanted.values) == (wanted.operator == "In"):
                return f"Container {status.name} for pod {name} failed with exit code {code}"
        return ""
    for pattern in rule.onPodConditions:
        for condition in pod.status.conditions:
            if (condition.type, condition.status) == (pattern.type, pattern.status or "True"):
                return f"Pod {name} has condition {condition.type}"
    return ""


def replaces_only_failed(job: batch.Job) -> bool:
    """Whether a pod on its way out counts as long as it has not ended."""
    return job.spec.podReplacementPolicy == "Failed"


@dataclass(slots=True)
class Indexes:
    """Of a Job with backoffLimitPerIndex. ``failures``: of indexes that are to run again; ``latest``: the pods that
    tell them, which stay until others have taken their place.
    """

    failed: set[int] = field(default_factory=set)
    failures: dict[int, int] = field(default_factory=dict)
    latest: dict[int, core.Pod] = field(default_factory=dict)


def limits_indexes(job: batch.Job) -> bool:
    return job.spec.HasField("backoffLimitPerIndex")


def look_at_indexes(job: batch.Job, pods: Sequence[core.Pod], completed: set[int]) -> Indexes:
    """Which indexes have failed for good, and how often the others have."""
    result = Indexes(failed=parse_indexes(job.status.failedIndexes))
    for pod in pods:
        index = index_of(pod)
        if not is_terminal(pod) or pod.status.phase == "Succeeded" or index < 0 or index in completed:
            continue
        ruling = judge(job, pod)
        before = pod.metadata.annotations.get(FAILURES, "")
        count = (int(before) if before.isdigit() else 0) + (ruling.action != IGNORE)
        if ruling.action == FAIL_INDEX or count > job.spec.backoffLimitPerIndex:
            result.failed.add(index)
        if count >= result.failures.get(index, 0):
            result.failures[index] = count
            result.latest[index] = pod
    followed = {index_of(pod) for pod in pods if not is_terminal(pod)}
    for index in [index for index in result.latest if index in result.failed or index in followed]:
        del result.latest[index]
    return result


def success_of(job: batch.Job, completed: Iterable[int]) -> str:
    """Which rule of the successPolicy is met, in words; empty when none is."""
    done = set(completed)
    for number, rule in enumerate(job.spec.successPolicy.rules):
        wanted = parse_indexes(rule.succeededIndexes) if rule.HasField("succeededIndexes") else None
        counted = done if wanted is None else done & wanted
        enough = len(counted) >= rule.succeededCount if rule.HasField("succeededCount") else counted == wanted
        if enough and counted:
            return f"Matched rules at index {number}"
    return ""
