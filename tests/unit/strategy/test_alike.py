"""Rules' outcomes are remembered for pods that are alike, and only where that cannot be seen."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver import strategy
from services.apiserver.cache.hub import CacheHub
from services.apiserver.registry import managed
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.resource import Resource
from services.apiserver.strategy import alike, defaulting
from services.apiserver.strategy.alike import Alike, content_of
from tillerman.api.scheme import SCHEME
from tillerman.pb.k8s import core_v1_pb2 as core


def pod(name: str, image: str = "web:1") -> core.Pod:
    made = core.Pod()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.metadata.labels["app"] = "web"
    made.spec.containers.add(name="web", image=image)
    made.spec.serviceAccountName = "default"
    return made


def test_content_leaves_out_only_what_is_each_objects_own() -> None:
    one, two = pod("one"), pod("two")
    two.metadata.uid, two.metadata.creationTimestamp.seconds = "u", 7
    assert content_of(one) == content_of(two)
    labelled, owned = pod("one"), pod("one")
    labelled.metadata.labels["n"] = "1"
    owned.metadata.ownerReferences.add(name="owner")
    for other in (pod("one", "web:2"), labelled, owned):
        assert content_of(other) != content_of(one)


def test_a_remembered_default_is_what_the_rules_make() -> None:
    for name, image in (("a", "x"), ("b", "x"), ("c", "y:1"), ("d", "y:1")):
        one, two = pod(name, image), pod(name, image)
        strategy.default(one)
        defaulting.apply(two)
        assert one == two


def test_the_second_pod_is_prepared_as_the_first() -> None:
    made = []
    for name in ("a", "b"):
        each = pod(name)
        strategy.default(each)
        prepared = strategy.prepare_for_create(each)
        assert prepared is not None
        assert strategy.validate_create(each, prepared) == []
        each.metadata.ClearField("name")
        made.append(each)
    assert made[0] == made[1]
    assert made[1].status.phase == "Pending"


def refusals(made: core.Pod) -> list[str]:
    strategy.default(made)
    return [cause.field for cause in strategy.validate_create(made, strategy.prepare_for_create(made))]


def test_refusals_and_names_are_never_remembered() -> None:
    assert refusals(pod("good")) == []
    assert refusals(pod("Bad_Name")) == ["metadata.name"]
    for _ in range(2):
        assert refusals(pod("bad", "")) == ["spec.containers[0].image"]
    assert refusals(pod("good-again")) == []


def test_a_rule_that_touches_metadata_runs_every_time() -> None:
    remembered, runs = Alike(), []

    def label(obj: Any) -> None:
        runs.append(obj.metadata.name)
        obj.metadata.labels["name"] = obj.metadata.name

    for name in ("a", "b"):
        each = pod(name)
        remembered.change(each, label)
        assert each.metadata.labels["name"] == name
    assert runs == ["a", "b"]


def test_a_second_pod_of_the_same_manager_has_the_same_record() -> None:
    resource = Resource(SCHEME.by_resource("v1", "pods"), CacheHub())
    records = {}
    for name, manager in (("a", "kubectl"), ("b", "kubectl"), ("c", "other")):
        made = pod(name)
        managed.track(resource, made, None, Context(User("alice"), field_manager=manager))
        (entry,) = made.metadata.managedFields
        assert entry.manager == manager and entry.HasField("time")
        records[name] = entry.fieldsV1
    assert records["a"] == records["b"] == records["c"]
    assert b"f:app" in records["a"].Raw


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "OUTCOMES", 3)
    remembered = Alike()
    contents = [content_of(pod("a", f"web:{i}")) for i in range(5)]
    for content in contents:
        remembered.remember(content)
    assert [remembered.known(c) is not None for c in contents] == [False, False, True, True, True]
    large = pod("a")
    large.metadata.annotations["x"] = "x" * alike.CONTENT_BYTES
    assert content_of(large) is None
