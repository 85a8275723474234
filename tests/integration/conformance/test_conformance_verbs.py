"""Every verb on every stored kind."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from api_calls import (
    APPLY,
    JSON_PATCH,
    MERGE_PATCH,
    NAMESPACE,
    PROTOBUF,
    STRATEGIC,
    YAML,
    Grpc,
    Http,
    delete_options,
    path_of,
)
from minimal_manifests import GENERATIONS, STATUS, manifest, real_name, stored_kinds
from real_apiserver import Etcd

from tests.integration.etcd_decoder import decode_all
from tests.integration.etcd_reading import stored_pairs
from tillerman.api.scheme import ResourceInfo
from tillerman.api.status import StatusError
from tillerman.pb.api import objects_pb2 as pb

UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
every_kind = pytest.mark.parametrize("info", stored_kinds(), ids=lambda info: f"{info.resource}.{info.api_version}")


def with_status() -> list[ResourceInfo]:
    return [info for info in stored_kinds() if "status" in info.subresources]


def mark(info: ResourceInfo) -> str:
    """A name for the objects of one kind's tests."""
    return f"{info.resource[:20]}-{info.version}{'e' if info.group.startswith('events') else ''}"


def create(http: Http, info: ResourceInfo, name: str, **labels: str) -> dict[str, Any]:
    """The object as it is once nobody else writes it any more."""
    body = manifest(info, name, **labels)
    made = http.must("POST", path_of(info), body, fieldManager="m")
    return settled(http, info, made) if info.kind == "CustomResourceDefinition" else made


def settled(http: Http, info: ResourceInfo, definition: dict[str, Any]) -> dict[str, Any]:
    """A definition that has been brought into force."""
    while True:
        conditions = definition["status"].get("conditions") or ()
        if {"Established", "NamesAccepted"} <= {c["type"] for c in conditions if c["status"] == "True"}:
            return definition
        definition = http.must("GET", path_of(info, definition["metadata"]["name"]))


def remove(http: Http, info: ResourceInfo, name: str) -> None:
    """Deletes an object, with what it waits for."""
    path = path_of(info, name)
    http("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})
    if http("GET", path).code == 200:
        http("PATCH", path, {"metadata": {"finalizers": None}}, content_type=MERGE_PATCH)
    if info.kind == "Namespace" and (found := http("GET", path)).code == 200:
        http("PUT", f"{path}/finalize", {**found.content, "spec": {"finalizers": []}})
    assert http("GET", path).code == 404


@every_kind
def test_create_get_list_watch_update_delete(info: ResourceInfo, http: Http) -> None:
    name = real_name(info, f"{mark(info)}-crud")
    path, collection = path_of(info, name), path_of(info)
    start = http.must("GET", collection, limit=1)["metadata"]["resourceVersion"]
    made = create(http, info, f"{mark(info)}-crud", crud="x")
    meta = made["metadata"]
    assert (made["apiVersion"], made["kind"]) == (info.api_version, info.kind)
    assert meta["name"] == name and meta.get("namespace", "") == (NAMESPACE if info.namespaced else "")
    assert UID.fullmatch(meta["uid"]) and meta["resourceVersion"].isdecimal() and "selfLink" not in meta
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
    assert ("m", "Update") in [(entry["manager"], entry["operation"]) for entry in meta["managedFields"]]

    assert http.must("GET", path) == made
    assert http.must("GET", path, resourceVersion="0") == made
    listed = http.must("GET", collection, labelSelector="crud=x")
    assert listed["kind"] == f"{info.kind}List" and [item["metadata"]["name"] for item in listed["items"]] == [name]
    assert int(listed["metadata"]["resourceVersion"]) >= int(meta["resourceVersion"])
    assert http.must("GET", collection, fieldSelector=f"metadata.name={name}")["items"] == listed["items"]
    assert http.must("GET", collection, labelSelector="crud notin (x),crud")["items"] == []

    changed = http.must("PUT", path, {**made, "metadata": {**meta, "labels": {"crud": "y"}}})
    assert changed["metadata"]["labels"]["crud"] == "y" and changed["metadata"]["uid"] == meta["uid"]
    assert int(changed["metadata"]["resourceVersion"]) > int(meta["resourceVersion"])
    assert changed["metadata"].get("generation") == meta.get("generation")
    assert http.must("PUT", path, changed) == changed

    remove(http, info, name)
    query = {"resourceVersion": start, "fieldSelector": f"metadata.name={name}"}
    seen = http.events(collection, 2, **query)
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED"]
    if info.kind != "CustomResourceDefinition":
        # A definition is brought into force in between.
        assert seen[0]["object"] == made and seen[1]["object"] == changed
    selected = http.events(collection, 2, resourceVersion=start, labelSelector="crud=x")
    while selected[-1]["type"] == "MODIFIED":
        selected.append(http.events(collection, len(selected) + 1, resourceVersion=start, labelSelector="crud=x")[-1])
    assert (selected[0]["type"], selected[-1]["type"]) == ("ADDED", "DELETED")
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in (*seen, *selected[1:])]
    assert versions == sorted(versions)


@every_kind
def test_both_fronts_and_all_media_types_show_the_same(info: ResourceInfo, http: Http, grpc_front: Grpc) -> None:
    name = real_name(info, f"{mark(info)}-forms")
    request = grpc_front.packed(pb.CreateRequest(), manifest(info, f"{mark(info)}-forms", form="a"), info)
    request.target.CopyFrom(grpc_front.target(info))
    made = grpc_front.content(grpc_front.call("Create", request).object)
    path = path_of(info, name)
    shown = http.must("GET", path)
    if info.kind == "CustomResourceDefinition":
        made = shown = settled(http, info, shown)
    assert shown == made
    got = grpc_front.call("Get", pb.GetRequest(target=grpc_front.target(info, name)))
    assert grpc_front.content(got.object) == made
    for accept in (YAML, PROTOBUF, "application/json;as=Table;v=v1;g=meta.k8s.io"):
        assert http("GET", path, accept=accept).code == 200
        assert http("GET", path_of(info), accept=accept).code == 200
    raw = http("GET", path, accept=PROTOBUF).raw
    again = http("PUT", path, raw, content_type=PROTOBUF)
    assert again.code == 200 and again.content == shown
    as_yaml = http("GET", path, accept=YAML).raw
    again = http("PUT", path, as_yaml, content_type=YAML)
    assert again.code == 200 and again.content == shown
    table = http.must("GET", path, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert len(table["rows"]) == 1 and len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])
    partial = http.must("GET", path, accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
    assert partial["kind"] == "PartialObjectMetadata" and partial["metadata"] == shown["metadata"]
    remove(http, info, name)


@every_kind
def test_patches(info: ResourceInfo, http: Http) -> None:
    name = real_name(info, f"{mark(info)}-patch")
    path = path_of(info, name)
    create(http, info, f"{mark(info)}-patch", a="1")
    merged = http.must("PATCH", path, {"metadata": {"labels": {"a": None, "b": "2"}}}, content_type=MERGE_PATCH)
    assert merged["metadata"]["labels"].get("a") is None and merged["metadata"]["labels"]["b"] == "2"
    steps = [
        {"op": "test", "path": "/metadata/labels/b", "value": "2"},
        {"op": "replace", "path": "/metadata/labels/b", "value": "3"},
    ]
    assert http.must("PATCH", path, steps, content_type=JSON_PATCH)["metadata"]["labels"]["b"] == "3"
    assert http("PATCH", path, steps, content_type=JSON_PATCH).code == 422
    strategic = {"metadata": {"finalizers": ["example.com/f"], "labels": {"c": "4"}}}
    found = http.must("PATCH", path, strategic, content_type=STRATEGIC)["metadata"]
    assert found["labels"]["b"] == "3" and found["labels"]["c"] == "4" and "example.com/f" in found["finalizers"]
    gone = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/f"]}}
    assert "example.com/f" not in http.must("PATCH", path, gone, content_type=STRATEGIC)["metadata"].get(
        "finalizers", []
    )
    before = http.must("GET", path)
    assert http.must("PATCH", path, {}, content_type=MERGE_PATCH) == before
    stale = {"metadata": {"resourceVersion": "1", "labels": {"d": "1"}}}
    assert (refused := http("PATCH", path, stale, content_type=MERGE_PATCH)).code == 409, refused.raw
    remove(http, info, name)


@every_kind
def test_apply(info: ResourceInfo, http: Http) -> None:
    name = real_name(info, f"{mark(info)}-apply")
    path = path_of(info, name)
    body = manifest(info, f"{mark(info)}-apply", own="1")
    answer = http("PATCH", path, body, content_type=APPLY, fieldManager="one")
    assert answer.code == 201, answer.raw
    owners = [(e["manager"], e["operation"]) for e in answer.content["metadata"]["managedFields"]]
    assert ("one", "Apply") in owners
    made = settled(http, info, answer.content) if info.kind == "CustomResourceDefinition" else answer.content
    again = http("PATCH", path, body, content_type=APPLY, fieldManager="one")
    assert again.code == 200 and again.content == made
    other = {**body, "metadata": {"name": name, "labels": {"own": "2"}}}
    refused = http("PATCH", path, other, content_type=APPLY, fieldManager="two")
    assert refused.code == 409 and ".metadata.labels.own" in refused.fields
    assert refused.content["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    taken = http("PATCH", path, other, content_type=APPLY, fieldManager="two", force="true")
    assert taken.code == 200 and taken.content["metadata"]["labels"]["own"] == "2"
    only = {"apiVersion": info.api_version, "kind": info.kind, "metadata": {"name": name}}
    given_up = {**body, "metadata": only["metadata"]}
    left = http("PATCH", path, given_up, content_type=APPLY, fieldManager="two")
    assert left.code == 200, left.raw
    assert "own" not in left.content["metadata"].get("labels", {})
    remove(http, info, name)


@every_kind
def test_generated_names_and_dry_runs(info: ResourceInfo, http: Http, grpc_front: Grpc) -> None:
    if info.kind not in ("CustomResourceDefinition", "APIService"):
        body = manifest(info, "unused")
        body["metadata"] = {"generateName": f"{mark(info)}-"}
        made = http.must("POST", path_of(info), body)["metadata"]
        assert re.fullmatch(rf"{mark(info)}-[bcdfghjklmnpqrstvwxz2456789]{{5}}", made["name"])
        assert made["generateName"] == f"{mark(info)}-"
        remove(http, info, made["name"])
    name = real_name(info, f"{mark(info)}-dry")
    body = manifest(info, f"{mark(info)}-dry")
    dry = http.must("POST", path_of(info), body, dryRun="All")
    assert dry["metadata"]["uid"] and not dry["metadata"].get("resourceVersion")
    request = grpc_front.packed(pb.CreateRequest(target=grpc_front.target(info), dry_run=True), body, info)
    grpc_front.call("Create", request)
    assert http("GET", path_of(info, name)).code == 404
    made = create(http, info, f"{mark(info)}-dry")
    assert http("POST", path_of(info), body, dryRun="All").code == 409
    patch = {"metadata": {"labels": {"dry": "run"}}}
    changed = http.must("PATCH", path_of(info, name), patch, content_type=MERGE_PATCH, dryRun="All")
    assert changed["metadata"]["labels"]["dry"] == "run"
    http.must("DELETE", path_of(info, name), dryRun="All")
    assert http.must("GET", path_of(info, name)) == made
    remove(http, info, name)


@pytest.mark.parametrize("info", with_status(), ids=lambda info: f"{info.resource}.{info.api_version}")
def test_status_and_the_rest_are_written_apart(info: ResourceInfo, http: Http) -> None:
    name = real_name(info, f"{mark(info)}-status")
    path = path_of(info, name)
    made = create(http, info, f"{mark(info)}-status", s="1")
    status = STATUS[info.kind]
    through_main = http.must("PATCH", path, {"status": status}, content_type=MERGE_PATCH)
    assert through_main.get("status") == made.get("status"), "the status was set past its subresource"
    body = {
        "status": status,
        "spec": GENERATIONS.get(info.kind, {}).get("spec", {}),
        "metadata": {"finalizers": ["a.b/c"]},
    }
    written = http.must("PATCH", f"{path}/status", body, content_type=MERGE_PATCH)
    assert written.get("spec") == made.get("spec"), "the spec was set through the status"
    assert written["metadata"].get("generation") == made["metadata"].get("generation")
    assert contains(written["status"], status), written["status"]
    assert http.must("GET", f"{path}/status") == written == http.must("GET", path)
    remove(http, info, name)


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(contains(whole.get(key), value) for key, value in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(item, wanted) for item in whole) for wanted in part)
    return bool(whole == part)


@pytest.mark.parametrize(
    "info",
    [info for info in stored_kinds() if info.kind in GENERATIONS],
    ids=lambda info: f"{info.resource}.{info.api_version}",
)
def test_a_generation_counts_changes_of_the_spec(info: ResourceInfo, http: Http) -> None:
    name = real_name(info, f"{mark(info)}-gen")
    path = path_of(info, name)
    assert create(http, info, f"{mark(info)}-gen")["metadata"]["generation"] == 1
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert http.must("PATCH", path, labels, content_type=MERGE_PATCH)["metadata"]["generation"] == 1
    change = GENERATIONS[info.kind]
    assert http.must("PATCH", path, change, content_type=MERGE_PATCH)["metadata"]["generation"] == 2
    assert http.must("PATCH", path, change, content_type=MERGE_PATCH)["metadata"]["generation"] == 2
    forged = {"metadata": {"generation": 99}}
    assert http.must("PATCH", path, forged, content_type=MERGE_PATCH)["metadata"]["generation"] == 2
    remove(http, info, name)


@every_kind
def test_deletion_waits_for_finalizers_and_heeds_preconditions(
    info: ResourceInfo, http: Http, grpc_front: Grpc
) -> None:
    name = real_name(info, f"{mark(info)}-del")
    path = path_of(info, name)
    body = manifest(info, f"{mark(info)}-del")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    made = http.must("POST", path_of(info), body)
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
    for precondition in ({"uid": "00000000-0000-0000-0000-000000000000"}, {"resourceVersion": "1"}):
        refused = http("DELETE", path, {**options, "preconditions": precondition})
        assert (refused.code, refused.reason) == (409, "Conflict"), refused.raw
        request = pb.DeleteRequest(
            target=grpc_front.target(info, name), options=delete_options(preconditions=precondition)
        )
        assert grpc_front.code("Delete", request).name == "ABORTED"
    going = http.must("DELETE", path, {**options, "preconditions": {"uid": made["metadata"]["uid"]}})
    assert going["metadata"]["deletionTimestamp"]
    held = http.must("GET", path)
    assert held["metadata"]["finalizers"][-1:] and held["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": [*held["metadata"]["finalizers"], "example.com/late"]}}
    refused = http("PATCH", path, more, content_type=MERGE_PATCH)
    assert refused.code == 422 and "metadata.finalizers" in refused.fields
    remove(http, info, name)
    assert http("DELETE", path).code == 404


@pytest.mark.parametrize(
    "info",
    # The end of a definition is its instances' end, whatever the policy; Events have no dependents.
    [info for info in stored_kinds() if info.kind not in ("CustomResourceDefinition", "Event")],
    ids=lambda info: f"{info.resource}.{info.api_version}",
)
def test_propagation_policies_leave_their_finalizers(info: ResourceInfo, http: Http) -> None:
    name = real_name(info, f"{mark(info)}-prop")
    path = path_of(info, name)
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        create(http, info, f"{mark(info)}-prop")
        http.must("DELETE", path, gracePeriodSeconds=0, propagationPolicy=policy)
        assert finalizer in http.must("GET", path)["metadata"]["finalizers"]
        remove(http, info, name)
    create(http, info, f"{mark(info)}-prop")
    refused = http("DELETE", path, propagationPolicy="Nonesuch")
    assert refused.code == 422 and "propagationPolicy" in refused.fields, refused.raw
    remove(http, info, name)


@every_kind
def test_lists_in_pages_and_deletion_of_collections(info: ResourceInfo, http: Http, grpc_front: Grpc) -> None:
    names = [real_name(info, f"{mark(info)}-page{n}") for n in range(5)]
    for n in range(5):
        http.must("POST", path_of(info), manifest(info, f"{mark(info)}-page{n}", page=mark(info)))
    found: list[str] = []
    query: dict[str, Any] = {}
    versions = set()
    while True:
        page = http.must("GET", path_of(info), limit=2, labelSelector=f"page={mark(info)}", **query)
        found += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        if not page["metadata"].get("continue"):
            break
        assert len(page["items"]) == 2
        query = {"continue": page["metadata"]["continue"]}
    assert found == names and len(versions) == 1
    whole = http.must("GET", path_of(info), limit=1)
    everything = http.must("GET", path_of(info))["items"]
    assert whole["metadata"]["remainingItemCount"] == len(everything) - 1
    listed = grpc_front.call(
        "List", pb.ListRequest(target=grpc_front.target(info), label_selector=f"page={mark(info)}")
    )
    assert [grpc_front.content(item)["metadata"]["name"] for item in listed.items] == names
    if "deletecollection" not in info.verbs:
        assert http("DELETE", path_of(info)).code == 405
    else:
        http.must("DELETE", path_of(info), labelSelector=f"page={mark(info)}", gracePeriodSeconds=0)
    for name in names:
        remove(http, info, name)


def test_what_is_stored_is_canonical(http: Http, etcd: Etcd) -> None:
    """Every kind at once, each key under its own prefix, read by the independent decoder."""
    for info in stored_kinds():
        http.must("POST", path_of(info), manifest(info, f"{mark(info)}-stored", z="1", a="2", m="3"))
    objects, faults = decode_all(asyncio.run(stored_pairs(etcd.address)))
    assert not faults, "\n".join(faults)
    stored = {kind for kind, _ in objects.values()}
    assert {info.kind for info in stored_kinds()} <= stored
    for info in stored_kinds():
        remove(http, info, real_name(info, f"{mark(info)}-stored"))


def test_a_refusal_over_grpc_carries_the_same_status(http: Http, grpc_front: Grpc) -> None:
    info = next(info for info in stored_kinds() if info.kind == "Deployment")
    body = manifest(info, "refused")
    body["spec"]["replicas"] = -1
    over_http = http("POST", path_of(info), body)
    request = grpc_front.packed(pb.CreateRequest(target=grpc_front.target(info)), body, info)
    with pytest.raises(StatusError) as caught:
        grpc_front.call("Create", request)
    from tillerman.api import codec

    assert codec.to_dict(caught.value.status) == over_http.content
    assert over_http.fields == {"spec.replicas"}
