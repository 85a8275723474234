"""Rules of single fields of workloads, a row each: a manifest's part and the causes that Kubernetes gives for it."""

from __future__ import annotations

from typing import Any

import pytest
from refused import (
    CONTAINER,
    DUPLICATE,
    INVALID,
    LABELS,
    LABELS_FIELD,
    REQUIRED,
    UNSUPPORTED,
    causes_of,
    job,
    narrowed,
    updated,
    workload,
)

from services.apiserver import strategy
from tillerman.api import codec

DISK = {"containers": [CONTAINER], "volumes": [{"name": "v", "gcePersistentDisk": {"pdName": "p"}}]}
WITH_DISK = {"metadata": {"labels": LABELS}, "spec": DISK}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (workload("DaemonSet", selector=None), {(LABELS_FIELD, INVALID)}),
        (workload("StatefulSet", selector=None), {("spec.selector", REQUIRED), (LABELS_FIELD, INVALID)}),
        (workload("Deployment", replicas=1, template=WITH_DISK), set()),
        (
            workload("Deployment", replicas=2, template=WITH_DISK),
            {("spec.template.spec.volumes[0].gcePersistentDisk.readOnly", INVALID)},
        ),
        (
            workload("DaemonSet", template=WITH_DISK),
            {("spec.template.spec.volumes[0].gcePersistentDisk.readOnly", INVALID)},
        ),
    ],
)
def test_workloads(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def indexed(**spec: Any) -> dict[str, Any]:
    return job(completionMode="Indexed", **{"completions": 5, "parallelism": 2, **spec})


def failure_rule(**rule: Any) -> dict[str, Any]:
    return job(podFailurePolicy={"rules": [{"action": "FailJob", **rule}]})


def success_rule(**rule: Any) -> dict[str, Any]:
    return indexed(successPolicy={"rules": [rule]})


FAILURE, SUCCESS = "spec.podFailurePolicy.rules[0]", "spec.successPolicy.rules[0]"
RESTARTING = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER], "restartPolicy": "OnFailure"}}
IN = {"operator": "In", "values": [1]}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (failure_rule(onExitCodes=IN), set()),
        (failure_rule(onPodConditions=[{"type": "DisruptionTarget"}]), set()),
        (failure_rule(), {(FAILURE, INVALID)}),
        (failure_rule(onExitCodes=IN, onPodConditions=[{"type": "A"}]), {(FAILURE, INVALID)}),
        (failure_rule(onExitCodes=IN, action=""), {(f"{FAILURE}.action", REQUIRED)}),
        (failure_rule(onExitCodes=IN, action="Odd"), {(f"{FAILURE}.action", UNSUPPORTED)}),
        (failure_rule(onExitCodes=IN, action="FailIndex"), {(f"{FAILURE}.action", INVALID)}),
        (
            failure_rule(onExitCodes={"operator": "Odd", "values": [], "containerName": "d"}),
            {
                (f"{FAILURE}.onExitCodes.operator", UNSUPPORTED),
                (f"{FAILURE}.onExitCodes.containerName", INVALID),
                (f"{FAILURE}.onExitCodes.values", INVALID),
            },
        ),
        (
            failure_rule(onExitCodes={"operator": "In", "values": [2, 0, 2]}),
            {
                (f"{FAILURE}.onExitCodes.values", INVALID),
                (f"{FAILURE}.onExitCodes.values[1]", INVALID),
                (f"{FAILURE}.onExitCodes.values[2]", DUPLICATE),
            },
        ),
        (
            failure_rule(onPodConditions=[{"type": "a b", "status": "Odd"}]),
            {
                (f"{FAILURE}.onPodConditions[0].type", INVALID),
                (f"{FAILURE}.onPodConditions[0].status", UNSUPPORTED),
            },
        ),
        (
            job(podFailurePolicy={"rules": []}, template=RESTARTING),
            {("spec.template.spec.restartPolicy", INVALID)},
        ),
        (
            job(podFailurePolicy={"rules": []}, podReplacementPolicy="TerminatingOrFailed"),
            {("spec.podReplacementPolicy", UNSUPPORTED)},
        ),
        (job(podReplacementPolicy="Odd"), {("spec.podReplacementPolicy", UNSUPPORTED)}),
        (job(managedBy="me"), {("spec.managedBy", INVALID)}),
        (job(managedBy="a.b/" + "c" * 60), {("spec.managedBy", "FieldValueTooLong")}),
        (job(backoffLimitPerIndex=1), {("spec.backoffLimitPerIndex", INVALID)}),
        (
            indexed(maxFailedIndexes=6),
            {("spec.maxFailedIndexes", INVALID), ("spec.backoffLimitPerIndex", REQUIRED)},
        ),
        (indexed(completions=200_000, backoffLimitPerIndex=1), {("spec.maxFailedIndexes", REQUIRED)}),
        (indexed(completions=200_000, parallelism=100_001), {("spec.parallelism", INVALID)}),
        (
            indexed(completions=200_000, parallelism=10_001, backoffLimitPerIndex=1, maxFailedIndexes=10_001),
            {("spec.parallelism", INVALID), ("spec.maxFailedIndexes", INVALID)},
        ),
        (job(successPolicy={"rules": [{"succeededCount": 1}]}), {("spec.successPolicy", INVALID)}),
        (indexed(successPolicy={"rules": []}), {("spec.successPolicy.rules", REQUIRED)}),
        (success_rule(succeededIndexes="0,2-4", succeededCount=4), set()),
        (success_rule(), {(SUCCESS, REQUIRED)}),
        (success_rule(succeededCount=6), {(f"{SUCCESS}.succeededCount", INVALID)}),
        (success_rule(succeededIndexes="0-1", succeededCount=3), {(f"{SUCCESS}.succeededCount", INVALID)}),
        (success_rule(succeededIndexes="3,1"), {(f"{SUCCESS}.succeededIndexes", INVALID)}),
        (success_rule(succeededIndexes="1-2-3"), {(f"{SUCCESS}.succeededIndexes", INVALID)}),
        (success_rule(succeededIndexes="1-5"), {(f"{SUCCESS}.succeededIndexes", INVALID)}),
        (success_rule(succeededIndexes="a"), {(f"{SUCCESS}.succeededIndexes", INVALID)}),
    ],
)
def test_jobs(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def test_limits_by_index_lift_the_limit_of_the_whole_job() -> None:
    made: Any = codec.from_dict(indexed(backoffLimitPerIndex=1, podFailurePolicy={"rules": []}))
    strategy.default(made)
    assert (made.spec.backoffLimit, made.spec.podReplacementPolicy) == (2**31 - 1, "Failed")


def template_with(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER], "restartPolicy": "Never", **spec}}


MANUAL = {"manualSelector": True, "selector": {"matchLabels": LABELS}}


@pytest.mark.parametrize(
    ("content", "changes", "causes"),
    [
        (job(**MANUAL, suspend=True), {"template": template_with(nodeSelector={"a": "b"})}, set()),
        (job(**MANUAL, suspend=True), {"template": template_with(affinity=narrowed("a"))}, set()),
        (job(**MANUAL, suspend=True), {"template": template_with(hostname="h")}, {("spec.template", INVALID)}),
        (job(**MANUAL), {"template": template_with(nodeSelector={"a": "b"})}, {("spec.template", INVALID)}),
        (job(**MANUAL), {"suspend": True, "parallelism": 3}, set()),
        (job(**MANUAL), {"completions": 3}, {("spec.completions", INVALID)}),
        (indexed(**MANUAL), {"completions": 3}, {("spec.completions", INVALID)}),
        (indexed(**MANUAL), {"completions": 3, "parallelism": 3}, set()),
        (indexed(**MANUAL), {"backoffLimitPerIndex": 1}, {("spec.backoffLimitPerIndex", INVALID)}),
        (job(**MANUAL), {"managedBy": "a.b/c"}, {("spec.managedBy", INVALID)}),
    ],
)
def test_updates_of_jobs(content: dict[str, Any], changes: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert updated(content, **changes) == causes


def test_a_daemon_set_always_shows_its_templates_generation() -> None:
    made: Any = codec.from_dict({**workload("DaemonSet"), "metadata": {"name": "x"}})
    name = "deprecated.daemonset.template.generation"
    strategy.default(made)
    assert made.metadata.annotations[name] == "0"
    strategy.prepare_for_create(made)
    assert made.metadata.annotations[name] == "1"
