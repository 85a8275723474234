"""Pods bound per second on 5,000 nodes with everything real: etcd, apiserver and scheduler, each its own process.

Kubernetes 1.20 places about 250 pods a second on the same machine. The floor, taken in the same run: the same pods
bound by this process, which knows all nodes beforehand, in batches as large as the scheduler's.
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.scheduler import NODES, node, pods
from tillerman.client.batch import BatchOp
from tillerman.client.channel import ClientConfig
from tillerman.client.client import Client
from tillerman.pb.k8s import core_v1_pb2 as core

PODS = 5000
BATCH = 128


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


@contextlib.contextmanager
def control_plane(folder: Path) -> Iterator[tuple[ClientConfig, list[str]]]:
    """etcd and an apiserver in plain text; yields how to reach it, and the scheduler's command."""
    etcd_port, peer_port, port = free_ports(3)
    binary = Path(sys.executable).with_name("etcd")
    client, peer = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
    etcd = [
        str(binary if binary.exists() else shutil.which("etcd")),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=error",
    ]
    python = [sys.executable, "-m"]
    apiserver = [*python, "services.apiserver", "--insecure", f"--port={port}", f"--etcd-servers=127.0.0.1:{etcd_port}"]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "users: [{name: u, user: {}}]\nclusters:\n- name: c\n  cluster:\n    extensions:\n"
        f"    - {{name: tillerman.dev/grpc, extension: {{endpoints: ['127.0.0.1:{port}'], insecure: true}}}}\n"
    )
    scheduler = [*python, "services.scheduler", "--insecure", f"--kubeconfig={kubeconfig}", "--leader-elect=false"]
    with (folder / "log").open("ab") as log:
        running = [subprocess.Popen(argv, stdout=log, stderr=log) for argv in (etcd, apiserver)]
        try:
            yield ClientConfig([f"127.0.0.1:{port}"], insecure=True), scheduler
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait()


async def in_batches(client: Client, operations: list[BatchOp]) -> float:
    """Seconds; four batches at once. Raises what went wrong first."""
    chunks = [operations[i : i + BATCH] for i in range(0, len(operations), BATCH)]
    lanes = asyncio.Semaphore(4)

    async def send(chunk: list[BatchOp]) -> None:
        async with lanes:
            for outcome in await client.batch(chunk):
                if isinstance(outcome, Exception):
                    raise outcome

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for chunk in chunks:
            group.create_task(send(chunk))
    return time.perf_counter() - began


def binding(pod: core.Pod, node_name: str) -> BatchOp:
    made = core.Binding()
    made.metadata.name, made.metadata.namespace = pod.metadata.name, pod.metadata.namespace
    made.target.kind, made.target.name = "Node", node_name
    return BatchOp.create(
        made, of=core.Pod, name=pod.metadata.name, namespace=pod.metadata.namespace, subresource="binding"
    )


def prefixed(made: list[core.Pod], prefix: str, scheduler: str) -> list[core.Pod]:
    for pod in made:
        pod.metadata.name = f"{prefix}{pod.metadata.name}"
        pod.metadata.ClearField("uid")
        pod.spec.schedulerName = scheduler
    return made


async def all_bound(client: Client, prefix: str, count: int) -> None:
    """Follows a watch until so many pods have a node."""
    resource = client.resource(core.Pod)
    listed = await resource.list("default")
    bound = {p.metadata.name for p in listed.items if p.spec.nodeName and p.metadata.name.startswith(prefix)}
    if len(bound) == count:
        return
    async for event in resource.watch("default", resource_version=listed.resource_version):
        if event.type == "MODIFIED" and event.object.spec.nodeName and event.object.metadata.name.startswith(prefix):
            bound.add(event.object.metadata.name)
            if len(bound) == count:
                return


async def measure(config: ClientConfig, scheduler: list[str], log: Path) -> None:
    client = Client.from_config(config, wait_for_ready=True)
    nodes = [node(number) for number in range(NODES)]
    await in_batches(client, [BatchOp.create(each) for each in nodes])
    untaint = {"spec": {"taints": None}}
    await in_batches(client, [BatchOp.patch(core.Node, each.metadata.name, "", untaint) for each in nodes])

    mine = prefixed(pods(PODS, owners=10), "floor-", "nobody")
    await in_batches(client, [BatchOp.create(pod) for pod in mine])
    binds = [binding(pod, nodes[i % NODES].metadata.name) for i, pod in enumerate(mine)]
    floor = PODS / await in_batches(client, binds)

    theirs = prefixed(pods(PODS, owners=10), "real-", "default-scheduler")
    await in_batches(client, [BatchOp.create(pod) for pod in theirs])
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(*scheduler, stdout=output, stderr=output)
    try:
        began = time.perf_counter()
        watching = asyncio.ensure_future(all_bound(client, "real-", PODS))
        started = None
        async for event in client.resource(core.Pod).watch("default"):
            if event.type == "MODIFIED" and event.object.metadata.name.startswith("real-"):
                started = time.perf_counter()
                break
        await asyncio.wait_for(watching, 120)
        assert started is not None
        seconds = time.perf_counter() - started
        print(f"scheduler's start to its first bind with {NODES} nodes, {2 * PODS} pods: {started - began:.2f} s")
        print(
            f"{PODS} pods bound: {PODS / seconds:.0f} pods/s; bare batched binds: {floor:.0f} pods/s; "
            f"ratio {PODS / seconds / floor:.2f}"
        )
    finally:
        process.terminate()
        await process.wait()
        await client.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tillerman-bench-") as name:
        folder = Path(name)
        with control_plane(folder) as (config, scheduler):
            try:
                asyncio.run(measure(config, scheduler, folder / "log"))
            except BaseException:
                sys.stderr.write((folder / "log").read_text()[-4000:])
                raise


if __name__ == "__main__":
    sys.exit(main())
