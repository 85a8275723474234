"""`tiller describe`: an object in words, with its events."""

import importlib
from typing import Any

import click

from tillerman.api.scheme import SCHEME
from tillerman.api.status import is_not_found
from tillerman.cli.describers.page import Page, events, events_of
from tillerman.cli.get import client_for
from tillerman.cli.resolve import Kind, find_kind, is_built_in
from tillerman.cli.session import Session, verb

# kind -> "module:function" under tillerman.cli.describers; other kinds are shown field by field.
DESCRIBERS = {
    "Pod": "pods:pod",
    "Node": "core:node",
    "Service": "core:service",
    "ConfigMap": "core:config_map",
    "Secret": "core:secret",
    "Namespace": "core:namespace",
    "Deployment": "workloads:deployment",
    "ReplicaSet": "workloads:replica_set",
    "ReplicationController": "core:generic",
    "StatefulSet": "workloads:stateful_set",
    "DaemonSet": "workloads:daemon_set",
    "Job": "workloads:job",
    "HorizontalPodAutoscaler": "workloads:horizontal_pod_autoscaler",
}


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="TYPE [NAME…] | TYPE/NAME…")
@click.option("-l", "--selector", default="", help="Label selector.")
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("--show-events/--no-events", default=True)
@verb
async def describe(
    session: Session, words: tuple[str, ...], selector: str, all_namespaces: bool, show_events: bool
) -> None:
    """Show objects in words, with their events."""
    found = await select(session, words, selector, all_namespaces)
    if not found:
        where = "" if all_namespaces else f" in {session.namespace} namespace"
        click.echo(f"No resources found{where}.", err=True)
    for i, (kind, obj) in enumerate(found):
        if i:
            click.echo("\n")
        click.echo(await described(session, kind, obj, show_events), nl=False)


async def select(
    session: Session, words: tuple[str, ...], selector: str, all_namespaces: bool
) -> list[tuple[Kind, Any]]:
    """The objects that the arguments mean; a name that does not exist may be the beginning of names that do."""
    found: list[tuple[Kind, Any]] = []
    if any("/" in word for word in words):
        for word in words:
            resource, _, name = word.partition("/")
            found += await named(session, await find_kind(session, resource), name)
        return found
    for resource in words[0].split(","):
        kind = await find_kind(session, resource)
        for name in words[1:]:
            found += await named(session, kind, name)
        if len(words) == 1:
            namespace = session.namespace if kind.namespaced and not all_namespaces else None
            listed = await client_for(session, kind).list(namespace, label_selector=selector)
            found += [(kind, obj) for obj in listed.items]
    return found


async def named(session: Session, kind: Kind, name: str) -> list[tuple[Kind, Any]]:
    client, namespace = client_for(session, kind), session.namespace if kind.namespaced else None
    try:
        return [(kind, await client.get(name, namespace))]
    except Exception as e:
        if not is_not_found(e) or not is_built_in(kind):
            raise
        listed = await client.list(namespace)
        alike = [(kind, obj) for obj in listed.items if obj.metadata.name.startswith(name)]
        if not alike:
            raise
        return alike


async def described(session: Session, kind: Kind, obj: Any, show_events: bool) -> str:
    from tillerman.cli.describers.core import generic

    page = Page()
    if not is_built_in(kind):
        generic(page, obj)
        return page.render()
    module, _, function = DESCRIBERS.get(SCHEME.kind_of(obj)[1], "core:generic").partition(":")
    if function == "generic":
        from tillerman.api.codec import to_dict

        generic(page, to_dict(obj))
    else:
        await getattr(importlib.import_module(f"tillerman.cli.describers.{module}"), function)(page, obj, session)
    if show_events and kind.kind != "Event":
        events(page, await events_of(session, obj))
    return page.render()
