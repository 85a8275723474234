"""Verbs that change a part of an object: scale, set, autoscale, patch, edit, label, annotate."""

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from tillerman.cli.create import DRY_RUN, OUTPUT, object_of, pairs, show
from tillerman.cli.resolve import (
    Object,
    Ref,
    client_of,
    find_kind,
    is_built_in,
    kind_of,
    namespace_of,
    one_ref,
    parse_refs,
)
from tillerman.cli.session import Session, verb

SELECTOR = click.option("-l", "--selector", default="", help="Objects with these labels.")


async def refs_or_selected(
    session: Session, words: tuple[str, ...], selector: str, everything: bool = False
) -> list[Ref]:
    if not selector and not everything:
        return await parse_refs(session, words)
    kind = await find_kind(session, words[0])
    found = await client_of(session, kind).list(namespace_of(session, kind), label_selector=selector)
    return [Ref(kind, o["metadata"]["name"]) for o in found.items]


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--replicas", type=int, required=True)
@click.option("--current-replicas", type=int, help="Only if it has so many now.")
@SELECTOR
@OUTPUT
@verb
async def scale(
    session: Session, words: tuple[str, ...], replicas: int, current_replicas: int | None, selector: str, output: str
) -> None:
    """Set how many replicas a deployment, replica set or stateful set has."""
    for ref in await refs_or_selected(session, words, selector):
        client = client_of(session, ref.kind)
        if current_replicas is not None:
            now = (await client.get(ref.name, session.namespace, subresource="scale"))["spec"].get("replicas", 0)
            if now != current_replicas:
                raise ValueError(f"Expected replicas to be {current_replicas}, was {now}")
        patch = {"spec": {"replicas": replicas}}
        await client.patch(ref.name, session.namespace, patch, type="merge", subresource="scale")
        click.echo(str(ref) if output == "name" else f"{ref} scaled")


@click.group(name="set")
def set_() -> None:
    """Set images, environment variables or resources of pod templates."""


def pod_spec_path(obj: Object) -> list[str]:
    """Where the pod's spec stands in an object of its kind."""
    if obj["kind"] == "Pod":
        return ["spec"]
    if obj["kind"] == "CronJob":
        return ["spec", "jobTemplate", "spec", "template", "spec"]
    return ["spec", "template", "spec"]


def at(obj: Object, path: list[str]) -> Any:
    for part in path:
        obj = obj.get(part, {})
    return obj


def nested(path: list[str], value: Any) -> Object:
    for part in reversed(path):
        value = {part: value}
    return dict(value)


async def change_containers(
    session: Session,
    ref: Ref,
    change: Any,
    done: str,
    output: str,
    dry_run: str,
    lists: tuple[str, ...] = ("containers",),
) -> None:
    """Patches what `change(container)` returns for each container; nothing returned leaves it as it is."""
    client = client_of(session, ref.kind)
    live = await client.get(ref.name, session.namespace)
    path = pod_spec_path(live)
    patch: Object = {}
    for name in lists:
        changed = [{"name": c["name"], **new} for c in at(live, path).get(name, []) if (new := change(c))]
        if changed:
            patch[name] = changed
            patch[f"$setElementOrder/{name}"] = [{"name": c["name"]} for c in at(live, path)[name]]
    if patch and dry_run != "client":
        live = await client.patch(
            ref.name, session.namespace, nested(path, patch), type="strategic", dry_run=dry_run == "server"
        )
    show(ref.kind, live, done, output, dry_run)


@set_.command()
@click.argument("words", nargs=-1, required=True)
@SELECTOR
@DRY_RUN
@OUTPUT
@verb
async def image(session: Session, words: tuple[str, ...], selector: str, dry_run: str, output: str) -> None:
    """KIND/NAME CONTAINER=IMAGE…: other images ("*=IMAGE" for all containers)."""
    images = pairs(tuple(w for w in words if "=" in w), "CONTAINER=IMAGE")
    if not images:
        raise click.UsageError("one or more CONTAINER=IMAGE are required")
    for ref in await refs_or_selected(session, tuple(w for w in words if "=" not in w), selector):
        live = await client_of(session, ref.kind).get(ref.name, session.namespace)
        spec = at(live, pod_spec_path(live))
        names = {c["name"] for c in [*spec.get("containers", []), *spec.get("initContainers", [])]}
        for name in images:
            if name not in names | {"*"}:
                raise ValueError(f'unable to find container named "{name}" in {ref}: it has {", ".join(sorted(names))}')

        def change(container: Object) -> Object:
            wanted = images.get(container["name"], images.get("*"))
            return {"image": wanted} if wanted and wanted != container.get("image") else {}

        lists = ("containers", "initContainers")
        await change_containers(session, ref, change, "image updated", output, dry_run, lists)


@set_.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-c", "--containers", default="*", show_default=True)
@SELECTOR
@DRY_RUN
@OUTPUT
@verb
async def env(
    session: Session, words: tuple[str, ...], containers: str, selector: str, dry_run: str, output: str
) -> None:
    """KIND/NAME KEY=VALUE… KEY-…: set and remove environment variables."""
    values = pairs(tuple(w for w in words if "=" in w), "KEY=VALUE")
    removed = [w[:-1] for w in words if w.endswith("-") and "=" not in w]
    objects = tuple(w for w in words if "=" not in w and not w.endswith("-"))

    def change(container: Object) -> Object:
        if containers not in ("*", container["name"]):
            return {}
        entries: list[Object] = [{"name": k, "value": v} for k, v in values.items()]
        entries += [{"name": k, "$patch": "delete"} for k in removed]
        return {"env": entries} if entries else {}

    for ref in await refs_or_selected(session, objects, selector):
        await change_containers(session, ref, change, "env updated", output, dry_run)


@set_.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-c", "--containers", default="*", show_default=True)
@click.option("--requests", default="", metavar="cpu=…,memory=…")
@click.option("--limits", default="", metavar="cpu=…,memory=…")
@SELECTOR
@DRY_RUN
@OUTPUT
@verb
async def resources(
    session: Session, words: tuple[str, ...], containers: str, requests: str, limits: str, selector: str, dry_run: str,
    output: str,
) -> None:  # fmt: skip
    """Set what the containers request and what limits them."""
    wanted = {
        name: pairs(tuple(text.split(",")), f"--{name}")
        for name, text in (("requests", requests), ("limits", limits))
        if text
    }
    if not wanted:
        raise click.UsageError("you must specify --requests or --limits")

    def change(container: Object) -> Object:
        return {"resources": wanted} if containers in ("*", container["name"]) else {}

    for ref in await refs_or_selected(session, words, selector):
        await change_containers(session, ref, change, "resource requirements updated", output, dry_run)


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--min", "minimum", type=int, default=1, show_default=True)
@click.option("--max", "maximum", type=int, required=True)
@click.option("--cpu-percent", type=int, default=80, show_default=True)
@click.option("--name", default="")
@DRY_RUN
@OUTPUT
@verb
async def autoscale(
    session: Session, words: tuple[str, ...], minimum: int, maximum: int, cpu_percent: int, name: str, dry_run: str,
    output: str,
) -> None:  # fmt: skip
    """Let load decide how many replicas there are."""
    ref = await one_ref(session, words)
    await client_of(session, ref.kind).get(ref.name, session.namespace)
    target = {"apiVersion": ref.kind.api_version, "kind": ref.kind.kind, "name": ref.name}
    metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": cpu_percent}}
    spec = {
        "scaleTargetRef": target,
        "minReplicas": minimum,
        "maxReplicas": maximum,
        "metrics": [{"type": "Resource", "resource": metric}],
    }
    obj = object_of("autoscaling/v2", "HorizontalPodAutoscaler", name or ref.name, spec=spec)
    obj["metadata"]["namespace"] = session.namespace
    kind = await kind_of(session, obj)
    if dry_run != "client":
        obj = await client_of(session, kind).create(obj, dry_run=dry_run == "server")
    show(kind, obj, "autoscaled", output, dry_run)


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-p", "--patch", "text", default="", help="JSON or YAML.")
@click.option("--patch-file", default="")
@click.option("--type", "strategy", type=click.Choice(["strategic", "merge", "json"]), default="strategic")
@click.option("--subresource", default="")
@DRY_RUN
@OUTPUT
@verb
async def patch(
    session: Session, words: tuple[str, ...], text: str, patch_file: str, strategy: str, subresource: str,
    dry_run: str, output: str,
) -> None:  # fmt: skip
    """Change fields with a patch."""
    import yaml

    if bool(text) == bool(patch_file):
        raise click.UsageError("give one of -p and --patch-file")
    try:
        change = yaml.safe_load(text or Path(patch_file).read_text())
    except yaml.YAMLError as e:
        raise ValueError(f"unable to parse the patch: {e}") from e
    for ref in await parse_refs(session, words):
        used = "merge" if strategy == "strategic" and not is_built_in(ref.kind) else strategy
        found = await client_of(session, ref.kind).patch(
            ref.name, namespace_of(session, ref.kind), change, type=used, subresource=subresource,
            dry_run=dry_run == "server",
        )  # fmt: skip
        show(ref.kind, found, "patched", output, dry_run)


@click.command()
@click.argument("words", nargs=-1, required=True)
@verb
async def edit(session: Session, words: tuple[str, ...]) -> None:
    """Edit an object in $EDITOR."""
    import yaml

    from tillerman.api.manifest import to_yaml

    ref = await one_ref(session, words)
    client = client_of(session, ref.kind)
    live = await client.get(ref.name, namespace_of(session, ref.kind))
    live["metadata"].pop("managedFields", None)
    before = to_yaml(live)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{ref.name}.yaml"
        file.write_text(before)
        editor = os.environ.get("KUBE_EDITOR") or os.environ.get("EDITOR") or "vi"
        await asyncio.to_thread(subprocess.run, ["sh", "-c", f'{editor} "$0"', str(file)], check=True)
        after = file.read_text()
    if after == before:
        click.echo("Edit cancelled, no changes made.")
        return
    obj = yaml.safe_load(after)
    show(ref.kind, await client.update(obj, field_validation="Strict"), "edited", "")


async def change_metadata(
    session: Session, field: str, words: tuple[str, ...], selector: str, everything: bool, overwrite: bool,
    dry_run: str, output: str, done: str,
) -> None:  # fmt: skip
    """KEY=VALUE sets, KEY- removes; an existing value is only changed with --overwrite."""
    changes: dict[str, str | None] = {}
    objects = []
    for i, word in enumerate(words):
        if i > 0 and "=" in word:
            key, _, value = word.partition("=")
            changes[key] = value
        elif i > 0 and word.endswith("-") and len(word) > 1:
            changes[word[:-1]] = None
        else:
            objects.append(word)
    if not changes:
        raise click.UsageError("at least one KEY=VALUE or KEY- is required")
    for ref in await refs_or_selected(session, tuple(objects), selector, everything):
        client, namespace = client_of(session, ref.kind), namespace_of(session, ref.kind)
        live = await client.get(ref.name, namespace)
        now = live["metadata"].get(field, {})
        taken = [k for k, v in changes.items() if v is not None and now.get(k, v) != v]
        if taken and not overwrite:
            raise ValueError(f"'{taken[0]}' already has a value ({now[taken[0]]}), and --overwrite is false")
        if all(now.get(k) == v for k, v in changes.items()):
            show(ref.kind, live, f"not {done}", output, dry_run)
            continue
        found = await client.patch(
            ref.name, namespace, {"metadata": {field: changes}}, type="merge", dry_run=dry_run != "none"
        )
        show(ref.kind, found, done, output, dry_run)


def metadata_verb(name: str, field: str, done: str, summary: str) -> Any:
    @click.command(name, help=summary)
    @click.argument("words", nargs=-1, required=True)
    @click.option("--overwrite", is_flag=True)
    @click.option("--all", "everything", is_flag=True)
    @SELECTOR
    @DRY_RUN
    @OUTPUT
    @verb
    async def command(
        session: Session, words: tuple[str, ...], overwrite: bool, everything: bool, selector: str, dry_run: str,
        output: str,
    ) -> None:  # fmt: skip
        await change_metadata(session, field, words, selector, everything, overwrite, dry_run, output, done)

    return command


label = metadata_verb("label", "labels", "labeled", "Set (KEY=VALUE) and remove (KEY-) labels.")
annotate = metadata_verb("annotate", "annotations", "annotated", "Set (KEY=VALUE) and remove (KEY-) annotations.")
