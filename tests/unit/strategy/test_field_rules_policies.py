"""Rules of the fields of limits and of autoscalers, a row each, as in the other tables."""

from __future__ import annotations

from typing import Any

import pytest
from refused import FORBIDDEN, INVALID, REQUIRED, UNSUPPORTED, causes_of

LIMIT = "spec.limits[0]"


def limit(kind: str = "Container", **parts: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": [{"type": kind, **parts}]}}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (limit("Pod", min={"cpu": "2"}, max={"cpu": "1"}), {(f"{LIMIT}.min[cpu]", INVALID)}),
        (limit(min={"cpu": "2"}, defaultRequest={"cpu": "1"}), {(f"{LIMIT}.defaultRequest[cpu]", INVALID)}),
        (limit(max={"cpu": "1"}, defaultRequest={"cpu": "2"}), {(f"{LIMIT}.defaultRequest[cpu]", INVALID)}),
        (limit(default={"cpu": "1"}, defaultRequest={"cpu": "2"}), {(f"{LIMIT}.defaultRequest[cpu]", INVALID)}),
        # A container's default is also its default request, where none is given.
        (
            limit(min={"cpu": "2"}, default={"cpu": "1"}),
            {(f"{LIMIT}.default[cpu]", INVALID), (f"{LIMIT}.defaultRequest[cpu]", INVALID)},
        ),
        (
            limit(max={"cpu": "1"}, default={"cpu": "2"}),
            {(f"{LIMIT}.default[cpu]", INVALID), (f"{LIMIT}.defaultRequest[cpu]", INVALID)},
        ),
        # What pods may not have is not compared besides.
        (limit("Pod", max={"cpu": "1"}, default={"cpu": "2"}), {(f"{LIMIT}.default", FORBIDDEN)}),
    ],
)
def test_which_bound_of_a_limit_is_to_blame(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


METRIC = "spec.metrics[0]"
PODS = {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}
CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}


def scaled(**metric: Any) -> dict[str, Any]:
    target = {"kind": "Deployment", "name": "d"}
    spec = {"scaleTargetRef": target, "maxReplicas": 2, "metrics": [metric]}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": spec}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        # A source of another type is refused only beside a second one.
        (scaled(type="Resource", pods=PODS), {(f"{METRIC}.resource", REQUIRED)}),
        (scaled(type="Resource", resource=CPU, pods=PODS), {(f"{METRIC}.pods", FORBIDDEN)}),
        (scaled(type="Other", pods=PODS), {(f"{METRIC}.type", UNSUPPORTED)}),
        (
            scaled(type="Other", resource=CPU, pods=PODS),
            {(f"{METRIC}.type", UNSUPPORTED), (f"{METRIC}.pods", FORBIDDEN), (f"{METRIC}.resource", FORBIDDEN)},
        ),
        # The first source there is judged, whatever the type.
        (
            scaled(type="Resource", pods={**PODS, "metric": {"name": ""}}),
            {(f"{METRIC}.resource", REQUIRED), (f"{METRIC}.pods.metric.name", REQUIRED)},
        ),
        (
            scaled(type="Resource", resource={"name": "cpu", "target": {"averageUtilization": 50}}),
            {(f"{METRIC}.resource.target.type", REQUIRED), (f"{METRIC}.resource.target.type", INVALID)},
        ),
        (
            scaled(type="Pods", pods={**PODS, "target": {**PODS["target"], "averageUtilization": 0}}),
            {(f"{METRIC}.pods.target.averageUtilization", INVALID)},
        ),
    ],
)
def test_sources_and_targets_of_metrics(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def test_what_scopes_of_quotas_go_with() -> None:
    content = {"apiVersion": "v1", "kind": "ResourceQuota"}
    pair = [{"scopeName": name, "operator": "Exists"} for name in ("BestEffort", "NotBestEffort")]
    conflicting = {"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": pair}}
    assert causes_of({**content, "spec": conflicting}) == {("spec.scopeSelector.matchExpressions", INVALID)}
    scratch = {"hard": {"requests.ephemeral-storage": "1Gi"}, "scopes": ["NotBestEffort"]}
    assert causes_of({**content, "spec": scratch}) == {("spec.scopes", INVALID)}
