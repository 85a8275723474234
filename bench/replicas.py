"""10 replicas Ready, then 10 -> 30, against the floor: as many bare containers (two per pod) through Docker's API."""

import asyncio
import concurrent.futures
import time
from typing import Any

import docker

from bench.local import Local, cluster, report
from tillerman.api.pods import is_ready
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

IMAGE = "first-app:1"
# Where one Docker Engine stops gaining on two cores; the kubelet starts as many at once.
PARALLEL = 4


def main() -> None:
    engine = docker.from_env()
    try:
        engine.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        raise SystemExit(f"build {IMAGE} first: docker build -t {IMAGE} examples/first-app") from None
    with cluster("--runtime=docker") as local:
        floor_10, floor_20_more = bare(engine, 20), bare(engine, 40)
        create, scale = asyncio.run(pods(local))
    report("create deployment --replicas=10 -> 10 Ready", create, floor_10, "20 bare containers", "<= 1.25")
    report("scale 10 -> 30", scale, floor_20_more, "40 bare containers", "<= 1.25")


def bare(engine: Any, count: int) -> float:
    """Seconds to create and start the containers, several at once; they are removed afterwards."""
    network = engine.networks.create("tillerman-bench-floor", driver="bridge")
    try:
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            began = time.perf_counter()
            options: dict[str, Any] = {
                "detach": True,
                "network": network.name,
                "command": ["sleep", "1000"],
                "entrypoint": "",
            }
            started = list(pool.map(lambda _: engine.containers.run(IMAGE, **options), range(count)))
            took = time.perf_counter() - began
            list(pool.map(lambda c: c.remove(force=True), started))
    finally:
        network.remove()
    return took


async def pods(local: Local) -> tuple[float, float]:
    async with local.client() as client:
        deployments = client.resource(apps.Deployment)
        template = core.PodTemplateSpec()
        template.metadata.labels["app"] = "bench"
        template.spec.containers.add(name="app", image=IMAGE)
        deployment = apps.Deployment(spec=apps.DeploymentSpec(replicas=10, template=template))
        deployment.metadata.name, deployment.metadata.namespace = "bench", "default"
        deployment.spec.selector.matchLabels["app"] = "bench"
        began = time.perf_counter()
        await deployments.create(deployment)
        await ready(client, 10)
        create = time.perf_counter() - began
        began = time.perf_counter()
        await deployments.patch("bench", "default", {"spec": {"replicas": 30}}, type="merge")
        await ready(client, 30)
        return create, time.perf_counter() - began


async def ready(client: Any, count: int) -> None:
    """Returns when so many pods of the deployment are Ready; follows a watch, so nothing is lost to polling."""
    pods = client.resource(core.Pod)
    found = await pods.list("default", label_selector="app=bench")
    names = {p.metadata.name for p in found.items if is_ready(p)}
    if len(names) >= count:
        return
    async for event in pods.watch("default", label_selector="app=bench", resource_version=found.resource_version):
        if event.type in ("ADDED", "MODIFIED") and is_ready(event.object):
            names.add(event.object.metadata.name)
        if len(names) >= count:
            return


if __name__ == "__main__":
    main()
