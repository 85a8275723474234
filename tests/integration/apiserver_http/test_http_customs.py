"""An unmodified kubectl on custom resources."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from custom_definitions import definition, gizmo
from real_kubectl import Kubectl


def text(*objects: dict[str, Any]) -> str:
    return yaml.safe_dump_all(objects)


async def test_kubectl_works_on_custom_resources(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=text(definition()))
    await kubectl("wait", "--for=condition=Established", "crd/gizmos.example.org", "--timeout=20s")
    assert "gizmo.example.org/a created" in await kubectl("apply", "-f", "-", stdin=text(gizmo("a")))
    changed = text(gizmo("a", size=2))
    assert "gizmo.example.org/a configured" in await kubectl("apply", "-f", "-", stdin=changed)
    assert "gizmo.example.org/a unchanged" in await kubectl("apply", "-f", "-", stdin=changed)
    code, out, _ = await kubectl.run("diff", "-f", "-", stdin=text(gizmo("a", size=3)))
    assert (code, "+  size: 3" in out) == (1, True)

    lines = (await kubectl("get", "gi")).splitlines()
    assert [lines[0].split(), lines[1].split()[:2]] == [["NAME", "SIZE", "AGE"], ["a", "2"]]
    lines = (await kubectl("get", "gizmos", "-o", "wide")).splitlines()
    assert [lines[0].split(), lines[1].split()[:3]] == [["NAME", "SIZE", "COLOR", "AGE"], ["a", "2", "red"]]
    assert "a" in await kubectl("get", "toys")
    assert await kubectl("get", "gizmo", "a", "-o", "jsonpath={.spec.size}") == "2"
    assert "Kind:         Gizmo" in await kubectl("describe", "gizmo", "a")
    listed = await kubectl("api-resources", "--api-group=example.org")
    assert "gizmos   gi           example.org/v1   true         Gizmo" in listed

    explained = await kubectl("explain", "gizmo.spec")
    assert "What is wanted." in explained
    assert "size\t<integer> -required-" in explained
    assert "enum: red, green, blue" in explained
    assert "Standard object's metadata" in await kubectl("explain", "gizmo")

    await kubectl("patch", "gizmo", "a", "--type=merge", "-p", '{"spec": {"color": "blue"}}')
    await kubectl("patch", "gizmo", "a", "--subresource=status", "--type=merge", "-p", '{"status": {"size": 2}}')
    assert "gizmo.example.org/a scaled" in await kubectl("scale", "gizmo/a", "--replicas=7")
    assert await kubectl("get", "gizmo", "a", "-o", "jsonpath={.spec.size} {.spec.color} {.status.size}") == "7 blue 2"
    await kubectl("label", "gizmo", "a", "x=y")
    assert "a" in await kubectl("get", "gizmos", "-l", "x=y")
    assert "a" in await kubectl("get", "gizmos", "--field-selector=spec.color=blue")
    ready = '{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}'
    await kubectl("patch", "gizmo", "a", "--subresource=status", "--type=merge", "-p", ready)
    assert "condition met" in await kubectl("wait", "gizmo/a", "--for=condition=Ready", "--timeout=20s")
    assert "condition met" in await kubectl("wait", "gizmo/a", "--for=jsonpath={.spec.size}=7", "--timeout=20s")

    assert "serverside-applied" in await kubectl("apply", "--server-side", "-f", "-", stdin=text(gizmo("b")))
    code, _, err = await kubectl.run(
        "apply", "--server-side", "--field-manager=x", "-f", "-", stdin=text(gizmo("b", size=9))
    )
    assert code == 1
    assert "conflict with" in err

    await kubectl("delete", "gizmo", "b")
    assert "deleted" in await kubectl("delete", "crd", "gizmos.example.org", "--timeout=20s")
    code, _, err = await kubectl.run("get", "gizmos")
    assert code == 1


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"size": "many"}, "spec.size: Invalid value"),
        ({"odd": 1}, 'unknown field "spec.odd"'),
        ({"color": "pink"}, 'spec.color: Unsupported value: "pink": supported values: "red", "green", "blue"'),
    ],
)
async def test_kubectl_is_told_what_is_wrong(kubectl: Kubectl, spec: dict[str, Any], expected: str) -> None:
    await kubectl("apply", "-f", "-", stdin=text(definition()))
    await kubectl("wait", "--for=condition=Established", "crd/gizmos.example.org", "--timeout=20s")
    code, _, err = await kubectl.run("create", "-f", "-", stdin=text(gizmo("wrong", **spec)))
    assert code == 1
    assert expected in err
    await kubectl("delete", "crd", "gizmos.example.org", "--timeout=20s")
