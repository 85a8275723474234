"""Every basic verb over real gRPC and a real etcd."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from tillerman.api.status import StatusError
from tillerman.client import BatchOp, Client
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import meta_v1_pb2 as meta


def config_map(name: str, **data: str) -> core.ConfigMap:
    obj = core.ConfigMap()
    obj.metadata.name = name
    obj.metadata.namespace = "default"
    obj.data.update(data)
    return obj


def pod(name: str, **labels: str) -> core.Pod:
    obj = core.Pod()
    obj.metadata.name = name
    obj.metadata.namespace = "default"
    obj.metadata.labels.update(labels)
    obj.spec.containers.add(name="c", image="busybox")
    return obj


def unique(base: str) -> str:
    return f"{base}-{uuid.uuid4().hex[:8]}"


async def test_create_get_update_delete(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    name = unique("cm")
    made = await maps.create(config_map(name, a="1"))
    assert made.metadata.uid and made.metadata.resourceVersion and made.metadata.creationTimestamp.seconds
    got = await maps.get(name)
    assert got == made
    got.data["b"] = "2"
    updated = await maps.update(got)
    assert updated.data["b"] == "2" and updated.metadata.uid == made.metadata.uid
    assert int(updated.metadata.resourceVersion) > int(made.metadata.resourceVersion)
    got.data["b"] = "3"
    with pytest.raises(StatusError) as caught:
        await maps.update(got)
    assert caught.value.reason == "Conflict"
    await maps.delete(name)
    with pytest.raises(StatusError) as caught:
        await maps.get(name)
    assert caught.value.message == f'configmaps "{name}" not found'


async def test_create_twice_and_missing_namespace(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    name = unique("cm")
    await maps.create(config_map(name))
    with pytest.raises(StatusError) as caught:
        await maps.create(config_map(name))
    assert caught.value.message == f'configmaps "{name}" already exists'
    lost = config_map(name)
    lost.metadata.namespace = "nowhere"
    with pytest.raises(StatusError) as caught:
        await maps.create(lost)
    assert caught.value.message == 'namespaces "nowhere" not found'


async def test_an_update_that_changes_nothing_writes_nothing(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    made = await maps.create(config_map(unique("cm"), a="1"))
    again = await maps.update(made)
    assert again.metadata.resourceVersion == made.metadata.resourceVersion


async def test_read_your_writes(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    made = await maps.create(config_map(unique("cm"), n="0"))
    for turn in range(50):
        made.data["n"] = str(turn)
        made = await maps.update(made)
        assert (await maps.get(made.metadata.name)).data["n"] == str(turn)


async def test_list_selectors_and_pages(client: Client) -> None:
    pods = client.resource(core.Pod)
    mark = unique("group")
    for index in range(7):
        await pods.create(pod(f"{mark}-{index}", group=mark, odd=str(index % 2)))
    listed = await pods.list("default", label_selector=f"group={mark},odd in (1)")
    assert [item.metadata.name for item in listed.items] == [f"{mark}-1", f"{mark}-3", f"{mark}-5"]
    names: list[str] = []
    page = await pods.list("default", label_selector=f"group={mark}", limit=3)
    first = page.resource_version
    while True:
        names += [item.metadata.name for item in page.items]
        assert page.resource_version == first
        if not page.continue_token:
            break
        await pods.create(pod(unique(mark), group=mark))
        page = await pods.list("default", label_selector=f"group={mark}", limit=3, continue_token=page.continue_token)
    assert names == [f"{mark}-{index}" for index in range(7)]
    one = await pods.list("default", field_selector=f"metadata.name={mark}-2")
    assert [item.metadata.name for item in one.items] == [f"{mark}-2"]
    with pytest.raises(StatusError) as caught:
        await pods.list(field_selector="spec.nope=1")
    assert caught.value.reason == "BadRequest"


async def test_watch_sees_every_change_once(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    start = await maps.list("default")
    mark = unique("w")
    seen: list[tuple[str, str]] = []

    async def follow() -> None:
        async for event in maps.watch("default", resource_version=start.resource_version):
            if event.object.metadata.name.startswith(mark):
                seen.append((event.type, event.object.metadata.name))
                if len(seen) == 60:
                    return

    watching = asyncio.create_task(follow())
    made = await asyncio.gather(*(maps.create(config_map(f"{mark}-{i}")) for i in range(20)))
    for item in made:
        item.data["x"] = "1"
    await asyncio.gather(*(maps.update(item) for item in made))
    await asyncio.gather(*(maps.delete(item.metadata.name) for item in made))
    await asyncio.wait_for(watching, 10)
    for index in range(20):
        assert [kind for kind, name in seen if name == f"{mark}-{index}"] == ["ADDED", "MODIFIED", "DELETED"]


async def test_watch_with_a_selector_turns_changes_into_added_and_deleted(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    start = await maps.list("default")
    mark = unique("s")
    item = await maps.create(config_map(mark))
    item.metadata.labels["pick"] = mark
    item = await maps.update(item)
    item.data["x"] = "1"
    item = await maps.update(item)
    del item.metadata.labels["pick"]
    item = await maps.update(item)
    kinds: list[str] = []
    async for event in maps.watch("default", resource_version=start.resource_version, label_selector=f"pick={mark}"):
        kinds.append(event.type)
        if len(kinds) == 3:
            break
    assert kinds == ["ADDED", "MODIFIED", "DELETED"]


async def test_batch_outcomes_are_independent_and_in_order(client: Client) -> None:
    name = unique("b")
    results = await client.batch(
        [BatchOp.create(config_map(f"{name}-{i}")) for i in range(30)] + [BatchOp.create(config_map(f"{name}-0"))]
    )
    made: list[Any] = results[:30]
    assert not [r for r in made if isinstance(r, StatusError)]
    assert [item.metadata.name for item in made] == [f"{name}-{i}" for i in range(30)]
    assert isinstance(results[30], StatusError) and results[30].reason == "AlreadyExists"


async def test_binding_and_graceful_delete(client: Client) -> None:
    pods = client.resource(core.Pod)
    name = unique("p")
    await pods.create(pod(name))
    binding = core.Binding()
    binding.metadata.name = name
    binding.metadata.namespace = "default"
    binding.target.kind = "Node"
    binding.target.name = "node-1"
    await pods.subresource_create(name, "default", "binding", binding)
    bound = await pods.get(name)
    assert bound.spec.nodeName == "node-1"
    assert [(c.type, c.status) for c in bound.status.conditions] == [("PodScheduled", "True")]
    with pytest.raises(StatusError) as caught:
        await pods.subresource_create(name, "default", "binding", binding)
    assert caught.value.reason == "Conflict"
    await pods.delete(name, grace_period_seconds=7)
    dying = await pods.get(name)
    assert dying.metadata.deletionGracePeriodSeconds == 7 and dying.metadata.HasField("deletionTimestamp")
    await pods.delete(name, grace_period_seconds=0)
    with pytest.raises(StatusError):
        await pods.get(name)


async def test_finalizers_hold_an_object(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    item = config_map(unique("f"))
    item.metadata.finalizers.append("example.com/hold")
    await maps.create(item)
    await maps.delete(item.metadata.name)
    held = await maps.get(item.metadata.name)
    assert held.metadata.HasField("deletionTimestamp") and held.metadata.deletionGracePeriodSeconds == 0
    del held.metadata.finalizers[:]
    await maps.update(held)
    with pytest.raises(StatusError):
        await maps.get(item.metadata.name)


async def test_a_large_object_is_refused_by_name(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    with pytest.raises(StatusError) as caught:
        await maps.create(config_map("huge", a="x" * 5_000_000))
    assert caught.value.reason in ("RequestEntityTooLarge", "Invalid") and "huge" in caught.value.message


async def test_namespace_deletion_waits_for_finalize(client: Client) -> None:
    namespaces = client.resource(core.Namespace)
    obj = core.Namespace()
    obj.metadata.name = unique("ns")
    obj.spec.finalizers.append("kubernetes")
    made = await namespaces.create(obj)
    await namespaces.delete(made.metadata.name)
    dying = await namespaces.get(made.metadata.name)
    assert dying.status.phase == "Terminating"
    item = config_map("x")
    item.metadata.namespace = made.metadata.name
    with pytest.raises(StatusError) as caught:
        await client.resource(core.ConfigMap).create(item)
    assert "because it is being terminated" in caught.value.message


async def test_component_statuses(client: Client) -> None:
    """Nobody keeps them: they are made when they are read, and cannot be written or watched."""
    components = client.resource(core.ComponentStatus)
    listed = await components.list()
    assert [item.metadata.name for item in listed.items] == ["scheduler", "controller-manager", "etcd-0"]
    assert listed.resource_version == ""
    etcd = await components.get("etcd-0")
    assert [(c.type, c.status, c.message) for c in etcd.conditions] == [("Healthy", "True", "ok")]
    with pytest.raises(StatusError) as caught:
        await components.get("etcd-1")
    assert caught.value.message == 'componentstatuses "etcd-1" not found'
    with pytest.raises(StatusError) as caught:
        await components.create(etcd)
    assert caught.value.message == 'create is not supported on resources of kind "componentstatuses"'


async def test_create_while_the_old_object_is_going(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    going = config_map(unique("cm"))
    going.metadata.finalizers.append("example.com/hold")
    await maps.create(going)
    await maps.delete(going.metadata.name)
    for dry_run in (False, True):
        with pytest.raises(StatusError) as caught:
            await maps.create(config_map(going.metadata.name), dry_run=dry_run)
        expected = f'object is being deleted: configmaps "{going.metadata.name}" already exists'
        assert (caught.value.reason, caught.value.message) == ("AlreadyExists", expected)


async def test_a_binding_is_for_one_version_of_one_pod(client: Client) -> None:
    made = await client.resource(core.Pod).create(pod(unique("pod")))
    name = made.metadata.name
    for wanted in (meta.ObjectMeta(uid="11111111-0000-0000-0000-000000000001"), meta.ObjectMeta(resourceVersion="1")):
        binding = core.Binding(target=core.ObjectReference(kind="Node", name="n1"))
        binding.metadata.CopyFrom(wanted)
        binding.metadata.name = name
        with pytest.raises(StatusError) as caught:
            await client.resource(core.Pod).subresource_create(name, "default", "binding", binding)
        expected = f'Operation cannot be fulfilled on pods "{name}": StorageError: invalid object, Code: 4, Key: '
        assert caught.value.reason == "Conflict" and caught.value.message.startswith(expected)


async def test_a_binding_names_its_pod(client: Client) -> None:
    binding = core.Binding(target=core.ObjectReference(kind="Node", name="n1"))
    with pytest.raises(StatusError) as caught:
        await client.resource(core.Binding).create(binding, "default")
    assert (caught.value.reason, caught.value.message) == ("BadRequest", "Name parameter required.")


async def test_a_status_written_with_an_older_spec_takes_no_fields_from_their_owners(client: Client) -> None:
    pods = client.resource(core.Pod)
    old = await pods.create(pod(unique("pod")))
    name = old.metadata.name
    applied = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"activeDeadlineSeconds": 60}}
    new = await pods.patch(name, "default", applied, type="apply", field_manager="m2")
    old.metadata.resourceVersion = new.metadata.resourceVersion
    del old.metadata.managedFields[:]
    old.metadata.managedFields.extend(new.metadata.managedFields)
    old.status.phase = "Running"
    written = await pods.update_status(old)
    assert written.spec.activeDeadlineSeconds == 60 and written.status.phase == "Running"
    owned = {entry.manager: entry.fieldsV1.Raw for entry in written.metadata.managedFields}
    assert b"f:activeDeadlineSeconds" in owned["m2"]
