"""`tiller explain pods.spec.containers`: the fields of a kind, from the compiled messages; of a custom resource, from
its definition.
"""

from typing import Any

import click
from google.protobuf.descriptor import FieldDescriptor

from tillerman.api.json_forms import FORMS
from tillerman.api.scheme import SCHEME
from tillerman.pb import options_pb2

SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "string (base64)",
    FieldDescriptor.TYPE_BOOL: "boolean",
    FieldDescriptor.TYPE_INT32: "integer",
    FieldDescriptor.TYPE_INT64: "integer",
    FieldDescriptor.TYPE_UINT32: "integer",
    FieldDescriptor.TYPE_DOUBLE: "number",
}


@click.command()
@click.argument("path", metavar="TYPE[.FIELD…]")
@click.option("--recursive", is_flag=True, help="All fields below, by name and type only.")
@click.option("--api-version", default="", help="Of this version, such as autoscaling/v1.")
def explain(path: str, recursive: bool, api_version: str) -> None:
    """Show the fields of a kind: names, types, allowed values, how lists merge."""
    resource, *fields = path.split(".")
    try:
        info = SCHEME.lookup(resource)
        if api_version:
            info = SCHEME.by_kind(api_version, info.kind)
    except LookupError:
        from tillerman.cli.explain_custom import explain_custom

        explain_custom(resource, fields, recursive, api_version)
        return
    descriptor: Any = info.message.DESCRIPTOR
    click.echo(f"KIND:       {info.kind}\nVERSION:    {info.api_version}\n")
    shown: Any = None
    for name in fields:
        members = fields_of(descriptor) if descriptor is not None else {}
        if name not in members:
            raise click.ClickException(f'field "{name}" does not exist in {path}')
        shown = members[name]
        descriptor = message_of(shown)
    if shown is not None:
        click.echo(f"FIELD:      {fields[-1]} <{type_of(shown)}>\n{notes(shown)}")
    if descriptor is not None:
        click.echo("FIELDS:")
        show_fields(descriptor, recursive, 1, shown is None)


def fields_of(descriptor: Any) -> dict[str, Any]:
    """JSON name -> field, inline messages lifted, the order that of the names."""
    members: dict[str, Any] = {}
    for field in descriptor.fields:
        if facts(field).inline:
            members.update(fields_of(field.message_type))
        else:
            members[field.json_name] = field
    return dict(sorted(members.items()))


def facts(field: Any) -> options_pb2.FieldFacts:
    return field.GetOptions().Extensions[options_pb2.k8s]  # type: ignore[no-any-return]


def message_of(field: Any) -> Any:
    """The message that a field leads to, None where JSON shows a plain value."""
    child = field.message_type
    if child is not None and child.GetOptions().map_entry:
        child = child.fields_by_name["value"].message_type
    return None if child is None or child.full_name in FORMS else child


def type_of(field: Any) -> str:
    child = field.message_type
    if child is not None and child.GetOptions().map_entry:
        return f"map[string]{type_of(child.fields_by_name['value'])}"
    name = SCALARS[field.type] if child is None else child.name
    return f"[]{name}" if field.is_repeated else name


def notes(field: Any) -> str:
    """What the facts say beyond the type, one line each."""
    found = facts(field)
    lines = []
    if found.values:
        lines.append(f"    Allowed values: {', '.join(v for v in found.values if v)}")
    if found.default:
        lines.append(f"    Default: {found.default}")
    if found.merge_key:
        lines.append(f"    A list whose elements are told apart, and merged, by {found.merge_key}")
    elif found.list_type == "atomic":
        lines.append("    A list that is replaced as a whole")
    return "".join(line + "\n" for line in lines)


def show_fields(descriptor: Any, recursive: bool, depth: int, typed: bool = False, seen: tuple[str, ...] = ()) -> None:
    indent = "  " * depth
    if typed:
        click.echo(f"{indent}apiVersion\t<string>\n{indent}kind\t<string>")
    for name, field in fields_of(descriptor).items():
        click.echo(f"{indent}{name}\t<{type_of(field)}>")
        if not recursive:
            click.echo(notes(field), nl=False)
            continue
        child = message_of(field)
        if child is not None and child.full_name not in seen:
            show_fields(child, True, depth + 1, seen=(*seen, child.full_name))
