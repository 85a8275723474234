"""What lists, watches and deletions pick, and the forms in which they answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from api_calls import MERGE_PATCH, YAML, Http, path_of

from tillerman.api.manifest import parse_document
from tillerman.api.scheme import SCHEME

PODS, MAPS = SCHEME.by_resource("v1", "pods"), SCHEME.by_resource("v1", "configmaps")
TABLE = "as=Table;v=v1;g=meta.k8s.io"


@pytest.fixture
def maps(http: Http) -> Iterator[list[str]]:
    names = [f"chosen-{n}" for n in range(3)]
    for name in names:
        body: dict[str, Any] = {"metadata": {"name": name, "labels": {"chosen": "yes"}}}
        http.must("POST", path_of(MAPS), body)
    yield names
    http.must("DELETE", path_of(MAPS), labelSelector="chosen=yes")
    for name in names:
        http("PATCH", path_of(MAPS, name), {"metadata": {"finalizers": None}}, content_type=MERGE_PATCH)


def listed(http: Http, **query: str | int) -> list[str]:
    return [item["metadata"]["name"] for item in http.must("GET", path_of(MAPS), **query)["items"]]


def test_an_object_has_one_name(http: Http, maps: list[str]) -> None:
    one, other, _ = maps
    assert listed(http, fieldSelector=f"metadata.name={one}") == [one]
    assert listed(http, fieldSelector=f"metadata.name={one},metadata.name={other}") == []


def test_a_token_goes_on_in_the_namespace_that_is_asked_for(http: Http, maps: list[str]) -> None:
    token = http.must("GET", path_of(MAPS), labelSelector="chosen", limit=1)["metadata"]["continue"]
    assert listed(http, labelSelector="chosen", **{"continue": token}) == maps[1:]
    elsewhere = path_of(MAPS, namespace="nonesuch")
    assert http.must("GET", elsewhere, **{"continue": token})["items"] == []


def test_tables_in_yaml(http: Http, maps: list[str]) -> None:
    for path, rows in ((path_of(MAPS, maps[0]), 1), (path_of(MAPS) + "?labelSelector=chosen", 3)):
        answer = http("GET", path, accept=f"{YAML};{TABLE}")
        assert answer.code == 200 and answer.headers["Content-Type"] == YAML
        table, _ = parse_document(answer.raw)
        assert table["kind"] == "Table" and len(table["rows"]) == rows
    assert http("GET", path_of(MAPS), accept=YAML, watch=1, timeoutSeconds=1).code == 406


def test_a_watch_waits_for_the_revision_that_it_names(http: Http, maps: list[str]) -> None:
    now = int(http.must("GET", path_of(MAPS))["metadata"]["resourceVersion"])
    query: dict[str, str | int] = {"labelSelector": "chosen", "timeoutSeconds": 1, "allowWatchBookmarks": "true"}
    assert http.events(path_of(MAPS), 1, resourceVersion=now + 1_000_000, **query) == []


def test_the_options_of_a_delete_are_the_bodys_or_the_querys(http: Http, maps: list[str]) -> None:
    whole, held, _ = maps
    http.must("DELETE", path_of(MAPS, whole), {"kind": "DeleteOptions"}, propagationPolicy="Nonesuch")
    assert http("GET", path_of(MAPS, whole)).code == 404
    http.must("PATCH", path_of(MAPS, held), {"metadata": {"finalizers": ["a.b/c"]}}, content_type=MERGE_PATCH)
    assert http("DELETE", path_of(MAPS, held), orphanDependents="false").code == 202
    assert http("DELETE", path_of(MAPS, held), propagationPolicy="Background").code == 200


def test_the_end_of_a_pod_that_was_marked_is_one_event(http: Http) -> None:
    path = path_of(PODS, "marked")
    spec = {"nodeName": "nowhere", "containers": [{"name": "c", "image": "i"}]}
    http.must("POST", path_of(PODS), {"metadata": {"name": "marked"}, "spec": spec})
    held = http.must("DELETE", path, gracePeriodSeconds=0, propagationPolicy="Foreground")["metadata"]
    added = http("PATCH", path, {"metadata": {"finalizers": ["a.b/z", "a.b/y"]}}, content_type=MERGE_PATCH)
    assert added.code == 422 and added.content["message"].endswith('found new finalizers []string{"a.b/y", "a.b/z"}')
    assert http.must("DELETE", path, propagationPolicy="Background")["metadata"]["finalizers"] == held["finalizers"]
    (event,) = http.events(path_of(PODS), 1, resourceVersion=held["resourceVersion"], timeoutSeconds=2)
    assert event["type"] == "DELETED"


def test_the_end_of_a_namespace_is_answered_with_the_namespace(http: Http) -> None:
    path = "/api/v1/namespaces/ending"
    http.must("POST", "/api/v1/namespaces", {"metadata": {"name": "ending"}})
    http.must("PUT", f"{path}/finalize", {"metadata": {"name": "ending"}})
    for _ in ("marked", "removed"):
        assert http.must("DELETE", path)["kind"] == "Namespace"
    assert http("GET", path).code == 404
