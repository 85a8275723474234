"""Nodes, namespaces, garbage and restarts, over a real apiserver and etcd."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from managed_cluster import managing, options

from services.controller.options import ControllerManagerOptions
from tillerman.api.pods import is_ready
from tillerman.api.status import StatusError, is_not_found
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import coordination_v1_pb2 as coordination
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import rbac_v1_pb2 as rbac


@pytest.fixture
def manager_options() -> ControllerManagerOptions:
    return options(leader_elect=False, node_monitor_grace_period=2.5)


def replica_set(cluster: Any, name: str, replicas: int, **tolerations: int) -> apps.ReplicaSet:
    result = apps.ReplicaSet()
    result.metadata.name, result.metadata.namespace = name, cluster.namespace
    result.spec.replicas = replicas
    result.spec.selector.matchLabels["app"] = name
    result.spec.template.metadata.labels["app"] = name
    result.spec.template.spec.containers.add(name="web", image="web:1")
    for key, seconds in tolerations.items():
        result.spec.template.spec.tolerations.add(
            key=f"node.kubernetes.io/{key.replace('_', '-')}",
            operator="Exists",
            effect="NoExecute",
            tolerationSeconds=seconds,
        )
    return result


async def gone(client: Any, name: str, namespace: str | None = None) -> bool:
    try:
        await client.get(name, namespace)
    except StatusError as error:
        return is_not_found(error)
    return False


async def test_every_node_gets_its_own_network_at_once(cluster) -> None:
    nodes = cluster.client.resource(core.Node)

    async def allocated() -> list[str] | None:
        found = [await nodes.get(name) for name in cluster.nodes.names]
        return [node.spec.podCIDR for node in found] if all(node.spec.podCIDR for node in found) else None

    cidrs = await cluster.until(allocated, 2.0)
    assert len(set(cidrs)) == 2
    everyone = [node.spec.podCIDR for node in (await nodes.list()).items if node.spec.podCIDR]
    assert len(everyone) == len(set(everyone))


async def test_a_lost_node_is_noticed_and_its_pods_come_back_elsewhere(cluster) -> None:
    sets = cluster.client.resource(apps.ReplicaSet)
    await sets.create(replica_set(cluster, "moved", 4, unreachable=1, not_ready=1))
    lost, left = cluster.nodes.names

    async def serving(nodes: set[str]) -> bool:
        pods = [pod for pod in await cluster.pods(app="moved") if is_ready(pod)]
        return len(pods) == 4 and {pod.spec.nodeName for pod in pods} == nodes

    await cluster.until(lambda: serving({lost, left}))
    cluster.nodes.silent.add(lost)
    await cluster.until(lambda: serving({left}), 12.0)
    node = await cluster.client.resource(core.Node).get(lost)
    assert {(t.key, t.effect) for t in node.spec.taints} == {
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    }
    condition = next(c for c in node.status.conditions if c.type == "Ready")
    assert (condition.status, condition.reason) == ("Unknown", "NodeStatusUnknown")
    stuck = (await cluster.client.resource(core.Pod).list(cluster.namespace)).items
    old = [pod for pod in stuck if pod.spec.nodeName == lost]
    assert old and all(pod.metadata.HasField("deletionTimestamp") and not is_ready(pod) for pod in old)


async def test_a_namespace_has_its_account_and_goes_with_everything_in_it(cluster) -> None:
    accounts = cluster.client.resource(core.ServiceAccount)
    await cluster.until(lambda: accounts.get("default", cluster.namespace))
    await cluster.client.resource(apps.ReplicaSet).create(replica_set(cluster, "inside", 3))
    config = core.ConfigMap()
    config.metadata.name, config.metadata.namespace = "inside", cluster.namespace
    await cluster.client.resource(core.ConfigMap).create(config)
    lease = coordination.Lease()
    lease.metadata.name, lease.metadata.namespace = "inside", cluster.namespace
    await cluster.client.resource(coordination.Lease).create(lease)
    await cluster.until(lambda: pods_ready(cluster, "inside", 3))
    namespaces = cluster.client.resource(core.Namespace)
    await namespaces.delete(cluster.namespace)
    await cluster.until(lambda: gone(namespaces, cluster.namespace))
    for kind in (core.Pod, core.ConfigMap, core.ServiceAccount, apps.ReplicaSet, coordination.Lease):
        assert (await cluster.client.resource(kind).list(cluster.namespace)).items == []


async def pods_ready(cluster: Any, name: str, number: int) -> bool:
    return len([pod for pod in await cluster.pods(app=name) if is_ready(pod)]) == number


async def test_dependents_go_with_their_owner(cluster) -> None:
    sets = cluster.client.resource(apps.ReplicaSet)
    await sets.create(replica_set(cluster, "owner", 3))
    await cluster.until(lambda: pods_ready(cluster, "owner", 3))
    await sets.delete("owner", cluster.namespace, propagation_policy="Background")
    await cluster.until(lambda: no_pods(cluster, "owner"))


async def no_pods(cluster: Any, name: str) -> bool:
    return not (await cluster.client.resource(core.Pod).list(cluster.namespace, label_selector=f"app={name}")).items


async def test_foreground_deletion_waits_for_the_dependents(cluster) -> None:
    sets = cluster.client.resource(apps.ReplicaSet)
    await sets.create(replica_set(cluster, "fore", 3))
    await cluster.until(lambda: pods_ready(cluster, "fore", 3))
    await sets.delete("fore", cluster.namespace, propagation_policy="Foreground")
    await cluster.until(lambda: gone(sets, "fore", cluster.namespace))
    assert await no_pods(cluster, "fore")


async def test_orphaning_leaves_the_dependents(cluster) -> None:
    sets = cluster.client.resource(apps.ReplicaSet)
    await sets.create(replica_set(cluster, "orph", 2))
    await cluster.until(lambda: pods_ready(cluster, "orph", 2))
    await sets.delete("orph", cluster.namespace, propagation_policy="Orphan")
    await cluster.until(lambda: gone(sets, "orph", cluster.namespace))
    pods = await cluster.pods(app="orph")
    assert len(pods) == 2
    assert not any(pod.metadata.ownerReferences for pod in pods)


async def test_an_object_of_a_missing_owner_is_collected(cluster) -> None:
    config = core.ConfigMap()
    config.metadata.name, config.metadata.namespace = "late", cluster.namespace
    config.metadata.ownerReferences.add(apiVersion="apps/v1", kind="ReplicaSet", name="never", uid="no-such-uid")
    maps = cluster.client.resource(core.ConfigMap)
    await maps.create(config)
    await cluster.until(lambda: gone(maps, "late", cluster.namespace))


async def test_killed_in_the_middle_it_creates_no_pod_twice(client, cluster) -> None:
    """Other managers take over again and again while a ReplicaSet grows; the first one is the fixture's."""
    sets = cluster.client.resource(apps.ReplicaSet)
    chosen = options(leader_elect=True)
    await sets.create(replica_set(cluster, "steady", 1))
    for size in (20, 40, 60):
        await sets.patch("steady", cluster.namespace, {"spec": {"replicas": size}})
        async with managing(client, chosen):
            await asyncio.sleep(0.15)
    await cluster.until(lambda: pods_ready(cluster, "steady", 60))
    await asyncio.sleep(0.3)
    assert len(await cluster.pods(app="steady")) == 60
    with contextlib.suppress(StatusError):
        await sets.delete("steady", cluster.namespace)


async def test_roles_add_up_to_those_that_select_them(cluster) -> None:
    roles = cluster.client.resource(rbac.ClusterRole)
    part = rbac.ClusterRole()
    part.metadata.name = f"part-{cluster.namespace}"
    part.metadata.labels["rbac.authorization.k8s.io/aggregate-to-view"] = "true"
    part.rules.add(verbs=["get"], apiGroups=["example.com"], resources=["gadgets"])
    part.rules.add(verbs=["get"], nonResourceURLs=["/gadgets"])

    async def granted(wanted: bool) -> bool:
        found = [await roles.get(name) for name in ("view", "edit", "admin")]
        return all((rule in role.rules) == wanted for role in found for rule in part.rules)

    await roles.create(part)
    await cluster.until(lambda: granted(True))
    await roles.delete(part.metadata.name)
    await cluster.until(lambda: granted(False))
