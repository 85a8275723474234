"""LimitRanger and ResourceQuota on a real apiserver over a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from real_apiserver import RunningApiserver

from services.apiserver.registry.context import Context
from services.apiserver.registry.registry import Target
from tillerman.api import codec
from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.k8s import core_v1_pb2 as core


@pytest.fixture
async def space(client: Client) -> AsyncIterator[str]:
    namespace = core.Namespace()
    namespace.metadata.generateName = "quota-"
    made = await client.resource(core.Namespace).create(namespace)
    yield made.metadata.name


async def put(client: Client, space: str, kind: str, name: str, **content: Any) -> Any:
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": space}, **content}
    message: Any = codec.from_dict(body)
    return await client.resource(type(message)).create(message)


async def quota(client: Client, space: str, name: str, used: dict[str, Any] | None = None, **spec: Any) -> None:
    """A quota as its controller leaves it."""
    made = await put(client, space, "ResourceQuota", name, spec=spec)
    for resource, amount in made.spec.hard.items():
        made.status.hard[resource].CopyFrom(amount)
        made.status.used[resource].string = (used or {}).get(resource, "0")
    await client.resource(core.ResourceQuota).update_status(made)


async def used(client: Client, space: str, name: str) -> dict[str, str]:
    found = await client.resource(core.ResourceQuota).get(name, space)
    return {resource: amount.string for resource, amount in found.status.used.items()}


def pod_spec(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **more: Any) -> Any:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return {"containers": [{"name": "c", "image": "i", "resources": resources}], **more}


async def pod(client: Client, space: str, name: str, *args: Any, **more: Any) -> Any:
    return await put(client, space, "Pod", name, spec=pod_spec(*args, **more))


async def test_pods_are_charged_and_refused_with_kubernetes_words(client: Client, space: str) -> None:
    await quota(client, space, "rq", hard={"pods": "2", "requests.cpu": "1", "limits.memory": "3Gi"})
    with pytest.raises(StatusError, match=r"failed quota: rq: must specify limits.memory,requests.cpu$"):
        await pod(client, space, "a")
    await pod(client, space, "a", {"cpu": "500m"}, {"memory": "1Gi"})
    assert await used(client, space, "rq") == {"pods": "1", "requests.cpu": "500m", "limits.memory": "1Gi"}
    with pytest.raises(StatusError) as refused:
        await pod(client, space, "b", {"cpu": "600m"}, {"memory": "4Gi"})
    assert refused.value.message == (
        'pods "b" is forbidden: exceeded quota: rq, requested: limits.memory=4Gi,requests.cpu=600m, '
        "used: limits.memory=1Gi,requests.cpu=500m, limited: limits.memory=3Gi,requests.cpu=1"
    )
    await pod(client, space, "b", {"cpu": "500m"}, {"memory": "2Gi"})
    with pytest.raises(StatusError) as refused:
        await pod(client, space, "c", {"cpu": "0"}, {"memory": "0"})
    assert "exceeded quota: rq, requested: pods=1, used: pods=2, limited: pods=2" in refused.value.message


async def test_never_more_than_allowed_under_fifty_creates_at_once(
    apiserver: RunningApiserver, client: Client, space: str
) -> None:
    await quota(client, space, "ten", hard={"pods": "10"})
    await quota(client, space, "wide", hard={"count/pods": "100", "requests.cpu": "1"})
    registry = apiserver.server.registry

    async def create(number: int) -> bool:
        message = codec.from_dict({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"},
                                   "spec": pod_spec({"cpu": "10m"})})  # fmt: skip
        try:
            await registry.create(Target("v1", "pods", space), message, Context())
        except StatusError as error:
            assert "exceeded quota: ten" in error.message
            return False
        return True

    made = await asyncio.gather(*(create(number) for number in range(50)))
    assert sum(made) == 10
    assert len((await client.resource(core.Pod).list(space)).items) == 10
    assert await used(client, space, "ten") == {"pods": "10"}
    # A pod that one quota turned away is not charged to the other.
    assert await used(client, space, "wide") == {"count/pods": "10", "requests.cpu": "100m"}


async def test_a_quota_that_others_write_meanwhile_is_not_exceeded(
    apiserver: RunningApiserver, client: Client, space: str
) -> None:
    await quota(client, space, "rq", hard={"count/configmaps": "8"}, used={"count/configmaps": "2"})
    quotas = client.resource(core.ResourceQuota)

    async def relabel() -> None:
        for number in range(20):
            patch = {"metadata": {"labels": {"n": str(number)}}}
            await quotas.patch("rq", space, patch)

    async def create(number: int) -> bool:
        try:
            await put(client, space, "ConfigMap", f"m{number}")
        except StatusError as error:
            assert "used: count/configmaps=8" in error.message
            return False
        return True

    results, _ = await asyncio.gather(asyncio.gather(*(create(number) for number in range(20))), relabel())
    assert sum(results) == 6
    assert await used(client, space, "rq") == {"count/configmaps": "8"}


async def test_what_is_not_stored_is_not_charged(apiserver: RunningApiserver, client: Client, space: str) -> None:
    await quota(client, space, "rq", hard={"configmaps": "5"})
    await put(client, space, "ConfigMap", "one")
    with pytest.raises(StatusError, match="already exists"):
        await put(client, space, "ConfigMap", "one")
    dry = core.ConfigMap()
    dry.metadata.name = "two"
    await apiserver.server.registry.create(Target("v1", "configmaps", space), dry, Context(dry_run=True))
    await put(client, space, "ConfigMap", "three")
    assert await used(client, space, "rq") == {"configmaps": "2"}


async def test_updates_are_charged_by_what_they_add(client: Client, space: str) -> None:
    await quota(client, space, "rq", hard={"services.nodeports": "2", "services": "3", "requests.storage": "5Gi",
                                           "gold.storageclass.storage.k8s.io/requests.storage": "2Gi"})  # fmt: skip
    service = await put(client, space, "Service", "s", spec={"ports": [{"port": 80}], "selector": {"a": "b"}})
    service.spec.type = "NodePort"
    service.spec.ports.add(port=81, name="b")
    service.spec.ports[0].name = "a"
    service = await client.resource(core.Service).update(service)
    assert (await used(client, space, "rq"))["services.nodeports"] == "2"
    service.spec.ports.add(port=82, name="c")
    with pytest.raises(StatusError, match=r"requested: services\.nodeports=1, used: services.nodeports=2"):
        await client.resource(core.Service).update(service)
    claim = {"accessModes": ["ReadWriteOnce"], "storageClassName": "gold",
             "resources": {"requests": {"storage": "3Gi"}}}  # fmt: skip
    with pytest.raises(StatusError, match=r"gold\.storageclass.storage.k8s.io/requests.storage=3Gi"):
        await put(client, space, "PersistentVolumeClaim", "c", spec=claim)


async def test_scopes_choose_the_pods(client: Client, space: str) -> None:
    await quota(client, space, "best", hard={"pods": "0"}, scopes=["BestEffort"])
    expression = {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}
    await quota(client, space, "high", hard={"pods": "0"}, scopeSelector={"matchExpressions": [expression]})
    await quota(client, space, "ends", hard={"pods": "0"}, scopes=["Terminating"])
    await pod(client, space, "fine", {"cpu": "1m"})
    for name, spec in (
        ("best", pod_spec()),
        ("high", pod_spec({"cpu": "1m"}, priorityClassName="system-node-critical")),
        ("ends", pod_spec({"cpu": "1m"}, activeDeadlineSeconds=5)),
    ):
        with pytest.raises(StatusError, match=f"exceeded quota: {name}, requested: pods=1, used: pods=0"):
            await put(client, space, "Pod", "x", spec=spec)


async def test_limit_ranges_fill_in_and_refuse(client: Client, space: str) -> None:
    limits = [
        {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m", "memory": "8Mi"},
         "max": {"cpu": "1"}, "min": {"memory": "4Mi"}, "maxLimitRequestRatio": {"cpu": "4"}},
        {"type": "Pod", "max": {"cpu": "1500m"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}},
    ]  # fmt: skip
    await put(client, space, "LimitRange", "lr", spec={"limits": limits})
    made = await pod(client, space, "a")
    resources = made.spec.containers[0].resources
    assert {n: q.string for n, q in resources.requests.items()} == {"cpu": "100m", "memory": "8Mi"}
    assert {n: q.string for n, q in resources.limits.items()} == {"cpu": "200m"}
    assert made.metadata.annotations["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c"
    )
    with pytest.raises(StatusError) as refused:
        await pod(client, space, "b", {"cpu": "100m", "memory": "1Mi"}, {"cpu": "2"})
    assert refused.value.message == (
        'pods "b" is forbidden: [minimum memory usage per Container is 4Mi, but request is 1Mi, '
        "maximum cpu usage per Container is 1, but limit is 2, "
        "cpu max limit to request ratio per Container is 4, but provided ratio is 20.000000, "
        "maximum cpu usage per Pod is 1500m, but limit is 2]"
    )
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}}}
    with pytest.raises(StatusError, match="maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"):
        await put(client, space, "PersistentVolumeClaim", "c", spec=claim)


async def test_a_pod_that_goes_is_credited_by_whoever_counts(client: Client, space: str) -> None:
    """Admission never lowers what is used, and asks etcd before it turns anybody away on an old count."""
    await quota(client, space, "rq", hard={"configmaps": "1"})
    await put(client, space, "ConfigMap", "one")
    await client.resource(core.ConfigMap).delete("one", space)
    with pytest.raises(StatusError, match="exceeded quota"):
        await put(client, space, "ConfigMap", "two")
    quotas = client.resource(core.ResourceQuota)
    found = await quotas.get("rq", space)
    found.status.used["configmaps"].string = "0"
    await quotas.update_status(found)
    await put(client, space, "ConfigMap", "two")
