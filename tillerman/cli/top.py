"""`tiller top`: what nodes and pods use now, asked of each node's kubelet."""

import asyncio
import os
import sys
from dataclasses import replace
from typing import Any

import click

from tillerman.api import quantity
from tillerman.api.selectors import parse_label_selector
from tillerman.cli.output import Table
from tillerman.cli.session import Session, verb, warn
from tillerman.pb.api import kubelet_pb2
from tillerman.pb.k8s import core_v1_pb2 as core

TIMEOUT = 10.0
MEBIBYTE = 1 << 20


async def stats_of(nodes: list[core.Node]) -> dict[str, kubelet_pb2.StatsResponse]:
    """By node name; a kubelet that does not answer is warned about and left out."""
    answers = await asyncio.gather(*(ask(node) for node in nodes))
    return {node.metadata.name: answer for node, answer in zip(nodes, answers, strict=True) if answer is not None}


async def ask(node: core.Node) -> kubelet_pb2.StatsResponse | None:
    import grpc.aio

    from tillerman.client.channel import ClientConfig, open_channel
    from tillerman.pb.api import kubelet_pb2_grpc

    host = next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
    port = node.status.daemonEndpoints.kubeletEndpoint.Port
    if not host or not port:
        warn(f"node {node.metadata.name} does not say where its kubelet is")
        return None
    config = ClientConfig.load(os.environ.get("TILLER_KUBECONFIG"))
    channel = open_channel(replace(config, servers=[f"{host}:{port}"]))
    try:
        answer: kubelet_pb2.StatsResponse = await kubelet_pb2_grpc.KubeletStub(channel).Stats(
            kubelet_pb2.StatsRequest(), timeout=TIMEOUT
        )
        return answer
    except grpc.aio.AioRpcError as e:
        warn(f"the kubelet of node {node.metadata.name} does not answer: {e.details()}")
        return None
    finally:
        await channel.close(None)


def cores(nanocores: int) -> str:
    return f"{-(-nanocores // 1_000_000)}m"


def mebibytes(count: int) -> str:
    return f"{count // MEBIBYTE}Mi"


@click.group()
def top() -> None:
    """Show what nodes and pods use."""


SORT = click.option("--sort-by", type=click.Choice(["cpu", "memory"]), default=None, help="The greatest first.")


@top.command("nodes")
@click.argument("name", required=False)
@click.option("-l", "--selector", default="", help="Label selector.")
@click.option("--no-headers", is_flag=True)
@SORT
@verb
async def top_nodes(session: Session, name: str | None, selector: str, no_headers: bool, sort_by: str | None) -> int:
    """CPU and memory of nodes, also as shares of what is allocatable."""
    client = session.client.resource(core.Node)
    nodes = [await client.get(name)] if name else (await client.list(label_selector=selector)).items
    stats = await stats_of(nodes)
    rows: list[tuple[int, int, list[Any]]] = []
    for node in nodes:
        found = stats.get(node.metadata.name)
        if found is None:
            rows.append((0, 0, [node.metadata.name, *["<unknown>"] * 4]))
            continue
        cpu, memory = found.node_usage.cpu_nanocores, found.node_usage.memory_bytes
        allocatable = node.status.allocatable
        cpu_share = share(cpu / 1e6, quantity.milli_value(allocatable["cpu"]) if "cpu" in allocatable else 0)
        memory_share = share(memory, quantity.value(allocatable["memory"]) if "memory" in allocatable else 0)
        rows.append((cpu, memory, [node.metadata.name, cores(cpu), cpu_share, mebibytes(memory), memory_share]))
    write(["Name", "CPU(cores)", "CPU%", "Memory(bytes)", "Memory%"], rows, sort_by, no_headers)
    return 0 if len(stats) == len(nodes) else 1


def share(used: float, whole: int) -> str:
    return f"{int(used * 100 / whole)}%" if whole else "<unknown>"


@top.command("pods")
@click.argument("name", required=False)
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("-l", "--selector", default="", help="Label selector.")
@click.option("--containers", is_flag=True, help="A row per container.")
@click.option("--no-headers", is_flag=True)
@SORT
@verb
async def top_pods(
    session: Session,
    name: str | None,
    all_namespaces: bool,
    selector: str,
    containers: bool,
    no_headers: bool,
    sort_by: str | None,
) -> None:
    """CPU and memory of pods."""
    parse_label_selector(selector)
    namespace = None if all_namespaces else session.namespace
    client = session.client.resource(core.Pod)
    if name:
        pods = [await client.get(name, session.namespace)]
    else:
        pods = (await client.list(namespace, label_selector=selector)).items
    used_nodes = {pod.spec.nodeName for pod in pods}
    nodes = (await session.client.resource(core.Node).list()).items
    stats = await stats_of([node for node in nodes if node.metadata.name in used_nodes])
    found = {pod.uid: pod for answer in stats.values() for pod in answer.pods}
    rows: list[tuple[int, int, list[Any]]] = []
    for pod in pods:
        measured = found.get(pod.metadata.uid)
        if measured is None:
            continue
        first = [pod.metadata.namespace] if all_namespaces else []
        usages = [(c.name, c.usage.cpu_nanocores, c.usage.memory_bytes) for c in measured.containers]
        if containers:
            rows += [
                (cpu, memory, [*first, pod.metadata.name, container, cores(cpu), mebibytes(memory)])
                for container, cpu, memory in usages
            ]
        else:
            cpu, memory = sum(u[1] for u in usages), sum(u[2] for u in usages)
            rows.append((cpu, memory, [*first, pod.metadata.name, cores(cpu), mebibytes(memory)]))
    header = [*(["Namespace"] if all_namespaces else []), "Pod" if containers else "Name"]
    header += [*(["Name"] if containers else []), "CPU(cores)", "Memory(bytes)"]
    if not rows:
        click.echo("No pods with measurements found.", err=True)
        return
    write(header, rows, sort_by, no_headers)


def write(header: list[str], rows: list[tuple[int, int, list[Any]]], sort_by: str | None, no_headers: bool) -> None:
    if sort_by:
        rows = sorted(rows, key=lambda row: row[0 if sort_by == "cpu" else 1], reverse=True)
    Table(header, show_header=not no_headers, write=sys.stdout.write).rows([row for _, _, row in rows])


top.add_command(top_nodes, "node")
top.add_command(top_pods, "pod")
