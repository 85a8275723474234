"""Every verb on a custom resource, in one version and in several, over gRPC and a real etcd."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from custom_definitions import SPEC_SCHEMA, definition, definitions_of, establish, gizmo, gizmos_of, gone
from real_apiserver import RunningApiserver
from webhook_server import webhook_server

from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.client.dynamic import DynamicClient
from tillerman.pb.k8s import autoscaling_v1_pb2 as autoscaling

NAME = "gizmos.example.org"


@pytest.fixture
async def gizmos(apiserver: RunningApiserver) -> AsyncIterator[DynamicClient]:
    await establish(apiserver.client, definition())
    yield gizmos_of(apiserver.client)
    await definitions_of(apiserver.client).delete(NAME)
    await gone(apiserver.client, NAME)


async def refused(call: Any) -> StatusError:
    with pytest.raises(StatusError) as error:
        await call
    return error.value


async def test_generation_counts_what_is_wanted(gizmos: DynamicClient) -> None:
    made = await gizmos.create({**gizmo("a"), "status": {"size": 9}})
    assert "status" not in made
    labelled = await gizmos.patch("a", "default", {"metadata": {"labels": {"x": "y"}}, "status": {"size": 3}})
    assert labelled["metadata"]["generation"] == 1
    assert "status" not in labelled
    told = await gizmos.patch(
        "a", "default", {"status": {"size": 3}, "spec": {"size": 8}, "metadata": {"labels": {"x": "z"}}},
        subresource="status",
    )  # fmt: skip
    assert (told["status"], told["spec"]["size"], told["metadata"]["generation"]) == ({"size": 3}, 1, 1)
    assert told["metadata"]["labels"] == {"x": "y"}
    grown = await gizmos.patch("a", "default", [{"op": "replace", "path": "/spec/size", "value": 2}], type="json")
    assert (grown["spec"]["size"], grown["status"], grown["metadata"]["generation"]) == (2, {"size": 3}, 2)
    same = await gizmos.update(grown)
    assert same["metadata"]["resourceVersion"] == grown["metadata"]["resourceVersion"]


async def test_what_stood_twice_before_lists_were_sets_may_stay(
    apiserver: RunningApiserver, gizmos: DynamicClient
) -> None:
    where = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/tags/x-kubernetes-list-type"
    definitions = definitions_of(apiserver.client)

    async def tags_are(kind: str) -> None:
        await definitions.patch(NAME, "", [{"op": "replace", "path": where, "value": kind}], type="json")

    await tags_are("atomic")
    old = await eventually_created(gizmos, gizmo("a", tags=["x", "x"]))
    await gizmos.create(gizmo("b", tags=["x"]))
    await tags_are("set")
    error = await eventually_refused(gizmos, gizmo("c", tags=["x", "x"]))
    assert {(c.field, c.reason) for c in error.status.details.causes} == {("spec.tags[1]", "FieldValueDuplicate")}
    kept = await gizmos.patch("a", "default", {"metadata": {"labels": {"l": "m"}}})
    assert kept["spec"]["tags"] == old["spec"]["tags"]
    await refused(gizmos.patch("b", "default", {"spec": {"tags": ["y", "y"]}}))


async def eventually_created(gizmos: DynamicClient, body: dict[str, Any]) -> dict[str, Any]:
    """Once the changed definition is served."""
    for _ in range(100):
        try:
            return await gizmos.create(body)
        except StatusError:
            await asyncio.sleep(0.05)
    raise AssertionError("refused for 5 s")


async def eventually_refused(gizmos: DynamicClient, body: dict[str, Any]) -> StatusError:
    """Once the changed definition is served."""
    for _ in range(100):
        try:
            made = await gizmos.create(body)
        except StatusError as error:
            return error
        await gizmos.delete(made["metadata"]["name"], "default")
        await asyncio.sleep(0.05)
    raise AssertionError("accepted for 5 s")


async def test_refusals(gizmos: DynamicClient) -> None:
    await gizmos.create(gizmo("a"))
    error = await refused(gizmos.create(gizmo("b", size=99, color="pink")))
    assert (error.code, error.reason) == (422, "Invalid")
    assert {(c.field, c.reason) for c in error.status.details.causes} == {
        ("spec.size", "FieldValueInvalid"),
        ("spec.color", "FieldValueNotSupported"),
    }
    error = await refused(gizmos.patch("a", "default", {"spec": {}}, type="strategic"))
    assert error.code == 415
    error = await refused(gizmos.create(gizmo("b", odd=1), field_validation="Strict"))
    assert 'strict decoding error: unknown field "spec.odd"' in error.message
    error = await refused(gizmos.update({**gizmo("a"), "metadata": {"name": "a", "namespace": "default"}}))
    assert "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update" in error.message
    error = await refused(gizmos.create({**gizmo("b"), "kind": "Gadget"}))
    assert [c.field for c in error.status.details.causes] == ["kind"]
    error = await refused(gizmos.list(field_selector="spec.size=1"))
    assert error.message == "field label not supported: spec.size"
    error = await refused(gizmos.create(gizmo("b", parts=[{"name": "x"}, {"name": "x"}], tags=["t", "t"])))
    assert {c.reason for c in error.status.details.causes} == {"FieldValueDuplicate"}


async def test_server_side_apply_merges_by_the_schema(gizmos: DynamicClient) -> None:
    async def apply(manager: str, **spec: Any) -> dict[str, Any]:
        intent = {**gizmo("a"), "spec": spec}
        return await gizmos.patch("a", "default", intent, type="apply", field_manager=manager)

    await apply("one", size=1, parts=[{"name": "x", "weight": 1}], tags=["t"])
    both = await apply("two", parts=[{"name": "y"}], tags=["u"])
    assert [part["name"] for part in both["spec"]["parts"]] == ["x", "y"]
    assert both["spec"]["tags"] == ["t", "u"]
    error = await refused(apply("two", parts=[{"name": "x", "weight": 2}]))
    assert 'conflict with "one": .spec.parts[name="x"].weight' in error.message
    less = await apply("one", size=1)
    assert [part["name"] for part in less["spec"]["parts"]] == ["y"]


async def test_selectors_watch_and_collections(gizmos: DynamicClient, client: Client) -> None:
    start = await gizmos.list()
    for number, color in enumerate(("red", "blue", "blue")):
        await gizmos.create(
            {**gizmo(f"g{number}", color=color), "metadata": {"name": f"g{number}", "labels": {"n": color}}}
        )
    blue = await gizmos.list(field_selector="spec.color=blue")
    assert [g["metadata"]["name"] for g in blue.items] == ["g1", "g2"]
    assert [g["metadata"]["name"] for g in (await gizmos.list(label_selector="n!=blue")).items] == ["g0"]
    first = await gizmos.list(limit=2)
    rest = await gizmos.list(limit=2, continue_token=first.continue_token)
    assert [g["metadata"]["name"] for g in [*first.items, *rest.items]] == ["g0", "g1", "g2"]
    await gizmos.patch("g1", "default", {"spec": {"color": "red"}})
    await gizmos.delete_collection("default", label_selector="n=blue")
    seen = []
    async for event in gizmos.watch(resource_version=start.resource_version, field_selector="spec.color=blue"):
        seen.append((event.type, event.object["metadata"]["name"]))
        if len(seen) == 4:
            break
    assert seen == [("ADDED", "g1"), ("ADDED", "g2"), ("DELETED", "g1"), ("DELETED", "g2")]


async def test_scale(gizmos: DynamicClient) -> None:
    await gizmos.create(gizmo("a"))
    await gizmos.patch("a", "default", {"status": {"size": 1, "selector": "x=y"}}, subresource="status")
    scale = await gizmos.subresource_get("a", "default", "scale")
    assert isinstance(scale, autoscaling.Scale)
    assert (scale.spec.replicas, scale.status.replicas, scale.status.selector) == (1, 1, "x=y")
    scale.spec.replicas = 4
    await gizmos.subresource_update("a", "default", "scale", scale)
    assert (await gizmos.get("a"))["spec"]["size"] == 4
    scale.spec.replicas = 99
    scale.metadata.resourceVersion = ""
    assert (await refused(gizmos.subresource_update("a", "default", "scale", scale))).reason == "Invalid"


async def test_stored_as_kubernetes_stores_it(gizmos: DynamicClient, apiserver: RunningApiserver) -> None:
    made = await gizmos.create(gizmo("a"))
    pair = await apiserver.server.store.get("/registry/example.org/gizmos/default/a")
    assert pair is not None
    assert pair.value.endswith(b"}\n")
    stored = orjson.loads(pair.value)
    del made["metadata"]["resourceVersion"]
    assert stored == made
    assert pair.value == orjson.dumps(stored, option=orjson.OPT_SORT_KEYS) + b"\n"


async def test_a_new_schema_shows_in_old_objects(gizmos: DynamicClient, client: Client) -> None:
    await gizmos.create(gizmo("a", free={"x": 1}))
    definitions = definitions_of(client)
    crd = await definitions.get(NAME)
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["shape"] = {"type": "string", "default": "round"}
    del spec["properties"]["free"]
    await definitions.update(crd)
    found = await gizmos.get("a")
    assert found["spec"] == {"size": 1, "color": "red", "shape": "round"}


def two_versions(**conversion: Any) -> dict[str, Any]:
    crd = definition(**conversion)
    old = {
        "name": "v1beta1",
        "served": True,
        "storage": False,
        "deprecated": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    crd["spec"]["versions"].append(old)
    return crd


async def test_versions_without_conversion_differ_in_name_only(apiserver: RunningApiserver) -> None:
    client = apiserver.client
    await establish(client, two_versions())
    old, new = gizmos_of(client, "v1beta1"), gizmos_of(client)
    made = await old.create({**gizmo("a", extra=1), "apiVersion": "example.org/v1beta1"})
    # What the storage version does not know is not stored.
    assert made["apiVersion"] == "example.org/v1beta1"
    assert made["spec"] == {"size": 1, "color": "red"}
    found = await new.get("a")
    assert (found["apiVersion"], found["spec"]) == ("example.org/v1", {"size": 1, "color": "red"})
    await old.patch("a", "default", {"spec": {"size": 5}})
    events = old.watch(resource_version=found["metadata"]["resourceVersion"])
    async for event in events:
        assert (event.object["apiVersion"], event.object["spec"]["size"]) == ("example.org/v1beta1", 5)
        break
    assert [g["apiVersion"] for g in (await old.list()).items] == ["example.org/v1beta1"]
    # v1beta1 becomes the storage version: v1 is still read, and converted when it is.
    definitions = definitions_of(client)
    crd = await definitions.get(NAME)
    for version in crd["spec"]["versions"]:
        version["storage"] = version["name"] == "v1beta1"
    crd = await definitions.update(crd)
    assert crd["status"]["storedVersions"] == ["v1", "v1beta1"]
    assert (await new.get("a"))["apiVersion"] == "example.org/v1"
    await old.patch("a", "default", {"spec": {"extra": 1}})
    assert (await old.get("a"))["spec"]["extra"] == 1
    assert "extra" not in (await new.get("a"))["spec"]
    await definitions.delete(NAME)
    await gone(client, NAME)


async def test_a_webhook_converts(apiserver: RunningApiserver, tmp_path: Path) -> None:
    """v1 has spec.size, v1beta1 spec.count; the webhook knows how they go together."""
    client = apiserver.client

    def convert(request: dict[str, Any]) -> dict[str, Any]:
        objects = []
        for obj in request["objects"]:
            fields = ("count", "size") if request["desiredAPIVersion"].endswith("/v1") else ("size", "count")
            spec = dict(obj["spec"])
            spec[fields[1]] = spec.pop(fields[0])
            objects.append({**obj, "apiVersion": request["desiredAPIVersion"], "spec": spec})
        return {"convertedObjects": objects, "result": {"status": "Success"}}

    async with webhook_server(tmp_path / "webhook") as hook:
        hook.answers["/convert"] = convert
        bundle = base64.b64encode(hook.ca_bundle).decode()
        config = {"url": f"{hook.url}/convert", "caBundle": bundle}
        conversion = {
            "strategy": "Webhook",
            "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]},
        }
        await establish(client, two_versions(conversion=conversion))
        old, new = gizmos_of(client, "v1beta1"), gizmos_of(client)
        made = await old.create(
            {"apiVersion": "example.org/v1beta1", "kind": "Gizmo", "metadata": {"name": "a"}, "spec": {"count": 3}}
        )
        assert made["spec"] == {"count": 3, "color": "red"}
        assert (await new.get("a"))["spec"] == {"size": 3, "color": "red"}
        await new.patch("a", "default", {"spec": {"size": 4}})
        assert [g["spec"]["count"] for g in (await old.list()).items] == [4]
        asked = len(hook.requests)
        await old.list()
        assert len(hook.requests) == asked, "what was converted once is kept"
        changed = await old.patch("a", "default", {"spec": {"count": 5}})
        assert changed["spec"]["count"] == 5
        assert changed["metadata"]["generation"] == 3
        hook.answers["/convert"] = {"result": {"status": "Failure", "message": "no such thing"}}
        error = await refused(old.create({**made, "metadata": {"name": "b"}}))
        assert error.code == 500
        assert "failed: no such thing" in error.message
        # Who speaks the storage version does not need the webhook; nor does the end of the definition.
        await new.create(gizmo("c"))
        await definitions_of(client).delete(NAME)
        await gone(client, NAME)


async def test_rules_in_cel(apiserver: RunningApiserver) -> None:
    client = apiserver.client
    crd = definition()
    schema = orjson.loads(orjson.dumps(SPEC_SCHEMA))
    schema["properties"]["spec"]["x-kubernetes-validations"] = [
        {"rule": "self.size >= oldSelf.size", "message": "size never shrinks", "fieldPath": ".size"}
    ]
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    await establish(client, crd)
    gizmos = gizmos_of(client)
    await gizmos.create(gizmo("a", size=3))
    await gizmos.patch("a", "default", {"spec": {"size": 4}})
    error = await refused(gizmos.patch("a", "default", {"spec": {"size": 2}}))
    assert [(c.field, c.message) for c in error.status.details.causes] == [
        ("spec.size", 'Invalid value: "object": size never shrinks')
    ]
    crd["metadata"]["name"], crd["spec"]["names"]["plural"] = "gadgets.example.org", "gadgets"
    schema["properties"]["spec"]["x-kubernetes-validations"][0]["rule"] = "self.size >"
    error = await refused(definitions_of(client).create(crd))
    assert error.status.details.causes[0].field.endswith("properties[spec].x-kubernetes-validations[0].rule")
    await definitions_of(client).delete(NAME)
    await gone(client, NAME)
