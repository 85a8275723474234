"""Rules of workloads, a row each: a manifest's part and the causes that Kubernetes gives for it."""

from __future__ import annotations

from typing import Any

import pytest
from refused import (
    CONTAINER,
    FORBIDDEN,
    INVALID,
    LABELS,
    LABELS_FIELD,
    REQUIRED,
    UNSUPPORTED,
    causes_of,
    cron,
    job,
    updated,
    workload,
)

UNREADABLE = {"matchExpressions": [{"key": "a", "operator": "Near"}]}
BARE = {"metadata": {"labels": LABELS}, "spec": {"containers": []}}
OPERATOR = "spec.selector.matchExpressions[0].operator"
MORTAL = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER], "activeDeadlineSeconds": 5}}
MANUAL = {"manualSelector": True}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        # What cannot select is not compared with what it should select.
        *(
            (workload(kind, selector=UNREADABLE, template=BARE), {("spec.selector", INVALID), (OPERATOR, INVALID)})
            for kind in ("Deployment", "ReplicaSet", "StatefulSet")
        ),
        (
            workload("DaemonSet", selector=UNREADABLE, template=BARE),
            {(OPERATOR, INVALID), ("spec.template.spec.containers", REQUIRED)},
        ),
        (workload("DaemonSet", updateStrategy={"type": "Odd"}), {("spec.updateStrategy", UNSUPPORTED)}),
        *(
            (workload(kind, template=MORTAL), {("spec.template.spec.activeDeadlineSeconds", FORBIDDEN)})
            for kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
        ),
        # Its pods are refused when they are made.
        (workload("StatefulSet", template=BARE), set()),
        (job(**MANUAL, selector={}), set()),
        (job(**MANUAL), {("spec.selector", REQUIRED), (LABELS_FIELD, INVALID)}),
        (
            job(selector={"matchLabels": {"a": "b"}}),
            {("spec.selector", INVALID), (LABELS_FIELD, INVALID)},
        ),
        (
            cron(jobTemplate={"spec": {**job()["spec"], "selector": {"matchLabels": LABELS}}}),
            {("spec.jobTemplate.spec.selector", INVALID)},
        ),
        ({**cron(), "metadata": {"name": "n" * 53}}, {("metadata.name", INVALID)}),
    ],
)
def test_workloads(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def test_a_cron_job_keeps_a_name_that_is_too_long() -> None:
    assert updated(cron(), suspend=True) == set()


def test_definitions_keep_the_finalizer_that_they_go_with() -> None:
    names = {"plural": "gizmos", "kind": "Gizmo"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gizmos.a.b", "finalizers": ["customresourcecleanup.apiextensions.k8s.io"]},
        "spec": {"group": "a.b", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    assert causes_of(definition, namespaced=False) == set()
