"""Patches and server-side apply against the answers of a real kube-apiserver.

Left out, since newer releases changed them: apply of a Service's port without a protocol (it has a default now), and of
a nodeSelector (it is one value now).
"""

from __future__ import annotations

from typing import Any

import pytest
from recorded_server import Server, judge, load, query_of, run

from tillerman.api import codec, status


@pytest.mark.parametrize("case", load("patches"), ids=lambda c: c["name"])
def test_patch_gives_the_recorded_object(case: dict[str, Any]) -> None:
    server = Server()
    base = f"{case['path']}/{case['base']['metadata']['name']}"
    server.create(case["path"], case["base"], {}, "rec")
    problems: list[str] = []
    for number, step in enumerate(case["steps"]):
        name = step.get("object_name")
        path = f"{case['path']}/{name}" if name else base + (f"/{step['subresource']}" if "subresource" in step else "")
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


@pytest.mark.parametrize("case", load("apply"), ids=lambda c: c["name"])
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
