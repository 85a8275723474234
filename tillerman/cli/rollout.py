"""`tiller rollout`: status, history, undo, restart, pause, resume."""

import datetime as dt
from typing import Any

import click

from tillerman.cli.resolve import Kind, Object, Ref, client_of, find_kind, one_ref, parse_refs
from tillerman.cli.session import Session, verb

REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"


@click.group()
def rollout() -> None:
    """Follow, undo and restart updates."""


@rollout.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-w", "--watch/--no-watch", default=True, help="Wait until it is done.")
@click.option("--timeout", default=0.0, help="Seconds; 0 waits as long as it takes.")
@verb
async def status(session: Session, words: tuple[str, ...], watch: bool, timeout: float) -> int:
    """Tell how far an update is, and wait for its end."""
    import asyncio

    ref = await one_ref(session, words)
    if ref.kind.kind not in PROGRESS:
        raise ValueError(f"no status viewer for {ref.kind.kind}: {', '.join(PROGRESS)} have one")
    try:
        async with asyncio.timeout(timeout or None):
            return await follow(session, ref, watch)
    except TimeoutError:
        raise ValueError("timed out waiting for the condition") from None


async def follow(session: Session, ref: Ref, watch: bool) -> int:
    client, progress = client_of(session, ref.kind), PROGRESS[ref.kind.kind]
    live = await client.get(ref.name, session.namespace)
    said = ""
    while True:
        text, done = progress(live)
        if text != said:
            click.echo(text)
            said = text
        if done or not watch:
            return 0
        version = live["metadata"]["resourceVersion"]
        fields = f"metadata.name={ref.name}"
        async for event in client.watch(session.namespace, field_selector=fields, resource_version=version):
            if event.type == "DELETED":
                raise ValueError("object has been deleted")
            if event.type in ("ADDED", "MODIFIED"):
                live = event.object
                break


def deployment_progress(obj: Object) -> tuple[str, bool]:
    """(what to say, whether it is done). Raises ValueError when its deadline has passed."""
    name, spec, now = obj["metadata"]["name"], obj["spec"], obj.get("status", {})
    if obj["metadata"].get("generation", 0) > now.get("observedGeneration", 0):
        return "Waiting for deployment spec update to be observed...", False
    for condition in now.get("conditions", []):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            raise ValueError(f'deployment "{name}" exceeded its progress deadline')
    wanted, updated = spec.get("replicas", 1), now.get("updatedReplicas", 0)
    waiting = f'Waiting for deployment "{name}" rollout to finish: '
    if updated < wanted:
        return f"{waiting}{updated} out of {wanted} new replicas have been updated...", False
    if now.get("replicas", 0) > updated:
        return f"{waiting}{now['replicas'] - updated} old replicas are pending termination...", False
    if now.get("availableReplicas", 0) < updated:
        return f"{waiting}{now.get('availableReplicas', 0)} of {updated} updated replicas are available...", False
    return f'deployment "{name}" successfully rolled out', True


def daemon_set_progress(obj: Object) -> tuple[str, bool]:
    name, now = obj["metadata"]["name"], obj.get("status", {})
    if obj["metadata"].get("generation", 0) > now.get("observedGeneration", 0):
        return "Waiting for daemon set spec update to be observed...", False
    wanted, updated = now.get("desiredNumberScheduled", 0), now.get("updatedNumberScheduled", 0)
    waiting = f'Waiting for daemon set "{name}" rollout to finish: '
    if updated < wanted:
        return f"{waiting}{updated} out of {wanted} new pods have been updated...", False
    if now.get("numberAvailable", 0) < wanted:
        return f"{waiting}{now.get('numberAvailable', 0)} of {wanted} updated pods are available...", False
    return f'daemon set "{name}" successfully rolled out', True


def stateful_set_progress(obj: Object) -> tuple[str, bool]:
    wanted, now = obj["spec"].get("replicas", 1), obj.get("status", {})
    if obj["metadata"].get("generation", 0) > now.get("observedGeneration", 0):
        return "Waiting for statefulset spec update to be observed...", False
    if now.get("readyReplicas", 0) < wanted:
        return f"Waiting for {wanted - now.get('readyReplicas', 0)} pods to be ready...", False
    if now.get("updateRevision") != now.get("currentRevision"):
        done = now.get("updatedReplicas", 0)
        return (
            f"waiting for statefulset rolling update to complete {done} pods at revision {now['updateRevision']}...",
            False,
        )
    return f"statefulset rolling update complete {wanted} pods at revision {now.get('currentRevision', '')}...", True


PROGRESS = {
    "Deployment": deployment_progress,
    "DaemonSet": daemon_set_progress,
    "StatefulSet": stateful_set_progress,
}


async def revisions(session: Session, ref: Ref) -> tuple[Object, dict[int, Object]]:
    """A deployment and its replica sets by revision."""
    if ref.kind.kind != "Deployment":
        raise ValueError(f"no history viewer for {ref.kind.kind}: Deployment has one")
    live = await client_of(session, ref.kind).get(ref.name, session.namespace)
    sets: Kind = await find_kind(session, "replicasets.apps")
    found = await client_of(session, sets).list(session.namespace)
    uid = live["metadata"]["uid"]
    owned: dict[int, Object] = {}
    for item in found.items:
        owners = item["metadata"].get("ownerReferences", [])
        number = item["metadata"].get("annotations", {}).get(REVISION, "")
        if any(o.get("uid") == uid for o in owners) and number.isdigit():
            owned[int(number)] = item
    return live, dict(sorted(owned.items()))


@rollout.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--revision", type=int, default=0, help="Show the pod template of this revision.")
@verb
async def history(session: Session, words: tuple[str, ...], revision: int) -> None:
    """List the revisions of a deployment."""
    ref = await one_ref(session, words)
    _, found = await revisions(session, ref)
    if revision:
        from tillerman.api.manifest import to_yaml

        if revision not in found:
            raise ValueError(f"unable to find the specified revision {revision}")
        click.echo(f"{ref} with revision #{revision}\n{to_yaml(template_of(found[revision]))}", nl=False)
        return
    click.echo(f"{ref} \nREVISION  CHANGE-CAUSE")
    for number, item in found.items():
        cause = item["metadata"].get("annotations", {}).get("kubernetes.io/change-cause", "<none>")
        click.echo(f"{number:<9} {cause}")


def template_of(replica_set: Object) -> Object:
    """A replica set's pod template as its deployment had it."""
    template: Object = replica_set["spec"]["template"]
    labels = {k: v for k, v in template["metadata"].get("labels", {}).items() if k != HASH}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


@rollout.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--to-revision", type=int, default=0, help="0: the one before.")
@verb
async def undo(session: Session, words: tuple[str, ...], to_revision: int) -> None:
    """Go back to an earlier revision."""
    ref = await one_ref(session, words)
    live, found = await revisions(session, ref)
    if live["spec"].get("paused"):
        raise ValueError(f'you cannot rollback a paused deployment; resume it first with "tiller rollout resume {ref}"')
    current = int(live["metadata"].get("annotations", {}).get(REVISION, "0"))
    earlier = [n for n in found if n < current]
    wanted = to_revision or (earlier[-1] if earlier else 0)
    if wanted not in found:
        raise ValueError(
            f"unable to find specified revision {to_revision} in history" if to_revision else
            f"no rollout history found for {ref}"
        )  # fmt: skip
    template = template_of(found[wanted])
    if template == live["spec"]["template"]:
        click.echo(f"{ref} skipped rollback (current template already matches revision {wanted})")
        return
    change = [{"op": "replace", "path": "/spec/template", "value": template}]
    await client_of(session, ref.kind).patch(ref.name, session.namespace, change, type="json")
    click.echo(f"{ref} rolled back")


@rollout.command()
@click.argument("words", nargs=-1, required=True)
@verb
async def restart(session: Session, words: tuple[str, ...]) -> None:
    """Replace every pod, in turn."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    annotation = {"kubectl.kubernetes.io/restartedAt": now}
    patch = {"spec": {"template": {"metadata": {"annotations": annotation}}}}
    await patch_each(session, words, patch, "restarted")


@rollout.command()
@click.argument("words", nargs=-1, required=True)
@verb
async def pause(session: Session, words: tuple[str, ...]) -> None:
    """Let changes wait."""
    await patch_each(session, words, {"spec": {"paused": True}}, "paused")


@rollout.command()
@click.argument("words", nargs=-1, required=True)
@verb
async def resume(session: Session, words: tuple[str, ...]) -> None:
    """Let changes go on."""
    await patch_each(session, words, {"spec": {"paused": None}}, "resumed")


async def patch_each(session: Session, words: tuple[str, ...], patch: Any, done: str) -> None:
    for ref in await parse_refs(session, words):
        await client_of(session, ref.kind).patch(ref.name, session.namespace, patch, type="merge")
        click.echo(f"{ref} {done}")
