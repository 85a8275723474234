"""What the server is and has: api-resources, version, cluster-info."""

import os
import sys

import click

from tillerman.cli.output import Table
from tillerman.cli.session import Session, verb


@click.command("api-resources")
@click.option("--namespaced/--cluster-wide", "namespaced", default=None, help="Only those of this scope.")
@click.option("--api-group", default=None, help="Only those of this group.")
@click.option("--verbs", "wanted", default="", help="Only those that have all of these verbs.")
@click.option("-o", "--output", default="", help="wide or name.")
@click.option("--no-headers", is_flag=True)
@verb
async def api_resources(
    session: Session, namespaced: bool | None, api_group: str | None, wanted: str, output: str, no_headers: bool
) -> None:
    """List the resource types that the server has."""
    found = sorted(await session.client.discover(), key=lambda r: (r.api_version.rpartition("/")[0], r.resource))
    rows = []
    for resource in found:
        group = resource.api_version.rpartition("/")[0]
        if (namespaced is not None and resource.namespaced != namespaced) or api_group not in (None, group):
            continue
        if not set(filter(None, wanted.split(","))) <= set(resource.verbs):
            continue
        if output == "name":
            click.echo(f"{resource.resource}.{group}" if group else resource.resource)
            continue
        row = [
            resource.resource,
            ",".join(resource.short_names),
            resource.api_version,
            str(resource.namespaced).lower(),
            resource.kind,
        ]
        rows.append([*row, ",".join(resource.verbs), ",".join(resource.categories)] if output == "wide" else row)
    if rows:
        header = ["Name", "Shortnames", "APIVersion", "Namespaced", "Kind"]
        header += ["Verbs", "Categories"] if output == "wide" else []
        Table(header, show_header=not no_headers, write=sys.stdout.write).rows(rows)


@click.command()
@click.option("--client", "client_only", is_flag=True, help="Only this program's version.")
@click.pass_context
def version(ctx: click.Context, client_only: bool) -> None:
    """Show the version of the client, and whether the server answers."""
    from importlib.metadata import version as installed

    click.echo(f"Client Version: v{installed('tillerman')}")
    if not client_only:
        ctx.invoke(server_version)


@click.command(hidden=True)
@verb
async def server_version(session: Session) -> None:
    resources = await session.client.discover()
    click.echo(f"Server: answers, {len(resources)} resource types")


@click.command("cluster-info")
@click.pass_context
def cluster_info(ctx: click.Context) -> None:
    """Show where the control plane answers."""
    from tillerman.client.channel import ClientConfig

    given = dict(ctx.find_root().obj or {})
    path = given.get("kubeconfig") or os.environ.get("TILLER_KUBECONFIG")
    config = ClientConfig.load(path, context=given.get("context") or "")
    click.echo(f"Control plane (gRPC) is at {', '.join(config.servers)}")
    if config.https_server:
        click.echo(f"Kubernetes API (HTTPS) is at {config.https_server}")
