"""`tiller events`: what happened, the oldest first, of everything or of one object."""

import sys
import time
from typing import Any

import click

from tillerman.api.printers.ages import human_duration
from tillerman.api.printers.core import last_seen_seconds
from tillerman.cli.output import Table
from tillerman.cli.resolve import find_kind
from tillerman.cli.session import Session, verb
from tillerman.pb.k8s import core_v1_pb2 as core


@click.command()
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("--for", "of", default="", metavar="TYPE/NAME", help="Events of one object.")
@click.option("--types", default="", help="Normal, Warning, or both.")
@click.option("-w", "--watch", is_flag=True)
@click.option("--no-headers", is_flag=True)
@verb
async def events(session: Session, all_namespaces: bool, of: str, types: str, watch: bool, no_headers: bool) -> None:
    """Show events, the oldest first."""
    fields = ""
    if of:
        word, slash, name = of.partition("/")
        if not slash:
            raise click.UsageError("--for wants TYPE/NAME")
        kind = await find_kind(session, word)
        fields = f"involvedObject.kind={kind.kind},involvedObject.name={name}"
    wanted = {t.strip().capitalize() for t in types.split(",") if t.strip()}
    namespace = None if all_namespaces else session.namespace
    client = session.client.resource(core.Event)
    header = [*(["Namespace"] if all_namespaces else []), "Last Seen", "Type", "Reason", "Object", "Message"]
    table = Table(header, show_header=not no_headers, write=sys.stdout.write)

    def row(event: core.Event) -> list[Any]:
        seen = last_seen_seconds(event)
        count = event.series.count if event.HasField("series") else event.count
        ago = human_duration(time.time() - seen) if seen else "<unknown>"
        if count > 1 and event.HasField("firstTimestamp"):
            ago = f"{ago} (x{count} over {human_duration(time.time() - event.firstTimestamp.seconds)})"
        target = f"{event.involvedObject.kind}/{event.involvedObject.name}"
        found = [ago, event.type, event.reason, target, event.message.strip()]
        return [event.metadata.namespace, *found] if all_namespaces else found

    result = await client.list(namespace, field_selector=fields)
    found = sorted((e for e in result.items if not wanted or e.type in wanted), key=last_seen_seconds)
    if found:
        table.rows([row(event) for event in found])
    elif not watch:
        click.echo(f"No events found{'' if all_namespaces else f' in {session.namespace} namespace'}.", err=True)
    while watch:
        async for change in client.watch(namespace, resource_version=result.resource_version, field_selector=fields):
            if change.type in ("ADDED", "MODIFIED") and (not wanted or change.object.type in wanted):
                table.rows([row(change.object)])
                sys.stdout.flush()
            result.resource_version = change.resource_version
