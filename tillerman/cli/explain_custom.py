"""`tiller explain` of custom resources: what their definition's schema says."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from tillerman.cli.resolve import find_kind
from tillerman.cli.session import Session, connect, told

Schema = Mapping[str, Any]


def explain_custom(resource: str, fields: Sequence[str], recursive: bool, api_version: str) -> None:
    """Asks the cluster, by the options of the command line."""
    given = dict(click.get_current_context().find_root().obj or {})

    async def run() -> None:
        async with connect(given) as session:
            await show(session, resource, fields, recursive, api_version)

    told(run)


async def show(session: Session, resource: str, fields: Sequence[str], recursive: bool, api_version: str) -> None:
    """Raises LookupError, StatusError."""
    kind = await find_kind(session, resource)
    definitions = session.client.dynamic("apiextensions.k8s.io/v1", "customresourcedefinitions", False)
    definition = await definitions.get(f"{kind.resource}.{kind.group}")
    wanted = api_version or kind.api_version
    for version in definition["spec"]["versions"]:
        if f"{kind.group}/{version['name']}" == wanted:
            break
    else:
        raise LookupError(f'no kind "{kind.kind}" is registered for version "{wanted}"')
    schema: Schema = version["schema"]["openAPIV3Schema"]
    click.echo(f"KIND:       {kind.kind}\nVERSION:    {wanted}\n")
    for name in fields:
        known = children(schema)
        if name not in known:
            raise LookupError(f'field "{name}" does not exist in {".".join([resource, *fields])}')
        schema = known[name]
    if fields:
        click.echo(f"FIELD:      {fields[-1]} <{type_of(schema)}>")
    if text := schema.get("description"):
        click.echo(f"DESCRIPTION:\n    {text}\n")
    if fields:
        click.echo(notes(schema), nl=False)
    if known := children(schema):
        click.echo("FIELDS:")
        if not fields:
            click.echo("  apiVersion\t<string>\n  kind\t<string>\n  metadata\t<ObjectMeta>")
        show_fields(known, schema.get("required") or (), recursive, 1)


def children(schema: Schema) -> dict[str, Schema]:
    """The fields below, those of a list's items or a map's values too."""
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), Mapping):
            return children(schema[inner])
    return dict(sorted((schema.get("properties") or {}).items()))


def type_of(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if schema.get("type") == "array":
        return f"[]{type_of(schema.get('items') or {})}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"map[string]{type_of(schema['additionalProperties'])}"
    return str(schema.get("type") or "anything")


def notes(schema: Schema) -> str:
    """What the schema says beyond the type, one line each."""
    lines = []
    if "enum" in schema:
        lines.append(f"    Allowed values: {', '.join(map(str, schema['enum']))}")
    if "default" in schema:
        lines.append(f"    Default: {schema['default']}")
    if keys := schema.get("x-kubernetes-list-map-keys"):
        lines.append(f"    A list whose elements are told apart, and merged, by {', '.join(keys)}")
    return "".join(line + "\n" for line in lines)


def show_fields(known: Mapping[str, Schema], required: Sequence[str], recursive: bool, depth: int) -> None:
    indent = "  " * depth
    for name, schema in known.items():
        if name in ("apiVersion", "kind", "metadata") and depth == 1:
            continue
        click.echo(f"{indent}{name}\t<{type_of(schema)}>{' -required-' if name in required else ''}")
        if recursive:
            show_fields(children(schema), schema.get("required") or (), True, depth + 1)
        elif text := schema.get("description"):
            click.echo(f"{indent}  {text}")
