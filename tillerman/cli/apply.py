"""`tiller apply`, `replace`, `delete` and `diff`: manifests against what the cluster holds."""

import asyncio
import copy
import json
from typing import Any

import click

from tillerman.api.status import StatusError, is_not_found
from tillerman.cli.create import DRY_RUN, OUTPUT, show
from tillerman.cli.merge import three_way
from tillerman.cli.resolve import (
    Kind,
    Object,
    Ref,
    check_manifest,
    client_of,
    find_kind,
    is_built_in,
    namespace_of,
    parse_refs,
    read_manifests,
)
from tillerman.cli.session import Session, tell, verb

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
FILES = click.option("-f", "--filename", "files", multiple=True, help="File, folder or - with manifests.")
RECURSIVE = click.option("-R", "--recursive", is_flag=True, help="Folders with what is below them.")
VALIDATE = click.option("--validate/--no-validate", default=True, help="Refuse unknown fields.")


async def checked(
    session: Session, files: tuple[str, ...], recursive: bool, validate: bool
) -> list[tuple[Kind, Object]]:
    """All manifests are read and checked before the first one is sent."""
    if not files:
        raise click.UsageError("must specify one of -f")
    manifests = read_manifests(files, recursive=recursive)
    return [await check_manifest(session, name, obj, validate=validate) for name, obj in manifests]


@click.command()
@FILES
@RECURSIVE
@VALIDATE
@click.option("--server-side", is_flag=True, help="The server merges, and keeps who owns which field.")
@click.option("--force-conflicts", is_flag=True, help="With --server-side: take fields from other managers.")
@click.option("--field-manager", default="")
@DRY_RUN
@OUTPUT
@verb
async def apply(
    session: Session, files: tuple[str, ...], recursive: bool, validate: bool, server_side: bool,
    force_conflicts: bool, field_manager: str, dry_run: str, output: str,
) -> int:  # fmt: skip
    """Make the cluster hold what the manifests say."""
    failed = 0
    for kind, obj in await checked(session, files, recursive, validate):
        try:
            if server_side:
                await apply_on_server(session, kind, obj, force_conflicts, field_manager, dry_run, output)
            else:
                await apply_here(session, kind, obj, dry_run, output)
        except StatusError as e:
            failed = tell(e)
    return failed


async def apply_on_server(
    session: Session, kind: Kind, obj: Object, force: bool, field_manager: str, dry_run: str, output: str
) -> None:
    found = await client_of(session, kind).patch(
        obj["metadata"]["name"], namespace_in(obj), obj, type="apply", force=force,
        field_manager=field_manager or "tiller", dry_run=dry_run == "server",
    )  # fmt: skip
    show(kind, found, "serverside-applied", output, dry_run)


def namespace_in(obj: Object) -> str | None:
    namespace: str | None = obj["metadata"].get("namespace")
    return namespace


async def apply_here(session: Session, kind: Kind, obj: Object, dry_run: str, output: str) -> None:
    """Client-side apply: a patch from what was applied last, what is now, and what the manifest says."""
    client = client_of(session, kind)
    wanted = with_last_applied(obj)
    name = obj["metadata"].get("name", "")
    try:
        live = await client.get(name, namespace_in(obj)) if name else None
    except StatusError as e:
        if not is_not_found(e):
            raise
        live = None
    if live is None:
        made = wanted if dry_run == "client" else await client.create(
            wanted, dry_run=dry_run == "server", field_manager="tiller-client-side-apply", field_validation="Strict"
        )  # fmt: skip
        show(kind, made, "created", output, dry_run)
        return
    patch = patch_from(kind, live, wanted)
    if not patch:
        show(kind, live, "unchanged", output, dry_run)
        return
    if dry_run != "client":
        strategy = "strategic" if is_built_in(kind) else "merge"
        live = await client.patch(
            name, namespace_in(obj), patch, type=strategy, dry_run=dry_run == "server",
            field_manager="tiller-client-side-apply",
        )  # fmt: skip
    show(kind, live, "configured", output, dry_run)


def patch_from(kind: Kind, live: Object, wanted: Object) -> Object:
    """The patch that apply sends; {} when the cluster already holds what the manifest says."""
    annotation = live["metadata"].get("annotations", {}).get(LAST_APPLIED)
    original = json.loads(annotation) if annotation else {}
    patch = three_way(original, wanted, live, kind_schema(kind))
    if set(patch) <= {"metadata"} and set(patch.get("metadata", {})) <= {"annotations"}:
        annotations = patch.get("metadata", {}).get("annotations", {})
        if set(annotations) <= {LAST_APPLIED} and original == json.loads(annotations.get(LAST_APPLIED, "{}") or "{}"):
            return {}
    return patch


def kind_schema(kind: Kind) -> Any:
    from tillerman.api.scheme import SCHEME

    return SCHEME.by_kind(kind.api_version, kind.kind).message.DESCRIPTOR if is_built_in(kind) else None


def with_last_applied(obj: Object) -> Object:
    wanted = copy.deepcopy(obj)
    annotations = wanted["metadata"].setdefault("annotations", {})
    annotations.pop(LAST_APPLIED, None)
    plain = copy.deepcopy(wanted)
    if not annotations:
        plain["metadata"]["annotations"] = {}
    annotations[LAST_APPLIED] = json.dumps(plain, separators=(",", ":"), ensure_ascii=False) + "\n"
    return wanted


@click.command()
@FILES
@RECURSIVE
@VALIDATE
@DRY_RUN
@OUTPUT
@verb
async def replace(
    session: Session, files: tuple[str, ...], recursive: bool, validate: bool, dry_run: str, output: str
) -> None:
    """Put the manifests in the place of existing objects."""
    for kind, obj in await checked(session, files, recursive, validate):
        found = await client_of(session, kind).update(obj, dry_run=dry_run == "server", field_validation="Strict")
        show(kind, found, "replaced", output, dry_run)


@click.command()
@FILES
@RECURSIVE
@VALIDATE
@verb
async def diff(session: Session, files: tuple[str, ...], recursive: bool, validate: bool) -> int:
    """Show what apply would change; exit code 1 when there is a difference."""
    import difflib

    from tillerman.api.manifest import to_yaml

    different = 0
    for kind, obj in await checked(session, files, recursive, validate):
        client, name = client_of(session, kind), obj["metadata"]["name"]
        try:
            live = await client.get(name, namespace_in(obj))
        except StatusError as e:
            if not is_not_found(e):
                raise
            before, after = "", to_yaml(await client.create(with_last_applied(obj), dry_run=True))
        else:
            patch = patch_from(kind, live, with_last_applied(obj))
            strategy = "strategic" if is_built_in(kind) else "merge"
            new = await client.patch(name, namespace_in(obj), patch, type=strategy, dry_run=True) if patch else live
            before, after = to_yaml(plain(live)), to_yaml(plain(new))
        label = f"{kind.qualified}/{name}"
        lines = list(
            difflib.unified_diff(before.splitlines(), after.splitlines(), f"live {label}", f"new {label}", lineterm="")
        )
        different |= bool(lines)
        for line in lines:
            click.echo(line)
    return int(different)


def plain(obj: Object) -> Object:
    """Without what changes on every write."""
    out = copy.deepcopy(obj)
    for field in ("managedFields", "resourceVersion", "generation"):
        out["metadata"].pop(field, None)
    out["metadata"].get("annotations", {}).pop(LAST_APPLIED, None)
    return out


@click.command()
@click.argument("words", nargs=-1)
@FILES
@RECURSIVE
@click.option("-l", "--selector", default="")
@click.option("--field-selector", default="")
@click.option("--all", "everything", is_flag=True, help="All objects of the kind in the namespace.")
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("--cascade", type=click.Choice(["background", "foreground", "orphan"]), default="background")
@click.option("--grace-period", type=int, default=-1)
@click.option("--now", is_flag=True, help="Grace period of one second.")
@click.option("--force", is_flag=True, help="With --grace-period=0: without waiting for the node.")
@click.option("--ignore-not-found", is_flag=True)
@click.option("--wait/--no-wait", "waits", default=True, help="Return when the objects are gone.")
@click.option("--timeout", default=0.0, help="Seconds to wait; 0 waits as long as it takes.")
@OUTPUT
@verb
async def delete(
    session: Session, words: tuple[str, ...], files: tuple[str, ...], recursive: bool, selector: str,
    field_selector: str, everything: bool, all_namespaces: bool, cascade: str, grace_period: int, now: bool,
    force: bool, ignore_not_found: bool, waits: bool, timeout: float, output: str,
) -> int:  # fmt: skip
    """Delete objects by name, by label or by manifest."""
    targets: list[tuple[Ref, str | None]]
    if files:
        manifests = await checked(session, files, recursive, False)
        targets = [(Ref(kind, obj["metadata"]["name"]), namespace_in(obj)) for kind, obj in reversed(manifests)]
    elif selector or field_selector or everything:
        targets = await selected(session, words, selector, field_selector, all_namespaces)
    else:
        targets = [(ref, namespace_of(session, ref.kind)) for ref in await parse_refs(session, words)]
    grace = 1 if now else grace_period
    policy = {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}[cascade]
    failed, going = 0, []
    for ref, namespace in targets:
        client = client_of(session, ref.kind)
        try:
            await client.delete(
                ref.name, namespace, propagation_policy=policy,
                grace_period_seconds=0 if force and grace < 0 else grace if grace >= 0 else None,
            )  # fmt: skip
        except StatusError as e:
            if not (is_not_found(e) and (ignore_not_found or selector or everything)):
                failed = tell(e)
            continue
        click.echo(
            str(ref) if output == "name" else f'{ref.kind.qualified} "{ref.name}" {"force " if force else ""}deleted'
        )
        going.append((client, ref, namespace))
    if waits and going:
        async with asyncio.timeout(timeout or None):
            await asyncio.gather(*(until_gone(*g) for g in going))
    return failed


async def selected(
    session: Session, words: tuple[str, ...], labels: str, fields: str, all_namespaces: bool
) -> list[tuple[Ref, str | None]]:
    if len(words) != 1:
        raise click.UsageError("with a selector or --all, name kinds only")
    targets = []
    for word in words[0].split(","):
        kind = await find_kind(session, word)
        namespace = None if all_namespaces else namespace_of(session, kind)
        found = await client_of(session, kind).list(namespace, label_selector=labels, field_selector=fields)
        targets += [(Ref(kind, o["metadata"]["name"]), namespace_in(o)) for o in found.items]
    if not targets:
        click.echo("No resources found")
    return targets


async def until_gone(client: Any, ref: Ref, namespace: str | None) -> None:
    """Returns when the object is gone (or another one has its name)."""
    try:
        live = await client.get(ref.name, namespace)
    except StatusError as e:
        if is_not_found(e):
            return
        raise
    uid, version = live["metadata"]["uid"], live["metadata"]["resourceVersion"]
    watch = client.watch(namespace, field_selector=f"metadata.name={ref.name}", resource_version=version)
    async for event in watch:
        if event.type == "DELETED" or event.object["metadata"].get("uid", uid) != uid:
            return
