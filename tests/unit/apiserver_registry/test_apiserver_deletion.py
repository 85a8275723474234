"""What a delete does to an object, by Kubernetes' rules, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver.auth.rbac import covers
from services.apiserver.cache.hub import CacheHub
from services.apiserver.registry.deletion import check_options, check_preconditions, plan
from services.apiserver.registry.identity import generate_name
from services.apiserver.registry.reading import decode_continue, encode_continue
from services.apiserver.registry.registry import Target
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.writing import removes
from tillerman.api.scheme import SCHEME
from tillerman.api.status import StatusError
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import meta_v1_pb2 as meta
from tillerman.pb.k8s import rbac_v1_pb2 as rbac


def resource(api_version: str, name: str) -> Resource:
    return Resource(SCHEME.by_resource(api_version, name), CacheHub())


PODS, MAPS, NAMESPACES = resource("v1", "pods"), resource("v1", "configmaps"), resource("v1", "namespaces")


def pod(node: str = "n1", phase: str = "Running", grace: int | None = None) -> core.Pod:
    obj = core.Pod()
    obj.spec.nodeName = node
    obj.status.phase = phase
    if grace is not None:
        obj.spec.terminationGracePeriodSeconds = grace
    return obj


@pytest.mark.parametrize(
    ("obj", "asked", "at_once", "period"),
    [
        (pod(), None, False, 30),
        (pod(grace=7), None, False, 7),
        (pod(), 3, False, 3),
        (pod(), 0, True, None),
        (pod(), -1, False, 1),
        (pod(node=""), 60, True, None),
        (pod(phase="Failed"), None, True, None),
        (pod(phase="Succeeded"), 10, True, None),
    ],
)
def test_a_pod_gets_its_grace(obj: core.Pod, asked: int | None, at_once: bool, period: int | None) -> None:
    options = meta.DeleteOptions()
    if asked is not None:
        options.gracePeriodSeconds = asked
    assert plan(PODS, obj, options) is at_once
    if period is not None:
        assert obj.metadata.deletionGracePeriodSeconds == period and obj.metadata.HasField("deletionTimestamp")


def test_a_second_delete_only_shortens_the_grace() -> None:
    obj = pod()
    plan(PODS, obj, meta.DeleteOptions(gracePeriodSeconds=30))
    when = obj.metadata.deletionTimestamp.seconds
    assert plan(PODS, obj, meta.DeleteOptions(gracePeriodSeconds=60)) is False
    assert obj.metadata.deletionGracePeriodSeconds == 30
    assert plan(PODS, obj, meta.DeleteOptions(gracePeriodSeconds=5)) is False
    assert obj.metadata.deletionGracePeriodSeconds == 5 and obj.metadata.deletionTimestamp.seconds == when - 25
    assert plan(PODS, obj, meta.DeleteOptions(gracePeriodSeconds=-1)) is False
    assert obj.metadata.deletionGracePeriodSeconds == 1
    assert plan(PODS, obj, meta.DeleteOptions(gracePeriodSeconds=0)) is True


@pytest.mark.parametrize(
    ("policy", "before", "after"),
    [
        ("Orphan", [], ["orphan"]),
        ("Foreground", [], ["foregroundDeletion"]),
        ("Background", ["orphan", "x"], ["x"]),
        ("Orphan", ["foregroundDeletion"], ["orphan"]),
        ("", ["orphan"], ["orphan"]),
        ("", ["x"], ["x"]),
    ],
)
def test_propagation_becomes_finalizers(policy: str, before: list[str], after: list[str]) -> None:
    obj = core.ConfigMap()
    obj.metadata.finalizers.extend(before)
    options = meta.DeleteOptions()
    if policy:
        options.propagationPolicy = policy
    assert plan(MAPS, obj, options) is False
    assert list(obj.metadata.finalizers) == after
    assert obj.metadata.HasField("deletionTimestamp") and obj.metadata.deletionGracePeriodSeconds == 0


def test_nothing_holds_a_plain_object() -> None:
    assert plan(MAPS, core.ConfigMap(), meta.DeleteOptions()) is True


def test_a_namespace_waits_for_its_finalizers() -> None:
    obj = core.Namespace()
    obj.spec.finalizers.append("kubernetes")
    assert plan(NAMESPACES, obj, meta.DeleteOptions()) is False
    assert obj.status.phase == "Terminating"
    done = core.Namespace()
    done.CopyFrom(obj)
    del done.spec.finalizers[:]
    assert removes(NAMESPACES, done, obj) and not removes(NAMESPACES, obj, obj)


def test_bad_options_are_refused() -> None:
    for options in (
        meta.DeleteOptions(propagationPolicy="Sideways"),
        meta.DeleteOptions(propagationPolicy=""),
        meta.DeleteOptions(propagationPolicy="Orphan", orphanDependents=True),
        meta.DeleteOptions(dryRun=["Some"]),
    ):
        with pytest.raises(StatusError) as caught:
            check_options(options)
        assert caught.value.reason == "Invalid"


def test_a_dry_run_may_be_asked_for_twice() -> None:
    check_options(meta.DeleteOptions(dryRun=["All", "All"]))


def test_continue_tokens() -> None:
    assert decode_continue(encode_continue(7, "ns/name")) == (7, "ns/name\0")
    for bad in (
        "",
        "x",
        "###",
        "e30",
        encode_continue(0, "a"),
        encode_continue(3, "../../a"),
        encode_continue(3, "./a"),
    ):
        with pytest.raises(StatusError):
            decode_continue(bad)


def test_generated_names_are_short_and_different() -> None:
    made = {generate_name("x" * 80) for _ in range(50)}
    assert len(made) == 50 and all(len(name) == 63 for name in made)


@pytest.mark.parametrize(
    ("rule", "verb", "target", "expected"),
    [
        (({"get"}, {""}, {"pods"}, set()), "get", Target("v1", "pods"), True),
        (({"get"}, {""}, {"pods"}, set()), "list", Target("v1", "pods"), False),
        (({"get"}, {""}, {"pods"}, set()), "get", Target("v1", "pods", "n", "p", "log"), False),
        (({"get"}, {""}, {"pods/log"}, set()), "get", Target("v1", "pods", "n", "p", "log"), True),
        (({"get"}, {""}, {"*/log"}, set()), "get", Target("v1", "pods", "n", "p", "log"), True),
        (({"*"}, {"*"}, {"*"}, set()), "delete", Target("apps/v1", "deployments"), True),
        (({"get"}, {"apps"}, {"pods"}, set()), "get", Target("v1", "pods"), False),
        (({"get"}, {""}, {"pods"}, {"a"}), "get", Target("v1", "pods", "n", "a"), True),
        (({"get"}, {""}, {"pods"}, {"a"}), "get", Target("v1", "pods", "n", "b"), False),
    ],
)
def test_policy_rules(rule: Any, verb: str, target: Target, expected: bool) -> None:
    verbs, groups, resources, names = rule
    message = rbac.PolicyRule(verbs=verbs, apiGroups=groups, resources=resources, resourceNames=names)
    assert bool(covers(message, verb, target)) is expected


@pytest.mark.parametrize(
    ("of", "wanted", "message"),
    [
        (
            PODS,
            {"uid": "u2"},
            'Operation cannot be fulfilled on Pod "x": the UID in the precondition (u2) does not match the UID in '
            "record (u1). The object might have been deleted and then recreated",
        ),
        (
            resource("apps/v1", "deployments"),
            {"uid": "u1", "resourceVersion": "6"},
            'Operation cannot be fulfilled on Deployment.apps "x": the ResourceVersion in the precondition (6) does '
            "not match the ResourceVersion in record (7). The object might have been modified",
        ),
        (
            NAMESPACES,
            {"uid": "u2"},
            'Operation cannot be fulfilled on namespaces "x": Precondition failed: UID in precondition: u2, UID in '
            "object meta: u1",
        ),
    ],
)
def test_preconditions(of: Resource, wanted: dict[str, str], message: str) -> None:
    obj = of.new()
    obj.metadata.name, obj.metadata.uid, obj.metadata.resourceVersion = "x", "u1", "7"
    check_preconditions(of, obj, meta.DeleteOptions(preconditions=meta.Preconditions(uid="u1", resourceVersion="7")))
    with pytest.raises(StatusError) as caught:
        check_preconditions(of, obj, meta.DeleteOptions(preconditions=meta.Preconditions(**wanted)))
    assert (caught.value.reason, caught.value.message) == ("Conflict", message)
