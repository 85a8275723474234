"""Patches and server-side apply against the answers of a real kube-apiserver.

Custom resources and scales are other modules' work.
"""

from __future__ import annotations

from typing import Any

import pytest
from golden import cases
from recorded_server import Server, judge, query_of, run

from services.apiserver import patch as patches
from tillerman.api import codec, status

PATCHES = [
    case
    for case in cases("patches")
    if "golden.test" not in case["path"] and not any(step["subresource"] == "scale" for step in case["steps"])
]
# Newer releases changed it: a Service's port has a protocol by default.
CHANGED = ("service-ports-default-protocol",)
# The front and the conversion between versions decide.
OF_OTHERS = ("error-fieldManager-too-long", "two-versions-of-one-manager")
APPLIES = [
    case
    for case in cases("apply", without=CHANGED + OF_OTHERS)
    if not any("golden.test" in step["path"] or step["path"].endswith("/scale") for step in case["steps"])
]


@pytest.mark.parametrize("case", PATCHES, ids=lambda c: c["name"])
def test_patch_gives_the_recorded_object(case: dict[str, Any]) -> None:
    server = Server()
    base = f"{case['path']}/{case['base']['metadata']['name']}"
    server.create(case["path"], case["base"], {}, "rec")
    problems: list[str] = []
    for number, step in enumerate(case["steps"]):
        name = step.get("object_name")
        path = f"{case['path']}/{name}" if name else base + (f"/{step['subresource']}" if step["subresource"] else "")
        before = server.objects[base].metadata
        query = query_of(step.get("query"))
        code, got = run(
            lambda path=path, step=step, query=query: server.patch(
                path, step["content_type"], server.resolve(step.get("patch", "")), query, "rec"
            )
        )
        problems += [f"step {number}: {p}" for p in judge(step["code"], step["result"], code, got)]
        after = server.objects[base].metadata
        for key, field in (("rv_changed", "resourceVersion"), ("generation_changed", "generation")):
            if step[key] != (getattr(before, field) != getattr(after, field)):
                problems.append(f"step {number}: {key} should be {step[key]}")
    assert not problems


@pytest.mark.parametrize("case", APPLIES, ids=lambda c: c["name"])
def test_apply_gives_the_recorded_owners(case: dict[str, Any]) -> None:
    server = Server()
    problems: list[str] = []
    for number, step in enumerate(case["steps"]):
        query = query_of(step.get("query"))
        agent = step.get("user_agent", "rec").partition("/")[0]
        code, got = run(lambda step=step, query=query, agent=agent: _send(server, step, query, agent))
        if "result" in step:
            problems += [f"step {number}: {p}" for p in judge(step["code"], step["result"], code, got)]
    assert not problems


def _send(server: Server, step: dict[str, Any], query: dict[str, str], agent: str) -> Any:
    body = server.resolve(step.get("body"))
    manager = query.get("fieldManager", agent)
    path = step["path"]
    if step["method"] == "PATCH":
        return server.patch(path, step["content_type"], body, query, agent)
    if step["method"] == "POST":
        return server.create(path, body, query, manager)
    subresource = server.locate(path)[3]
    if step["method"] == "PUT":
        return 200, server.update(path.removesuffix(f"/{subresource}"), body, subresource, query, manager)
    if path not in server.objects:
        raise status.not_found("", path)
    return 200, codec.to_dict(server.objects[path])


def test_apply_meets_owners_that_know_the_object_in_another_version() -> None:
    scaler = {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}}
    owned = {"f:spec": {"f:metrics": {}}}
    entry = {"manager": "other", "operation": "Update", "apiVersion": "autoscaling/v2", "fieldsV1": owned}
    live = {**scaler, "metadata": {"name": "h", "managedFields": [entry]}}

    def convert(content: dict[str, Any], version: str) -> dict[str, Any]:
        return {"spec": {"metrics": [{"type": str(content["spec"]["targetCPUUtilizationPercentage"])}]}}

    applied = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", **scaler}
    applied["spec"] = {"targetCPUUtilizationPercentage": 50}
    with pytest.raises(status.StatusError, match=r'conflict with "other" using autoscaling/v2: .spec.metrics'):
        patches.apply(
            live,
            applied,
            api_version="autoscaling/v1",
            kind="HorizontalPodAutoscaler",
            manager="me",
            time="2026-01-01T00:00:00Z",
            convert=convert,
        )
