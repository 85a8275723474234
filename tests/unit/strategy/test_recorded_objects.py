"""Defaults and refusals against the answers of a real kube-apiserver.

What admission and allocation add (tolerations, priorities, protection finalizers, addresses) is other modules' work.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from golden import ANY, cases

from services.apiserver import strategy
from tillerman.api import codec
from tillerman.api.quantity import parse_quantity

OTHERS_WORK = re.compile(
    r"\.spec\.(tolerations|priority|preemptionPolicy|taints|clusterIPs?\b|healthCheckNodePort)|\.nodePort"
    r"|\.metadata\.(finalizers|managedFields|resourceVersion)"
)


# What admission, allocation and the size limit refuse or fill in.
OF_OTHERS = {
    "creates": (
        "pod-in-limitrange-namespace",
        "pod-with-priorityclass",
        "pod-security",
        "ingress-with-default-class",
        "bindings-resource",
    ),
    "invalid": (
        "service-cluster-ip-outside",
        "service-node-port-taken",
        "configmap-too-big",
        "sa-token-expiration-too-short",
    ),
}
# What the version served today has in another shape or not at all; Endpoints take any address now.
CHANGED = {
    "creates": ("ingress-v1beta1", "hpa-v2-behavior", "endpointslice-full", "psp-min", "psp-full"),
    "invalid": ("psp-empty", "endpoints-bad"),
}


def load(name: str) -> list[dict[str, Any]]:
    """The recorded creates of built-in kinds that the kinds' own rules answer."""
    chosen = cases(name, without=OF_OTHERS[name] + CHANGED[name])
    return [case for case in chosen if is_create(case) and (name == "creates" or case["code"] == 422)]


def is_create(case: dict[str, Any]) -> bool:
    path = case["path"]
    plain = isinstance(case["request"], dict) and re.search(r"/[a-z]+$", path) and "/ex.io/" not in path
    return bool(plain) and case["method"] == "POST" and not case.get("subresource")


def namespace_of(case: dict[str, Any]) -> str:
    found = re.search(r"/namespaces/([^/]+)/", case["path"])
    return found[1] if found else ""


def created(case: dict[str, Any]) -> Any:
    """The object as the registry would hand it to validation."""
    obj: Any = codec.from_dict(case["request"])
    strategy.default(obj)
    if namespace := namespace_of(case):
        obj.metadata.namespace = namespace
    if not obj.metadata.name and obj.metadata.generateName:
        obj.metadata.name = obj.metadata.generateName + "abcde"
    obj.metadata.uid = "11111111-2222-3333-4444-555555555555"
    obj.metadata.creationTimestamp.seconds = 1000
    strategy.prepare_for_create(obj)
    return obj


def missing(recorded: Any, got: Any, path: str = "") -> list[str]:
    if OTHERS_WORK.search(path) or (recorded == ANY and got is not None):
        return []
    if isinstance(recorded, dict) and isinstance(got, dict):
        return [
            problem
            for key, value in recorded.items()
            if key in got or value is not None
            for problem in missing(value, got.get(key), f"{path}.{key}")
        ]
    if isinstance(recorded, list) and isinstance(got, list) and len(recorded) == len(got):
        return [p for i, (a, b) in enumerate(zip(recorded, got, strict=True)) for p in missing(a, b, f"{path}[{i}]")]
    if isinstance(recorded, str) and isinstance(got, str) and ANY in recorded:
        return [] if re.fullmatch(".*".join(map(re.escape, recorded.split(ANY))), got) else [f"{path}: {got!r}"]
    return [] if recorded == got or same_amount(recorded, got) else [f"{path}: {got!r}, recorded {recorded!r}"]


def same_amount(first: Any, second: Any) -> bool:
    try:
        return isinstance(first, str) and isinstance(second, str) and parse_quantity(first) == parse_quantity(second)
    except ValueError:
        return False


@pytest.mark.parametrize("case", load("creates"), ids=lambda c: c["name"])
def test_created_object_has_every_recorded_field(case: dict[str, Any]) -> None:
    obj = created(case)
    assert [str(cause) for cause in strategy.validate_create(obj)] == []
    assert missing(case["response"], codec.to_dict(obj)) == []


@pytest.mark.parametrize("case", load("creates"), ids=lambda c: c["name"])
def test_defaulting_twice_changes_nothing(case: dict[str, Any]) -> None:
    obj: Any = codec.from_dict(case["request"])
    strategy.default(obj)
    once = codec.to_dict(obj)
    strategy.default(obj)
    assert codec.to_dict(obj) == once


@pytest.mark.parametrize("case", load("invalid"), ids=lambda c: c["name"])
def test_refusal_names_the_recorded_fields(case: dict[str, Any]) -> None:
    causes = strategy.validate_create(created(case))
    assert {(c.field, c.type) for c in causes} == {
        (cause["field"], cause["reason"]) for cause in case["status"]["details"]["causes"]
    }
