"""Definitions come, are served at once, and take their instances with them, over a real etcd."""

from __future__ import annotations

import pytest
from custom_definitions import condition, definition, definitions_of, establish, gizmo, gizmos_of, gone, removed, until
from real_apiserver import Etcd, RunningApiserver, serving

from services.apiserver.options import ApiserverOptions
from tillerman.api.status import StatusError


async def test_a_definition_is_served_by_the_time_it_says_so(apiserver: RunningApiserver) -> None:
    client = apiserver.client
    stored = await establish(client, definition())
    assert condition(stored, "NamesAccepted")["reason"] == "NoConflicts"
    assert stored["status"]["acceptedNames"] == {
        "plural": "gizmos",
        "singular": "gizmo",
        "kind": "Gizmo",
        "listKind": "GizmoList",
        "shortNames": ["gi"],
        "categories": ["toys"],
    }
    assert stored["status"]["storedVersions"] == ["v1"]
    gizmos = gizmos_of(client)
    made = await gizmos.create(gizmo("a", free={"x": {"y": [1, None]}}, unknown=1))
    assert made["spec"] == {"size": 1, "color": "red", "free": {"x": {"y": [1, None]}}}
    assert made["metadata"]["generation"] == 1
    listed = await client.discover()
    assert [(r.kind, r.custom, list(r.subresources)) for r in listed if r.resource == "gizmos"] == [
        ("Gizmo", True, ["scale", "status"])
    ]
    await definitions_of(client).delete("gizmos.example.org")
    await gone(client, "gizmos.example.org")
    with pytest.raises(StatusError) as refused:
        await gizmos.get("a")
    assert refused.value.reason == "NotFound"
    await establish(client, definition())
    assert (await gizmos.list()).items == []
    await definitions_of(client).delete("gizmos.example.org")
    await gone(client, "gizmos.example.org")


async def test_a_name_in_use_is_not_accepted_until_it_is_free(apiserver: RunningApiserver) -> None:
    client = apiserver.client
    await establish(client, definition())
    late = definition("gidgets")
    late["spec"]["names"]["kind"] = "Gizmo"
    late["spec"]["names"]["listKind"] = "GidgetList"
    created = await definitions_of(client).create(late)
    refused = await until(client, created, "NamesAccepted", "False")
    assert condition(refused, "NamesAccepted")["reason"] == "KindConflict"
    assert condition(refused, "NamesAccepted")["message"] == '"Gizmo" is already in use'
    assert condition(refused, "Established")["status"] == "False"
    with pytest.raises(StatusError):
        await client.dynamic("example.org/v1", "gidgets", True).list()
    await definitions_of(client).delete("gizmos.example.org")
    await until(client, created, "Established", "True")
    await definitions_of(client).delete("gidgets.example.org")
    await gone(client, "gidgets.example.org")


async def test_instances_with_finalizers_hold_the_definition(apiserver: RunningApiserver) -> None:
    client = apiserver.client
    await establish(client, definition())
    gizmos = gizmos_of(client)
    held = gizmo("held")
    held["metadata"]["finalizers"] = ["example.org/wait"]
    await gizmos.create(held)
    await gizmos.create(gizmo("free"))
    answer = await definitions_of(client).delete("gizmos.example.org")
    assert answer is not None
    assert answer["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    await removed(gizmos, "free")
    assert [g["metadata"]["name"] for g in (await gizmos.list()).items] == ["held"]
    with pytest.raises(StatusError) as refused:
        await gizmos.create(gizmo("late"))
    assert refused.value.code == 405
    assert refused.value.message == "create not allowed while custom resource definition is terminating"
    await gizmos.patch("held", "default", {"metadata": {"finalizers": None}})
    await gone(client, "gizmos.example.org")


async def test_a_restarted_server_serves_at_once(etcd: Etcd) -> None:
    options = ApiserverOptions(etcd_servers=[etcd.address], authorization_mode=["AlwaysAllow"])
    async with serving(options) as first:
        await establish(first.client, definition())
        await gizmos_of(first.client).create(gizmo("kept", color="blue"))
    async with serving(options) as second:
        found = await gizmos_of(second.client).get("kept")
        assert found["spec"]["color"] == "blue"
        await definitions_of(second.client).delete("gizmos.example.org")
        await gone(second.client, "gizmos.example.org")


async def test_two_servers_agree(etcd: Etcd) -> None:
    """What one server establishes the other serves, and only one of them writes each step."""
    options = ApiserverOptions(etcd_servers=[etcd.address], authorization_mode=["AlwaysAllow"])
    async with serving(options) as one, serving(options) as two:
        for number in range(5):
            plural = f"w{number}dgets"
            await establish(one.client, definition(plural))
            widgets = two.client.dynamic("example.org/v1", plural, True)
            await widgets.create({**gizmo("a"), "kind": plural.removesuffix("s").capitalize()})
            key = f"/registry/apiextensions.k8s.io/customresourcedefinitions/{plural}.example.org"
            pair = await one.server.store.get(key)
            # Written twice: when it was created, and when it was established.
            assert pair is not None
            assert pair.version == 2
            await definitions_of(two.client).delete(f"{plural}.example.org")
            await gone(one.client, f"{plural}.example.org")
