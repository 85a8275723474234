"""The quota controller beside the admission that charges."""

from __future__ import annotations

import pytest
from managed_cluster import Cluster

from tillerman.api.status import StatusError
from tillerman.pb.k8s import core_v1_pb2 as core


async def used(cluster: Cluster, name: str) -> dict[str, str]:
    found = await cluster.client.resource(core.ResourceQuota).get(name, cluster.namespace)
    return {resource: amount.string for resource, amount in found.status.used.items()}


def config_map(cluster: Cluster, name: str) -> core.ConfigMap:
    found = core.ConfigMap()
    found.metadata.name, found.metadata.namespace = name, cluster.namespace
    return found


async def test_usage_is_counted_charged_and_credited(cluster: Cluster) -> None:
    maps = cluster.client.resource(core.ConfigMap)
    await maps.create(config_map(cluster, "first"))
    # The publisher of the root CA puts one of its own into every namespace.
    before = len((await maps.list(cluster.namespace)).items)
    quota = core.ResourceQuota()
    quota.metadata.name, quota.metadata.namespace = "rq", cluster.namespace
    hard = {"configmaps": str(before + 1), "pods": "2", "count/odd.example.com": "1"}
    for name, amount in hard.items():
        quota.spec.hard[name].string = amount
    await cluster.client.resource(core.ResourceQuota).create(quota)

    async def counted() -> bool:
        return (await used(cluster, "rq")).get("configmaps") == str(before)

    await cluster.until(counted)
    assert await used(cluster, "rq") == {"configmaps": str(before), "pods": "0", "count/odd.example.com": "0"}
    await maps.create(config_map(cluster, "second"))
    with pytest.raises(StatusError, match="exceeded quota: rq, requested: configmaps=1"):
        await maps.create(config_map(cluster, "third"))
    await maps.delete("first", cluster.namespace)
    await cluster.until(counted)
    await maps.create(config_map(cluster, "third"))


async def test_pods_that_end_are_credited(cluster: Cluster) -> None:
    quota = core.ResourceQuota()
    quota.metadata.name, quota.metadata.namespace = "one", cluster.namespace
    quota.spec.hard["pods"].string = "1"
    await cluster.client.resource(core.ResourceQuota).create(quota)

    async def amount(wanted: str) -> bool:
        return (await used(cluster, "one")).get("pods") == wanted

    await cluster.until(lambda: amount("0"))
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace = "p", cluster.namespace
    pod.spec.containers.add(name="c", image="i")
    made = await cluster.client.resource(core.Pod).create(pod)
    assert await amount("1")
    made.status.phase = "Succeeded"
    made.metadata.ClearField("resourceVersion")
    await cluster.client.resource(core.Pod).update_status(made)
    await cluster.until(lambda: amount("0"))
