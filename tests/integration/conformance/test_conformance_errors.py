"""Every error on every stored kind, over HTTP and, where it has a form of its own, over gRPC."""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_calls import JSON_PATCH, MERGE_PATCH, PROTOBUF, STRATEGIC, YAML, Grpc, Http, path_of
from minimal_manifests import manifest, real_name, stored_kinds

from tillerman.api.scheme import ResourceInfo
from tillerman.pb.api import objects_pb2 as pb

every_kind = pytest.mark.parametrize("info", stored_kinds(), ids=lambda info: f"{info.resource}.{info.api_version}")


def stored_as(info: ResourceInfo) -> str:
    """What refusals call the resource: Events of both groups are core's."""
    return "events" if info.resource == "events" else info.group_resource


@every_kind
def test_not_found(info: ResourceInfo, http: Http, grpc_front: Grpc) -> None:
    path = path_of(info, "nonesuch")
    group_resource = stored_as(info)
    for method, body, kind in (
        ("GET", None, ""),
        ("DELETE", None, ""),
        ("PATCH", {"metadata": {"labels": {"a": "b"}}}, MERGE_PATCH),
        ("PATCH", [], JSON_PATCH),
        ("PATCH", {}, STRATEGIC),
    ):
        answer = http(method, path, body, content_type=kind)
        assert (answer.code, answer.reason) == (404, "NotFound"), f"{method}: {answer.raw!r}"
        assert answer.content["message"] == f'{group_resource} "nonesuch" not found'
        assert answer.content["details"]["name"] == "nonesuch"
    target = grpc_front.target(info, "nonesuch")
    for name, request in (
        ("Get", pb.GetRequest(target=target)),
        ("Delete", pb.DeleteRequest(target=target)),
        ("Patch", pb.PatchRequest(target=target, patch_type=MERGE_PATCH, patch=b"{}")),
    ):
        assert grpc_front.code(name, request).name == "NOT_FOUND"
    assert http("GET", path_of(info, "nonesuch", "nonesuch")).code == 404


@every_kind
def test_refused_writes(info: ResourceInfo, http: Http, grpc_front: Grpc) -> None:
    mark = f"{info.resource[:20]}-{info.version}{'e' if info.group.startswith('events') else ''}-err"
    name = real_name(info, mark)
    path, collection = path_of(info, name), path_of(info)
    body = manifest(info, mark)
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    assert http("POST", f"{collection}?includeObject=All", body, accept=table).code == 400
    # What cannot be answered is not stored either.
    made = http.must("POST", collection, body)

    twice = http("POST", collection, body)
    assert (twice.code, twice.reason) == (409, "AlreadyExists"), twice.raw
    assert twice.content["message"] == f'{stored_as(info)} "{name}" already exists'
    request = grpc_front.packed(pb.CreateRequest(target=grpc_front.target(info)), body, info)
    assert grpc_front.code("Create", request).name == "ALREADY_EXISTS"

    changed = http.must("PATCH", path, {"metadata": {"labels": {"e": "1"}}}, content_type=MERGE_PATCH)
    stale = http("PUT", path, {**made, "metadata": {**made["metadata"], "labels": {"e": "2"}}})
    assert (stale.code, stale.reason) == (409, "Conflict"), stale.raw
    assert "the object has been modified" in stale.content["message"]
    request = grpc_front.packed(pb.UpdateRequest(target=grpc_front.target(info, name)), made, info)
    assert grpc_front.code("Update", request).name == "ABORTED"
    other_uid = {**changed, "metadata": {**changed["metadata"], "uid": "00000000-0000-0000-0000-000000000000"}}
    assert http("PUT", path, other_uid).code == 409

    refused: list[tuple[str, str, Any, int, str]] = [
        (
            "the name differs",
            "PUT",
            {**changed, "metadata": {**changed["metadata"], "name": "other"}},
            400,
            "BadRequest",
        ),
        ("a resourceVersion", "POST", {**body, "metadata": {"name": "n", "resourceVersion": "1"}}, 400, "BadRequest"),
        ("another kind", "POST", {**body, "kind": "Nonesuch"}, 400, "BadRequest"),
        ("another version", "POST", {**body, "apiVersion": "nonesuch/v1"}, 400, "BadRequest"),
        ("no object", "POST", [], 400, "BadRequest"),
        ("no JSON", "POST", b"{", 400, "BadRequest"),
        ("a wrong type", "POST", {**body, "metadata": {"name": 5}}, 400, "BadRequest"),
        ("no protobuf", "POST", b"k8s\0\xff", 400, "BadRequest"),
    ]
    if info.namespaced:
        elsewhere = {**body, "metadata": {"name": "n", "namespace": "elsewhere"}}
        refused.append(("the namespace differs", "POST", elsewhere, 400, "BadRequest"))
    for what, method, content, code, reason in refused:
        kind = PROTOBUF if isinstance(content, bytes) and content.startswith(b"k8s") else "application/json"
        answer = http(method, path if method == "PUT" else collection, content, content_type=kind)
        assert (answer.code, answer.reason) == (code, reason), f"{what}: {answer.raw!r}"

    request = grpc_front.as_json(pb.CreateRequest(target=grpc_front.target(info)), {**body, "metadata": {"name": 5}})
    assert grpc_front.code("Create", request).name == "INVALID_ARGUMENT"
    answer = http("POST", collection, {**body, "metadata": {"name": "x/y"}})
    assert (answer.code, answer.reason) == (422, "Invalid") and "metadata.name" in answer.fields, answer.raw
    answer = http("POST", collection, {**body, "metadata": {}})
    assert (answer.code, answer.reason) == (422, "Invalid") and "metadata.name" in answer.fields, answer.raw
    labels = {**body, "metadata": {"name": "n", "labels": {"a b": "c"}}}
    answer = http("POST", collection, labels)
    assert answer.code == 422 and "metadata.labels" in answer.fields, answer.raw
    unknown = {**body, "nonesuch": 1}
    answer = http("POST", collection, unknown, fieldValidation="Strict")
    assert answer.code == 400 and 'unknown field "nonesuch"' in answer.content["message"]
    warned = http("PUT", path, {**changed, "nonesuch": 1}, fieldValidation="Warn")
    assert warned.code == 200 and 'unknown field \\"nonesuch\\"' in warned.headers["Warning"]

    http("DELETE", path, gracePeriodSeconds=0)
    if info.kind == "Namespace":
        found = http.must("GET", path)
        http("PUT", f"{path}/finalize", {**found, "spec": {"finalizers": []}})
    http("PATCH", path, {"metadata": {"finalizers": None}}, content_type=MERGE_PATCH)


@every_kind
def test_refused_requests(info: ResourceInfo, http: Http, grpc_front: Grpc) -> None:
    path, collection = path_of(info, "nonesuch"), path_of(info)
    cases: list[tuple[int, str, str, str, Any, dict[str, Any]]] = [
        (405, "MethodNotAllowed", "PUT", collection, {}, {}),
        (405, "MethodNotAllowed", "PATCH", collection, {}, {"content_type": MERGE_PATCH}),
        (405, "MethodNotAllowed", "POST", path, {}, {}),
        (415, "UnsupportedMediaType", "POST", collection, b"x", {"content_type": "text/plain"}),
        (406, "NotAcceptable", "GET", collection, None, {"accept": "text/html"}),
        (400, "BadRequest", "GET", collection, None, {"labelSelector": "a in ("}),
        (400, "BadRequest", "GET", collection, None, {"fieldSelector": "nonesuch=1"}),
        (400, "BadRequest", "GET", collection, None, {"limit": "x"}),
        (400, "BadRequest", "GET", collection, None, {"continue": "x"}),
        (422, "Invalid", "GET", collection, None, {"resourceVersion": "1", "resourceVersionMatch": "x"}),
        (422, "Invalid", "POST", collection, {}, {"dryRun": "x"}),
        (422, "Invalid", "POST", collection, {}, {"fieldValidation": "x"}),
    ]
    for code, reason, method, where, body, options in cases:
        answer = http(method, where, body, **options)
        assert (answer.code, answer.reason) == (code, reason), f"{method} {where} {options}: {answer.raw!r}"
        assert answer.content["kind"] == "Status" and answer.content["code"] == code
    target = grpc_front.target(info)
    for request in (
        pb.ListRequest(target=target, label_selector="a in ("),
        pb.ListRequest(target=target, field_selector="nonesuch=1"),
        pb.ListRequest(target=target, continue_token="x"),
        pb.ListRequest(target=target, resource_version="1", resource_version_match="x"),
    ):
        assert grpc_front.code("List", request).name == "INVALID_ARGUMENT"


def test_too_old_and_too_new_revisions(http: Http, grpc_front: Grpc) -> None:
    """410 and 504: what etcd no longer has, or does not have yet."""
    info = next(info for info in stored_kinds() if info.kind == "ConfigMap")
    answer = http("GET", path_of(info), resourceVersion=2**40)
    assert answer.code == 504 and answer.reason == "Timeout"
    assert answer.content["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    request = pb.ListRequest(target=grpc_front.target(info), resource_version=str(2**40))
    assert grpc_front.code("List", request).name == "DEADLINE_EXCEEDED"


def test_too_large_objects(http: Http, grpc_front: Grpc) -> None:
    info = next(info for info in stored_kinds() if info.kind == "ConfigMap")
    body = manifest(info, "large")
    body["data"] = {"a": "x" * 1_700_000}
    answer = http("POST", path_of(info), body)
    assert answer.code in (413, 422), answer.raw[:500]
    answer = http("POST", path_of(info), json.dumps(body).encode() + b" " * 2_000_000)
    assert answer.code == 413 and answer.reason == "RequestEntityTooLarge"
    request = grpc_front.packed(pb.CreateRequest(target=grpc_front.target(info)), body, info)
    assert grpc_front.code("Create", request).name in ("FAILED_PRECONDITION", "INVALID_ARGUMENT")
    assert http("GET", path_of(info, "large")).code == 404


def test_paths_that_are_nobodys(http: Http) -> None:
    for path in ("/api/v1/nonesuch", "/apis/nonesuch/v1/a", "/apis/apps/v1beta1/deployments", "/nonesuch"):
        assert http("GET", path).code == 404
    assert http("GET", "/api/v1/namespaces/conformance/configmaps", accept=YAML).code == 200
