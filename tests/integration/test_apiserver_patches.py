"""Patches, scale, status and generations over real gRPC and etcd."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from tillerman.api.status import StatusError
from tillerman.client import BatchOp, Client
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import autoscaling_v1_pb2 as autoscaling
from tillerman.pb.k8s import autoscaling_v2_pb2 as autoscaling_v2
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import events_v1_pb2 as events


def deployment(name: str) -> apps.Deployment:
    obj = apps.Deployment()
    obj.metadata.name = name
    obj.metadata.namespace = "default"
    obj.spec.replicas = 1
    obj.spec.selector.matchLabels["app"] = name
    obj.spec.template.metadata.labels["app"] = name
    obj.spec.template.spec.containers.add(name="a", image="a:1")
    obj.spec.template.spec.containers.add(name="b", image="b:1")
    return obj


async def made(client: Client) -> apps.Deployment:
    return await client.resource(apps.Deployment).create(deployment(f"d-{uuid.uuid4().hex[:8]}"))


async def test_a_strategic_patch_merges_containers_by_name(client: Client) -> None:
    deployments = client.resource(apps.Deployment)
    name = (await made(client)).metadata.name
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}}}
    patched = await deployments.patch(name, "default", patch, type="strategic")
    assert [c.image for c in patched.spec.template.spec.containers] == ["a:1", "b:2"]
    assert patched.metadata.generation == 2


async def test_merge_and_json_patches(client: Client) -> None:
    deployments = client.resource(apps.Deployment)
    name = (await made(client)).metadata.name
    labelled = await deployments.patch(name, "default", {"metadata": {"labels": {"x": "y"}}}, type="merge")
    assert labelled.metadata.labels["x"] == "y" and labelled.metadata.generation == 1
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 4}]
    assert (await deployments.patch(name, "default", operations, type="json")).spec.replicas == 4
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 5}}
    with pytest.raises(StatusError) as caught:
        await deployments.patch(name, "default", stale, type="merge")
    assert caught.value.reason == "Conflict"


async def test_concurrent_patches_all_land(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    obj = core.ConfigMap()
    obj.metadata.name = f"c-{uuid.uuid4().hex[:8]}"
    obj.metadata.namespace = "default"
    await maps.create(obj)
    await asyncio.gather(
        *(maps.patch(obj.metadata.name, "default", {"data": {f"k{i}": str(i)}}, type="merge") for i in range(12))
    )
    assert len((await maps.get(obj.metadata.name)).data) == 12


async def test_scale_and_status(client: Client) -> None:
    deployments = client.resource(apps.Deployment)
    obj = await made(client)
    name = obj.metadata.name
    patch = BatchOp.patch(apps.Deployment, name, "default", {"spec": {"replicas": 3}}, subresource="scale")
    [scale] = await client.batch([patch])
    assert isinstance(scale, autoscaling.Scale) and scale.status.selector == f"app={name}"
    for other in ({"name": "other"}, {"namespace": "other"}):
        patch = BatchOp.patch(apps.Deployment, name, "default", {"metadata": other}, subresource="scale")
        [refused] = await client.batch([patch])
        assert isinstance(refused, StatusError) and refused.code == 400
    scaled = await deployments.get(name)
    assert scaled.spec.replicas == 3 and scaled.metadata.generation == 2
    scaled.status.replicas = 3
    scaled.spec.replicas = 9
    written = await deployments.update_status(scaled)
    assert written.status.replicas == 3 and written.spec.replicas == 3 and written.metadata.generation == 2
    written.status.replicas = 7
    written.spec.paused = True
    updated = await deployments.update(written)
    assert updated.status.replicas == 3 and updated.spec.paused and updated.metadata.generation == 3


async def test_invalid_objects_name_the_field(client: Client) -> None:
    bad = deployment("bad")
    bad.spec.template.spec.containers[0].ClearField("image")
    with pytest.raises(StatusError) as caught:
        await client.resource(apps.Deployment).create(bad)
    assert caught.value.reason == "Invalid"
    assert "spec.template.spec.containers[0].image" in caught.value.message
    with pytest.raises(StatusError) as caught:
        await client.resource(apps.Deployment).patch("x", "default", {"spec": {"replicas": "x"}}, type="merge")
    assert caught.value.reason == "NotFound"
    name = (await made(client)).metadata.name
    with pytest.raises(StatusError) as caught:
        await client.resource(apps.Deployment).patch(name, "default", {"spec": {"replicas": "x"}}, type="merge")
    assert caught.value.reason == "Invalid"


async def test_a_new_namespace_is_active_and_finalized(client: Client) -> None:
    namespaces = client.resource(core.Namespace)
    obj = core.Namespace()
    obj.metadata.name = f"ns-{uuid.uuid4().hex[:8]}"
    created = await namespaces.create(obj)
    assert list(created.spec.finalizers) == ["kubernetes"] and created.status.phase == "Active"
    await namespaces.delete(obj.metadata.name)
    dying = await namespaces.get(obj.metadata.name)
    assert dying.status.phase == "Terminating"
    del dying.spec.finalizers[:]
    await namespaces.update(dying)
    assert (await namespaces.get(obj.metadata.name)).spec.finalizers == ["kubernetes"]


async def test_server_side_apply_creates_merges_and_names_conflicts(client: Client) -> None:
    maps = client.resource(core.ConfigMap)
    name = f"a-{uuid.uuid4().hex[:8]}"
    first = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1", "b": "1"}}
    made = await maps.patch(name, "default", first, type="apply", field_manager="one")
    assert dict(made.data) == {"a": "1", "b": "1"} and [e.manager for e in made.metadata.managedFields] == ["one"]
    other = first | {"data": {"b": "2", "c": "2"}}
    with pytest.raises(StatusError) as caught:
        await maps.patch(name, "default", other, type="apply", field_manager="two")
    assert caught.value.reason == "Conflict" and '"one"' in caught.value.message and ".data.b" in caught.value.message
    await maps.patch(name, "default", first | {"data": {"c": "2"}}, type="apply", field_manager="two")
    after = await maps.patch(name, "default", first | {"data": {"a": "1"}}, type="apply", field_manager="one")
    assert dict(after.data) == {"a": "1", "c": "2"}


async def test_autoscaling_v1_is_another_form_of_v2(client: Client) -> None:
    old = autoscaling.HorizontalPodAutoscaler()
    old.metadata.name = f"h-{uuid.uuid4().hex[:8]}"
    old.metadata.namespace = "default"
    old.spec.scaleTargetRef.kind = "Deployment"
    old.spec.scaleTargetRef.name = "x"
    old.spec.scaleTargetRef.apiVersion = "apps/v1"
    old.spec.maxReplicas = 5
    old.spec.targetCPUUtilizationPercentage = 40
    made = await client.resource(autoscaling.HorizontalPodAutoscaler).create(old)
    assert made.spec.targetCPUUtilizationPercentage == 40
    new = await client.resource(autoscaling_v2.HorizontalPodAutoscaler).get(old.metadata.name)
    assert new.spec.metrics[0].resource.target.averageUtilization == 40
    patch = {"spec": {"targetCPUUtilizationPercentage": 70}}
    patched = await client.resource(autoscaling.HorizontalPodAutoscaler).patch(old.metadata.name, "default", patch)
    assert patched.spec.targetCPUUtilizationPercentage == 70
    listed = await client.resource(autoscaling.HorizontalPodAutoscaler).list("default")
    assert old.metadata.name in {item.metadata.name for item in listed.items}
    await client.resource(autoscaling.HorizontalPodAutoscaler).delete(old.metadata.name)


async def test_events_are_one_thing_in_two_groups(client: Client) -> None:
    event = core.Event()
    event.metadata.name = f"e-{uuid.uuid4().hex[:8]}"
    event.metadata.namespace = "default"
    event.involvedObject.kind = "Pod"
    event.involvedObject.namespace = "default"
    event.involvedObject.name = event.metadata.name
    event.reason, event.message, event.type = "Tested", "hello", "Normal"
    event.source.component = "test"
    await client.resource(core.Event).create(event)
    listed = await client.resource(events.Event).list("default", field_selector=f"regarding.name={event.metadata.name}")
    assert [item.note for item in listed.items] == ["hello"]
    assert listed.items[0].regarding.kind == "Pod"
