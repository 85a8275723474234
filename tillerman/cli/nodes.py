"""Verbs for nodes (cordon, uncordon, drain, taint), `wait`, and `why`, which asks the scheduler."""

import asyncio
from typing import Any

import click

from tillerman.api.status import StatusError, is_not_found
from tillerman.cli.resolve import Kind, Object, Ref, client_of, find_kind, namespace_of, parse_refs
from tillerman.cli.session import Session, verb


async def node_refs(session: Session, words: tuple[str, ...], selector: str = "") -> list[Ref]:
    kind = await find_kind(session, "nodes")
    if selector:
        found = await client_of(session, kind).list(label_selector=selector)
        return [Ref(kind, o["metadata"]["name"]) for o in found.items]
    return [
        Ref(kind, word.removeprefix("node/").removeprefix("nodes/")) for word in words if word not in ("node", "nodes")
    ]


async def set_schedulable(session: Session, ref: Ref, unschedulable: bool) -> None:
    client = client_of(session, ref.kind)
    live = await client.get(ref.name)
    done = "cordoned" if unschedulable else "uncordoned"
    if bool(live["spec"].get("unschedulable")) == unschedulable:
        click.echo(f"{ref} already {done}")
        return
    await client.patch(ref.name, None, {"spec": {"unschedulable": True if unschedulable else None}}, type="merge")
    click.echo(f"{ref} {done}")


@click.command()
@click.argument("words", nargs=-1, required=True)
@verb
async def cordon(session: Session, words: tuple[str, ...]) -> None:
    """Let no new pods onto nodes."""
    for ref in await node_refs(session, words):
        await set_schedulable(session, ref, True)


@click.command()
@click.argument("words", nargs=-1, required=True)
@verb
async def uncordon(session: Session, words: tuple[str, ...]) -> None:
    """Let new pods onto nodes again."""
    for ref in await node_refs(session, words):
        await set_schedulable(session, ref, False)


@click.command()
@click.argument("words", nargs=-1)
@click.option("-l", "--selector", default="")
@click.option("--ignore-daemonsets", is_flag=True)
@click.option("--delete-emptydir-data", is_flag=True)
@click.option("--force", is_flag=True, help="Pods without a controller, too: nothing makes them again.")
@click.option("--grace-period", type=int, default=-1)
@click.option("--timeout", default=0.0, help="Seconds; 0 waits as long as it takes.")
@verb
async def drain(
    session: Session, words: tuple[str, ...], selector: str, ignore_daemonsets: bool, delete_emptydir_data: bool,
    force: bool, grace_period: int, timeout: float,
) -> None:  # fmt: skip
    """Take nodes out of work: cordon them and evict their pods, as PodDisruptionBudgets allow."""
    refs = await node_refs(session, words, selector)
    if not refs:
        raise click.UsageError("name a node, or give a selector with -l")
    async with asyncio.timeout(timeout or None):
        for ref in refs:
            await client_of(session, ref.kind).get(ref.name)
            await set_schedulable(session, ref, True)
            pods_kind = await find_kind(session, "pods")
            pods = client_of(session, pods_kind)
            found = (await pods.list(None, field_selector=f"spec.nodeName={ref.name}")).items
            going, refusals = drainable(found, ignore_daemonsets, delete_emptydir_data, force)
            if refusals:
                raise ValueError(f'unable to drain node "{ref.name}", aborting command...: ' + "; ".join(refusals))
            await asyncio.gather(*(evict(pods, pod, grace_period) for pod in going))
            click.echo(f"{ref} drained")


def drainable(pods: list[Object], daemons: bool, empty_dirs: bool, force: bool) -> tuple[list[Object], list[str]]:
    """The pods to evict, and why some may not be."""
    going: list[Object] = []
    kept: dict[str, list[str]] = {}
    for pod in pods:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        owner = next((o["kind"] for o in pod["metadata"].get("ownerReferences", []) if o.get("controller")), "")
        finished = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if "kubernetes.io/config.mirror" in pod["metadata"].get("annotations", {}):
            continue
        if owner == "DaemonSet" and not finished:
            if not daemons:
                kept.setdefault("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)", []).append(name)
            continue
        if not finished and not owner and not force:
            kept.setdefault("Pods declare no controller (use --force to override)", []).append(name)
        elif not finished and not empty_dirs and any("emptyDir" in v for v in pod["spec"].get("volumes", [])):
            kept.setdefault("Pods with local storage (use --delete-emptydir-data to override)", []).append(name)
        else:
            going.append(pod)
    return going, [f"cannot delete {why}: {', '.join(names)}" for why, names in kept.items()]


async def evict(pods: Any, pod: Object, grace_period: int) -> None:
    """Asks until the pod may go, and returns when it has gone."""
    from tillerman.cli.apply import until_gone

    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    click.echo(f"evicting pod {namespace}/{name}")
    eviction: Object = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    if grace_period >= 0:
        eviction["deleteOptions"] = {"gracePeriodSeconds": grace_period}
    while True:
        try:
            await pods.subresource_create(name, namespace, "eviction", eviction)
            break
        except StatusError as e:
            if is_not_found(e):
                return
            if e.reason != "TooManyRequests":
                raise
            click.echo(
                f'error when evicting pods/"{name}" -n "{namespace}" (will retry after 5s): {e.message}', err=True
            )
            await asyncio.sleep(5)
    kind = Kind("v1", "pods", "pod", "Pod", True)
    await until_gone(pods, Ref(kind, name), namespace)
    click.echo(f"pod/{name} evicted")


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--overwrite", is_flag=True)
@verb
async def taint(session: Session, words: tuple[str, ...], overwrite: bool) -> None:
    """NODE… KEY=VALUE:EFFECT or KEY:EFFECT- to remove."""
    changes = [w for w in words if ":" in w or w.endswith("-")]
    for ref in await node_refs(session, tuple(w for w in words if w not in changes)):
        client = client_of(session, ref.kind)
        taints = (await client.get(ref.name))["spec"].get("taints", [])
        for change in changes:
            key, _, effect = change.rstrip("-").partition(":")
            key, _, value = key.partition("=")
            matching = [t for t in taints if t["key"] == key and effect in ("", t["effect"])]
            if change.endswith("-"):
                if not matching:
                    raise ValueError(f'taint "{change.rstrip("-")}" not found')
                taints = [t for t in taints if t not in matching]
                continue
            if effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
                raise ValueError(f"invalid taint effect: {effect}, unsupported taint effect")
            if matching and not overwrite:
                raise ValueError(
                    f"node {ref.name} already has {key} taint(s) with same effect(s) and --overwrite is false"
                )
            taints = [t for t in taints if t not in matching]
            taints.append({"key": key, "effect": effect} | ({"value": value} if value else {}))
        await client.patch(ref.name, None, {"spec": {"taints": taints or None}}, type="merge")
        click.echo(f"{ref} tainted" if not all(c.endswith("-") for c in changes) else f"{ref} untainted")


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--for", "condition", required=True, help="condition=Ready[=Value], delete, or jsonpath={.a.b}=value.")
@click.option("--timeout", default="30s", show_default=True)
@click.option("-l", "--selector", default="")
@click.option("--all", "everything", is_flag=True)
@verb
async def wait(
    session: Session, words: tuple[str, ...], condition: str, timeout: str, selector: str, everything: bool
) -> None:
    """Wait until objects are as wanted."""
    from tillerman.cli.change import refs_or_selected
    from tillerman.cli.streams import seconds

    refs = await refs_or_selected(session, words, selector, everything)
    limit = seconds(timeout)
    try:
        async with asyncio.timeout(limit or None):
            await asyncio.gather(*(wait_one(session, ref, condition) for ref in refs))
    except TimeoutError:
        raise ValueError(f"timed out waiting for the condition on {', '.join(map(str, refs))}") from None


async def wait_one(session: Session, ref: Ref, condition: str) -> None:
    from tillerman.cli.apply import until_gone

    client, namespace = client_of(session, ref.kind), namespace_of(session, ref.kind)
    if condition == "delete":
        await until_gone(client, ref, namespace)
        click.echo(f"{ref} condition met")
        return
    live = await client.get(ref.name, namespace)
    while not met(live, condition):
        version = live["metadata"]["resourceVersion"]
        fields = f"metadata.name={ref.name}"
        async for event in client.watch(namespace, field_selector=fields, resource_version=version):
            if event.type in ("ADDED", "MODIFIED"):
                live = event.object
                break
    click.echo(f"{ref} condition met")


def met(obj: Object, condition: str) -> bool:
    kind, _, rest = condition.partition("=")
    if kind == "condition":
        name, _, value = rest.partition("=")
        return any(
            c["type"].lower() == name.lower() and c["status"].lower() == (value or "True").lower()
            for c in obj.get("status", {}).get("conditions", [])
        )
    if kind == "jsonpath":
        from tillerman.api.jsonpath import render

        path, _, value = rest.rpartition("=")
        return render(path or rest, obj) == value if path else bool(render(rest, obj))
    raise ValueError(f"unrecognized condition: {condition!r}: condition=NAME, delete or jsonpath=PATH=VALUE")


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--scheduler", default="", help="host:port of the scheduler; else the local cluster's.")
@verb
async def why(session: Session, words: tuple[str, ...], scheduler: str) -> None:
    """Ask the scheduler why a pod is where it is, or nowhere: tiller why pod NAME."""
    from tillerman.cli.components import component_channel
    from tillerman.pb.api import scheduler_pb2, scheduler_pb2_grpc

    (ref,) = await parse_refs(session, words)
    async with component_channel("scheduler", scheduler) as channel:
        request = scheduler_pb2.ExplainRequest(namespace=session.namespace, name=ref.name)
        answer = await scheduler_pb2_grpc.SchedulerStub(channel).Explain(request, timeout=10)
    click.echo(f"{ref}: {answer.state}" + (f" on {answer.node}" if answer.node else ""))
    if answer.message:
        click.echo(answer.message)
    for node in sorted(answer.nodes, key=lambda n: -n.total_score):
        if node.feasible:
            scores = ", ".join(f"{k} {v:.1f}" for k, v in sorted(node.scores.items()))
            click.echo(f"  {node.node}: fits, score {node.total_score:.1f}" + (f" ({scores})" if scores else ""))
        else:
            click.echo(f"  {node.node}: {node.plugin}: {'; '.join(node.reasons)}")
