"""Deployments end to end: real etcd and apiserver, the real controllers, pretended nodes."""

from __future__ import annotations

import asyncio
from typing import Any

from tillerman.api.pods import is_ready
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery

REVISION = "deployment.kubernetes.io/revision"


def deployment(cluster: Any, name: str, replicas: int, image: str = "web:1", **spec: Any) -> apps.Deployment:
    result = apps.Deployment()
    result.metadata.name, result.metadata.namespace = name, cluster.namespace
    result.spec.replicas = replicas
    result.spec.progressDeadlineSeconds = 600
    result.spec.selector.matchLabels["app"] = name
    result.spec.template.metadata.labels["app"] = name
    result.spec.template.spec.containers.add(name="web", image=image)
    for key, value in spec.items():
        setattr(result.spec, key, value)
    return result


async def complete(cluster: Any, name: str) -> apps.Deployment | None:
    found = await cluster.deployment(name)
    status, wanted = found.status, found.spec.replicas
    counts = (status.replicas, status.updatedReplicas, status.readyReplicas, status.availableReplicas)
    done = status.observedGeneration >= found.metadata.generation and set(counts) == {wanted}
    return found if done else None


async def set_image(cluster: Any, name: str, image: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}}
    await cluster.client.resource(apps.Deployment).patch(name, cluster.namespace, patch, type="strategic")


async def revisions(cluster: Any, name: str) -> dict[str, tuple[str, int]]:
    """Image -> (revision, replicas)."""
    found = await cluster.client.resource(apps.ReplicaSet).list(cluster.namespace, label_selector=f"app={name}")
    return {
        rs.spec.template.spec.containers[0].image: (rs.metadata.annotations[REVISION], rs.spec.replicas)
        for rs in found.items
    }


async def test_a_deployment_from_nothing_to_ready_scaled_rolled_out_and_back(cluster) -> None:
    await cluster.client.resource(apps.Deployment).create(deployment(cluster, "web", 10))
    ready = await cluster.until(lambda: complete(cluster, "web"))
    assert {c.type: (c.status, c.reason) for c in ready.status.conditions} == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
    assert len(await cluster.pods(app="web")) == 10
    await set_image(cluster, "web", "web:2")
    await cluster.until(lambda: complete(cluster, "web"))
    assert {pod.spec.containers[0].image for pod in await cluster.pods(app="web")} == {"web:2"}
    assert await revisions(cluster, "web") == {"web:1": ("1", 0), "web:2": ("2", 10)}
    await set_image(cluster, "web", "web:1")
    done = await cluster.until(lambda: complete(cluster, "web"))
    assert await revisions(cluster, "web") == {"web:1": ("3", 10), "web:2": ("2", 0)}
    assert done.metadata.annotations[REVISION] == "3"
    await cluster.client.resource(apps.Deployment).patch("web", cluster.namespace, {"spec": {"replicas": 3}})
    await cluster.until(lambda: complete(cluster, "web"))
    await cluster.until(lambda: _count(cluster, "web", 3))


async def _count(cluster: Any, name: str, number: int) -> bool:
    return len(await cluster.pods(app=name)) == number


async def test_events_tell_the_story(cluster) -> None:
    await cluster.client.resource(apps.Deployment).create(deployment(cluster, "told", 3))
    await cluster.until(lambda: complete(cluster, "told"))

    async def told() -> set[tuple[str, str]] | None:
        events = await cluster.client.resource(core.Event).list(cluster.namespace)
        reasons = {(event.involvedObject.kind, event.reason) for event in events.items}
        wanted = {("Deployment", "ScalingReplicaSet"), ("ReplicaSet", "SuccessfulCreate")}
        return reasons if wanted <= reasons else None

    assert await cluster.until(told)
    events = (await cluster.client.resource(core.Event).list(cluster.namespace)).items
    scaled = next(event for event in events if event.reason == "ScalingReplicaSet")
    assert scaled.message.startswith("Scaled up replica set told-") and scaled.message.endswith(" to 3")


async def test_a_deleted_pod_is_replaced_and_nothing_is_created_twice(cluster) -> None:
    await cluster.client.resource(apps.Deployment).create(deployment(cluster, "kept", 5))
    await cluster.until(lambda: complete(cluster, "kept"))
    victim = (await cluster.pods(app="kept"))[0]
    await cluster.client.resource(core.Pod).delete(victim.metadata.name, cluster.namespace)

    async def replaced() -> bool:
        names = [pod.metadata.name for pod in await cluster.pods(app="kept")]
        return len(names) == 5 and victim.metadata.name not in names

    await cluster.until(replaced)
    await asyncio.sleep(0.5)
    assert cluster.nodes.started == 6


async def test_a_stuck_rollout_reports_its_deadline_and_keeps_the_old_pods(cluster) -> None:
    await cluster.client.resource(apps.Deployment).create(deployment(cluster, "stuck", 4, progressDeadlineSeconds=1))
    await cluster.until(lambda: complete(cluster, "stuck"))
    cluster.nodes.hold = True
    await set_image(cluster, "stuck", "web:broken")

    async def exceeded() -> bool:
        found = await cluster.deployment("stuck")
        return any(c.reason == "ProgressDeadlineExceeded" and c.status == "False" for c in found.status.conditions)

    await cluster.until(exceeded)
    ready = [pod for pod in await cluster.pods(app="stuck") if is_ready(pod)]
    assert len(ready) == 3


async def test_recreate_never_runs_both_versions(cluster) -> None:
    wanted = deployment(cluster, "once", 3)
    wanted.spec.strategy.type = "Recreate"
    await cluster.client.resource(apps.Deployment).create(wanted)
    await cluster.until(lambda: complete(cluster, "once"))
    mixed: list[set[str]] = []

    def images_when_added(pod: core.Pod) -> None:
        if pod.metadata.namespace == cluster.namespace:
            mixed.append({p.spec.containers[0].image for p in cluster.nodes.pods.list(cluster.namespace)})

    cluster.nodes.pods.add_handler(on_add=images_when_added)
    await set_image(cluster, "once", "web:2")
    await cluster.until(lambda: complete(cluster, "once"))
    assert {pod.spec.containers[0].image for pod in await cluster.pods(app="once")} == {"web:2"}
    assert all(images == {"web:2"} for images in mixed[3:]), mixed


async def test_adopts_matching_orphans_and_releases_relabelled_pods(cluster) -> None:
    orphan = core.Pod()
    orphan.metadata.name, orphan.metadata.namespace = "orphan", cluster.namespace
    orphan.metadata.labels["app"] = "adopt"
    orphan.spec.containers.add(name="web", image="web:1")
    pods = cluster.client.resource(core.Pod)
    await pods.create(orphan)
    replica_set = apps.ReplicaSet()
    replica_set.metadata.name, replica_set.metadata.namespace = "adopt", cluster.namespace
    replica_set.spec.replicas = 2
    replica_set.spec.selector.matchLabels["app"] = "adopt"
    replica_set.spec.template.metadata.labels["app"] = "adopt"
    replica_set.spec.template.spec.containers.add(name="web", image="web:1")
    await cluster.client.resource(apps.ReplicaSet).create(replica_set)
    await cluster.until(lambda: _count(cluster, "adopt", 2))
    adopted = await cluster.until(lambda: _owner_of(cluster, "orphan"))
    assert adopted == "adopt"
    await pods.patch("orphan", cluster.namespace, {"metadata": {"labels": {"app": "free"}}})

    async def released() -> bool:
        return not await _owner_of(cluster, "orphan") and await _count(cluster, "adopt", 2)

    await cluster.until(released)


async def _owner_of(cluster: Any, name: str) -> str:
    pod = await cluster.client.resource(core.Pod).get(name, cluster.namespace)
    return pod.metadata.ownerReferences[0].name if pod.metadata.ownerReferences else ""


async def test_a_service_follows_its_pods(cluster) -> None:
    await cluster.client.resource(apps.Deployment).create(deployment(cluster, "served", 3))
    service = core.Service()
    service.metadata.name, service.metadata.namespace = "served", cluster.namespace
    service.spec.selector["app"] = "served"
    service.spec.ports.add(port=80, protocol="TCP", targetPort={"type": 0, "intVal": 8080})
    await cluster.client.resource(core.Service).create(service)

    async def addresses(number: int) -> list[str] | None:
        found = await cluster.client.resource(discovery.EndpointSlice).list(
            cluster.namespace, label_selector="kubernetes.io/service-name=served"
        )
        ready = [e.addresses[0] for s in found.items for e in s.endpoints if e.conditions.ready]
        return ready if len(ready) == number and len(found.items) == 1 else None

    before = await cluster.until(lambda: addresses(3))
    pods = {pod.status.podIP for pod in await cluster.pods(app="served")}
    assert set(before) == pods
    await cluster.client.resource(apps.Deployment).patch("served", cluster.namespace, {"spec": {"replicas": 5}})
    await cluster.until(lambda: addresses(5))

    async def legacy() -> bool:
        found = await cluster.client.resource(core.Endpoints).get("served", cluster.namespace)
        return len(found.subsets) == 1 and len(found.subsets[0].addresses) == 5

    await cluster.until(legacy)


async def test_a_replication_controller_keeps_its_number_and_adopts_what_matches(cluster) -> None:
    loose = core.Pod()
    loose.metadata.name, loose.metadata.namespace = "loose", cluster.namespace
    loose.metadata.labels["app"] = "old"
    loose.spec.containers.add(name="web", image="web:1")
    await cluster.client.resource(core.Pod).create(loose)
    controller = core.ReplicationController()
    controller.metadata.name, controller.metadata.namespace = "old", cluster.namespace
    controller.spec.replicas = 3
    controller.spec.selector["app"] = "old"
    controller.spec.template.metadata.labels["app"] = "old"
    controller.spec.template.spec.containers.add(name="web", image="web:1")
    controllers = cluster.client.resource(core.ReplicationController)
    await controllers.create(controller)

    async def settled(number: int) -> list[core.Pod] | None:
        status = (await controllers.get("old", cluster.namespace)).status
        pods = await cluster.pods(app="old")
        return pods if (len(pods), status.replicas, status.readyReplicas) == (number,) * 3 else None

    pods = await cluster.until(lambda: settled(3))
    assert {pod.metadata.ownerReferences[0].kind for pod in pods} == {"ReplicationController"}
    assert "loose" in {pod.metadata.name for pod in pods}
    await controllers.patch("old", cluster.namespace, {"spec": {"replicas": 1}})
    await cluster.until(lambda: settled(1))


async def test_a_pod_that_fits_is_adopted_by_a_stateful_set_when_it_appears(cluster) -> None:
    stateful = apps.StatefulSet()
    stateful.metadata.name, stateful.metadata.namespace = "db", cluster.namespace
    stateful.spec.replicas = 1
    stateful.spec.selector.matchLabels["app"] = "db"
    stateful.spec.template.metadata.labels["app"] = "db"
    stateful.spec.template.spec.containers.add(name="web", image="web:1")
    await cluster.client.resource(apps.StatefulSet).create(stateful)
    await cluster.until(lambda: _count(cluster, "db", 1))
    extra = core.Pod()
    extra.metadata.name, extra.metadata.namespace = "db-7", cluster.namespace
    extra.metadata.labels["app"] = "db"
    extra.spec.containers.add(name="web", image="web:1")
    await cluster.client.resource(core.Pod).create(extra)
    # It is adopted, and then it is one too many.
    await cluster.until(lambda: _gone(cluster, "db-7"))
    assert [pod.metadata.name for pod in await cluster.pods(app="db")] == ["db-0"]


async def _gone(cluster: Any, name: str) -> bool:
    return name not in [pod.metadata.name for pod in await cluster.pods()]
