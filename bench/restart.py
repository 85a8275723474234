"""A killed container running again, against the floor: create and start one container through Docker's API."""

import asyncio
import statistics
import time
from typing import Any

import docker

from bench.local import Local, cluster, report
from bench.replicas import IMAGE, bare
from tillerman.api.pods import is_ready
from tillerman.pb.k8s import core_v1_pb2 as core

RUNS = 5


def main() -> None:
    engine = docker.from_env()
    with cluster("--runtime=docker", "--nodes=1") as local:
        floor = statistics.median(bare(engine, 1) for _ in range(RUNS))
        again = statistics.median(asyncio.run(kill_one(local, engine, n)) for n in range(RUNS))
    report("killed container running again", again, floor, "one bare container", "<= 0.5 s")


async def kill_one(local: Local, engine: Any, n: int) -> float:
    """Seconds from the kill to the status that says the container runs again; a new pod, so no back-off is pending."""
    async with local.client() as client:
        pods = client.resource(core.Pod)
        name = f"kill-{n}"
        pod = core.Pod()
        pod.metadata.name, pod.metadata.namespace = name, "default"
        pod.spec.containers.add(name="app", image=IMAGE)
        began = (await pods.create(pod)).metadata.resourceVersion
        killed_at = 0.0
        async for event in pods.watch("default", field_selector=f"metadata.name={name}", resource_version=began):
            status = event.object.status
            if not killed_at and is_ready(event.object):
                label = {"label": [f"io.kubernetes.pod.name={name}", "io.kubernetes.container.name=app"]}
                killed_at = time.perf_counter()
                engine.containers.list(filters=label)[0].kill()
            elif (
                killed_at
                and status.containerStatuses[0].restartCount
                and status.containerStatuses[0].state.HasField("running")
            ):
                took = time.perf_counter() - killed_at
                await pods.delete(name, "default", grace_period_seconds=0)
                return took
    raise RuntimeError(f"the watch on pod {name} ended")


if __name__ == "__main__":
    main()
