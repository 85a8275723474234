from __future__ import annotations

import pytest

from services.apiserver.fronts.http import content, discovery
from services.apiserver.fronts.http.content import Accept, accepted
from services.apiserver.fronts.http.paths import flag, number, resource_path, split
from services.apiserver.registry.context import Context
from services.apiserver.registry.registry import Target
from tillerman.api import envelope
from tillerman.api.scheme import SCHEME
from tillerman.api.status import StatusError, no_such_path, not_found
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import meta_v1_pb2 as meta

POD = ("v1", "Pod")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/pods", Target("v1", "pods")),
        ("/api/v1/namespaces/a/pods/b", Target("v1", "pods", "a", "b")),
        ("/api/v1/namespaces/a/pods/b/log?follow=true", Target("v1", "pods", "a", "b", "log")),
        ("/api/v1/namespaces", Target("v1", "namespaces")),
        ("/api/v1/namespaces/a", Target("v1", "namespaces", "", "a")),
        ("/api/v1/namespaces/a/finalize", Target("v1", "namespaces", "", "a", "finalize")),
        ("/api/v1/namespaces/a/status", Target("v1", "namespaces", "", "a", "status")),
        ("/apis/apps/v1/namespaces/a/deployments/b/scale", Target("apps/v1", "deployments", "a", "b", "scale")),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/x%3Ay",
            Target("rbac.authorization.k8s.io/v1", "clusterroles", "", "x:y"),
        ),
    ],
)
def test_paths(path: str, target: Target) -> None:
    assert resource_path(split(path)).target == target


@pytest.mark.parametrize("path", ["/api/v1", "/apis/apps/v1", "/other/v1/pods"])
def test_paths_of_no_resource(path: str) -> None:
    with pytest.raises(StatusError) as caught:
        resource_path(split(path))
    assert caught.value.code == 404


def test_query_values() -> None:
    assert flag({"watch": "1"}, "watch") and not flag({}, "watch")
    assert number({"limit": "5"}, "limit") == 5 and number({}, "limit") is None
    for text in ("many", "", "1.5"):
        with pytest.raises(StatusError) as caught:
            number({"x": text}, "x")
        assert caught.value.code == 400


@pytest.mark.parametrize(("value", "meant"), [("0", False), ("False", False), ("", True), ("maybe", True), ("1", True)])
def test_whatever_does_not_say_no_means_yes(value: str, meant: bool) -> None:
    assert flag({"watch": value}, "watch") is meant


@pytest.mark.parametrize("body", [b"null", b"{}"])
def test_a_body_that_says_nothing_is_an_empty_object(body: bytes) -> None:
    assert not content.decode(body, content.JSON, ("v1", "ConfigMap"), Context()).ListFields()


def test_a_body_that_is_no_object_is_quoted_as_it_came() -> None:
    with pytest.raises(StatusError) as caught:
        content.decode(b"- a", content.YAML, ("v1", "ConfigMap"), Context())
    assert caught.value.message.endswith('Kind string "json:\\"kind,omitempty\\"" } (2d2061)')


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", Accept()),
        ("*/*", Accept()),
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Accept("application/json", "Table", "v1", "meta.k8s.io"),
        ),
        ("application/json;as=Table;v=v1alpha1;g=meta.k8s.io,application/json", Accept()),
        ("application/vnd.kubernetes.protobuf, application/json", Accept("application/vnd.kubernetes.protobuf")),
        ("text/plain, application/yaml", Accept("application/yaml")),
        (
            "application/yaml;as=Table;v=v1;g=meta.k8s.io",
            Accept("application/yaml", "Table", "v1", "meta.k8s.io"),
        ),
        ("application/json;as=Table;v=v1, */*", Accept()),
    ],
)
def test_accept(header: str, found: Accept) -> None:
    assert accepted(header, shapes=("Table",)) == found


def test_accept_of_nothing_that_is_served() -> None:
    with pytest.raises(StatusError) as caught:
        accepted("text/html")
    assert caught.value.code == 406
    with pytest.raises(StatusError) as caught:
        accepted("application/yaml", yaml=False)
    assert caught.value.code == 406


def test_the_options_of_a_delete_are_an_envelope_in_protobuf() -> None:
    packed = envelope.wrap("v1", "DeleteOptions", meta.DeleteOptions(gracePeriodSeconds=3).SerializeToString())
    assert content.delete_options(packed, content.PROTOBUF).gracePeriodSeconds == 3
    with pytest.raises(StatusError) as caught:
        content.delete_options(b"junk", content.PROTOBUF)
    assert caught.value.reason == "BadRequest"


def test_bodies_in_json_yaml_and_protobuf() -> None:
    context = Context(field_validation="Strict")
    pod = core.Pod()
    pod.metadata.name = "p"
    packed = envelope.wrap("v1", "Pod", pod.SerializeToString())
    assert content.decode(b'{"metadata":{"name":"p"}}', "application/json", POD, context) == pod
    assert content.decode(b"metadata:\n  name: p\n", "application/yaml", POD, context) == pod
    assert content.decode(packed, "application/vnd.kubernetes.protobuf", POD, context) == pod


def test_an_eviction_may_still_come_as_v1beta1() -> None:
    body = b'{"kind":"Eviction","apiVersion":"policy/v1beta1","metadata":{"name":"p"}}'
    found = content.decode(body, "application/json", ("policy/v1", "Eviction"), Context(field_validation="Strict"))
    assert found.metadata.name == "p"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"kind":"Pod","apiVersion":"v1","spce":{}}',
            'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spce"',
        ),
        (
            b'{"kind":"Pod","apiVersion":"v2"}',
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
    ],
)
def test_refused_bodies(body: bytes, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        content.decode(body, "application/json", POD, Context(field_validation="Strict"))
    assert (caught.value.code, caught.value.message) == (400, message)


def test_warnings_of_unknown_fields() -> None:
    context = Context(field_validation="Warn")
    content.decode(b'{"spce":{}}', "application/json", POD, context)
    assert context.warnings == ['unknown field "spce"']


def test_delete_options() -> None:
    options = content.delete_options(b'{"kind":"DeleteOptions","propagationPolicy":"Background"}', "application/json")
    assert options.propagationPolicy == "Background"
    assert not content.delete_options(b"", "").HasField("gracePeriodSeconds")


def test_subresources_of_pods() -> None:
    listed = {sub.name: sub for sub in discovery.subresources(SCHEME.lookup("pods"))}
    assert listed["pods/eviction"].group_version == "policy/v1"
    assert listed["pods/exec"].verbs == ("create", "get")
    assert listed["pods/proxy"].kind == "PodProxyOptions"
    assert listed["pods/proxy"].verbs == ("create", "delete", "get", "patch", "update")


@pytest.mark.parametrize(
    ("api_version", "plain"), [("v1", False), ("apps/v9", False), ("metrics.k8s.io/v1", False), ("none.io/v1", True)]
)
def test_paths_of_nobodys_groups_lead_to_no_page(api_version: str, plain: bool) -> None:
    answer = content.refusal_of(no_such_path(), api_version)
    assert answer.code == 404 and (answer.body == b"404 page not found\n") is plain
    assert b"NotFound" in content.refusal_of(not_found("gadgets", "x", "none.io"), api_version).body
