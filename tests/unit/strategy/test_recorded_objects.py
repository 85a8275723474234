"""Defaults and refusals against the answers of a real kube-apiserver.

What admission and allocation add (tolerations, priorities, protection finalizers, addresses) is other modules' work.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from services.apiserver import strategy
from tillerman.api import codec
from tillerman.api.quantity import parse_quantity

FIXTURES = Path(__file__).parents[2] / "fixtures" / "golden"
ANY = "<any>"
OTHERS_WORK = re.compile(
    r"\.spec\.(tolerations|priority|preemptionPolicy|taints|clusterIPs?\b|healthCheckNodePort)|\.nodePort"
    r"|\.metadata\.(finalizers|managedFields|resourceVersion)"
)


def load(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(gzip.decompress((FIXTURES / f"{name}.json.gz").read_bytes()))
    return cases


def created(case: dict[str, Any]) -> Any:
    """The object as the registry would hand it to validation."""
    obj: Any = codec.from_dict(case["request"])
    strategy.default(obj)
    if case["namespace"]:
        obj.metadata.namespace = case["namespace"]
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
    assert {(c.field, c.type) for c in causes} == {tuple(pair) for pair in case["causes"]}
