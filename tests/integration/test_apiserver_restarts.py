"""Nothing is lost and nothing comes twice when etcd or the apiserver goes away."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from services.apiserver.options import ApiserverOptions
from tests.integration.conftest import Etcd, RunningApiserver, serving
from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.k8s import core_v1_pb2 as core


def config_map(name: str, **data: str) -> core.ConfigMap:
    obj = core.ConfigMap()
    obj.metadata.name = name
    obj.metadata.namespace = "default"
    obj.data.update(data)
    return obj


async def test_a_watch_survives_sigkill_of_etcd(etcd: Etcd, apiserver: RunningApiserver) -> None:
    maps = apiserver.client.resource(core.ConfigMap)
    mark = f"k{uuid.uuid4().hex[:6]}"
    start = await maps.list("default")
    seen: list[str] = []

    async def follow() -> None:
        async for event in maps.watch("default", resource_version=start.resource_version):
            if event.object.metadata.name.startswith(mark):
                seen.append(event.object.metadata.name)
                if event.object.metadata.name == f"{mark}-last":
                    return

    watching = asyncio.create_task(follow())
    await asyncio.gather(*(maps.create(config_map(f"{mark}-{i:02}")) for i in range(10)))
    etcd.kill()
    writes = [asyncio.create_task(maps.create(config_map(f"{mark}-{i:02}"))) for i in range(10, 20)]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(etcd.start)
    await asyncio.gather(*writes)
    await maps.create(config_map(f"{mark}-last"))
    await asyncio.wait_for(watching, 20)
    assert sorted(seen[:-1]) == [f"{mark}-{i:02}" for i in range(20)]


async def test_a_restarted_apiserver_serves_what_was_stored_and_resumes_watches(etcd: Etcd) -> None:
    options = ApiserverOptions(insecure=True, etcd_servers=[etcd.address])
    name = f"r{uuid.uuid4().hex[:6]}"
    async with serving(options) as first:
        maps = first.client.resource(core.ConfigMap)
        made = await maps.create(config_map(name, n="0"))
        revision = made.metadata.resourceVersion
        made.data["n"] = "1"
        made = await maps.update(made)
        await maps.delete(name)
    async with serving(options) as second:
        maps = second.client.resource(core.ConfigMap)
        with pytest.raises(StatusError):
            await maps.get(name)
        assert "default" in {n.metadata.name for n in (await second.client.resource(core.Namespace).list()).items}
        kinds = []
        async for event in maps.watch("default", resource_version=revision):
            if event.object.metadata.name == name:
                kinds.append((event.type, event.object.data["n"]))
            if len(kinds) == 2:
                break
        assert kinds == [("MODIFIED", "1"), ("DELETED", "1")]


async def test_compacted_revisions_are_expired(apiserver: RunningApiserver) -> None:
    maps = apiserver.client.resource(core.ConfigMap)
    made = await maps.create(config_map(f"c{uuid.uuid4().hex[:6]}"))
    made.data["x"] = "1"
    made = await maps.update(made)
    await apiserver.server.store.client.compact(int(made.metadata.resourceVersion))
    with pytest.raises(StatusError) as caught:
        await maps.list("default", resource_version="2", resource_version_match="Exact")
    assert caught.value.code == 410
    with pytest.raises(StatusError) as caught:
        async for _ in maps.watch("default", resource_version="2"):
            pass
    assert caught.value.code == 410


async def test_services_get_unique_addresses_over_restarts(etcd: Etcd) -> None:
    options = ApiserverOptions(insecure=True, etcd_servers=[etcd.address])
    mark = f"s{uuid.uuid4().hex[:6]}"
    found: set[str] = set()
    ports: set[int] = set()
    async with serving(options) as one, serving(options) as two:
        made = await asyncio.gather(
            *(
                service(server.client, f"{mark}-{i}{side}")
                for i in range(20)
                for side, server in (("a", one), ("b", two))
            )
        )
        found |= {item.spec.clusterIP for item in made}
        ports |= {port.nodePort for item in made for port in item.spec.ports}
        kubernetes = await one.client.resource(core.Service).get("kubernetes")
        assert kubernetes.spec.clusterIP == "10.96.0.1"
    async with serving(options) as three:
        made = await asyncio.gather(*(service(three.client, f"{mark}-{i}c") for i in range(10)))
        found |= {item.spec.clusterIP for item in made}
        ports |= {port.nodePort for item in made for port in item.spec.ports}
        assert len(found) == len(ports) == 50 and "10.96.0.1" not in found and "10.96.0.10" not in found
        with pytest.raises(StatusError) as caught:
            await service(three.client, f"{mark}-dup", cluster_ip=made[0].spec.clusterIP)
        assert "provided IP is already allocated" in caught.value.message
        await three.client.resource(core.Service).delete(made[0].metadata.name)
        again = await service(three.client, f"{mark}-dup", cluster_ip=made[0].spec.clusterIP)
        assert again.spec.clusterIP == made[0].spec.clusterIP


async def service(client: Client, name: str, cluster_ip: str = "") -> core.Service:
    obj = core.Service()
    obj.metadata.name = name
    obj.metadata.namespace = "default"
    obj.spec.type = "NodePort"
    if cluster_ip:
        obj.spec.clusterIP = cluster_ip
    obj.spec.ports.add(port=80, protocol="TCP")
    return await client.resource(core.Service).create(obj)
