"""`tiller get`: objects by name or selector, as tables or documents, once or as they change."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from tillerman.api.scheme import SCHEME
from tillerman.api.status import is_expired, is_not_found
from tillerman.cli.output import (
    FORMATS,
    Anything,
    BuiltIn,
    Custom,
    RowMaker,
    Table,
    TableWriter,
    as_dict,
    custom_columns,
    custom_row,
    list_of,
    metadata_of,
    render,
    without_managed_fields,
)
from tillerman.cli.resolve import Kind, client_of, find_kind, find_kinds, is_built_in, kind_of, read_manifests
from tillerman.cli.session import Session, tell, verb

TABLES = ("", "wide")


@dataclass
class Query:
    """One resource, and which of its objects: by name, or by selectors when there are no names."""

    kind: Kind
    names: list[str] = field(default_factory=list)
    namespace: str | None = None


@dataclass(frozen=True)
class View:
    """What `get` was asked to show, and how."""

    output: str
    label_selector: str
    field_selector: str
    all_namespaces: bool
    show_header: bool
    show_labels: bool
    label_columns: tuple[str, ...]
    show_kind: bool
    show_managed_fields: bool
    sort_by: str
    ignore_not_found: bool
    chunk_size: int
    output_watch_events: bool = False


@click.command()
@click.argument("words", nargs=-1, metavar="TYPE [NAME…] | TYPE/NAME…")
@click.option("-o", "--output", default="", help=FORMATS)
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@click.option("-l", "--selector", "label_selector", default="", help="Label selector, such as app=web,tier!=db.")
@click.option("--field-selector", default="", help="Field selector, such as status.phase=Running.")
@click.option("-w", "--watch", is_flag=True, help="After listing, show every change.")
@click.option("--watch-only", is_flag=True, help="Show changes only.")
@click.option("--output-watch-events", is_flag=True, help="With --watch: show the kind of each change.")
@click.option("--no-headers", is_flag=True)
@click.option("--show-labels", is_flag=True, help="Labels as the last column.")
@click.option("-L", "--label-columns", multiple=True, help="Labels that become columns.")
@click.option("--show-kind", is_flag=True, help="Write TYPE/NAME in the NAME column.")
@click.option("--show-managed-fields", is_flag=True, help="Keep metadata.managedFields in json and yaml.")
@click.option("--sort-by", default="", help="JSONPath to sort by, such as .metadata.creationTimestamp.")
@click.option("--ignore-not-found", is_flag=True, help="Nothing, and exit code 0, for an object that is not there.")
@click.option("--chunk-size", default=500, show_default=True, help="Objects per page; 0 for one page.")
@click.option("-f", "--filename", "files", multiple=True, help="The objects that manifests name.")
@click.option("-R", "--recursive", is_flag=True)
@verb
async def get(
    session: Session,
    words: tuple[str, ...],
    watch: bool,
    watch_only: bool,
    no_headers: bool,
    label_columns: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    **options: Any,
) -> int:
    """Show objects: `get pods`, `get deploy/web svc/web`, `get pods,services -l app=web`."""
    columns = tuple(key for part in label_columns for key in part.split(","))
    view = View(show_header=not no_headers, label_columns=columns, **options)
    queries = await from_files(session, files, recursive) if files else await parse(session, words, view)
    if watch or watch_only:
        if len(queries) != 1 or len(queries[0].names) > 1:
            raise click.UsageError("watch is only supported on one resource, by name or by selector")
        await follow(session, queries[0], view, with_list=not watch_only)
        return 0
    return await show_all(session, queries, view)


async def parse(session: Session, words: Sequence[str], view: View) -> list[Query]:
    """Which objects the arguments mean. Raises UsageError, LookupError (no such resource type)."""
    if not words:
        raise click.UsageError("say what to get: a resource type, such as pods; `tiller api-resources` lists them")
    if any("/" in word for word in words):
        queries: dict[Kind, Query] = {}
        for word in words:
            resource, slash, name = word.partition("/")
            if not slash or not name:
                raise click.UsageError("there is no need to specify a resource type as a separate argument when "
                                       "passing arguments in resource/name form")  # fmt: skip
            kind = await find_kind(session, resource)
            queries.setdefault(kind, Query(kind, namespace=scope(session, kind, view))).names.append(name)
        return list(queries.values())
    if len(words) > 1 and (view.label_selector or view.field_selector):
        raise click.UsageError("name cannot be provided when a selector is specified")
    if len(words) > 1 and view.all_namespaces:
        raise click.UsageError("a resource cannot be retrieved by name across all namespaces")
    kinds: list[Kind] = []
    for resource in words[0].split(","):
        kinds += await find_kinds(session, resource)
    return [Query(kind, list(words[1:]), scope(session, kind, view)) for kind in dict.fromkeys(kinds)]


async def from_files(session: Session, files: Sequence[str], recursive: bool) -> list[Query]:
    queries = []
    for _, obj in read_manifests(files, recursive=recursive):
        kind = await kind_of(session, obj)
        metadata = obj.get("metadata") or {}
        namespace = (metadata.get("namespace") or session.namespace) if kind.namespaced else None
        queries.append(Query(kind, [str(metadata.get("name", ""))], namespace))
    return queries


def scope(session: Session, kind: Kind, view: View) -> str | None:
    return session.namespace if kind.namespaced and not view.all_namespaces else None


def client_for(session: Session, kind: Kind) -> Any:
    """Built-in kinds as messages (their printers read them), others as dicts."""
    if is_built_in(kind):
        return session.client.resource(SCHEME.by_kind(kind.api_version, kind.kind).message)
    return client_of(session, kind)


async def fetch(session: Session, query: Query, view: View) -> tuple[list[Anything], list[BaseException]]:
    """The objects, and the refusals of those that could not be had by name."""
    client = client_for(session, query.kind)
    if not query.names:
        return [obj async for obj in pages(client, query, view)], []
    answers = await asyncio.gather(*(client.get(name, query.namespace) for name in query.names), return_exceptions=True)
    failures = [a for a in answers if isinstance(a, BaseException)]
    if view.ignore_not_found:
        failures = [e for e in failures if not is_not_found(e)]
    return [a for a in answers if not isinstance(a, BaseException)], failures


async def pages(client: Any, query: Query, view: View) -> AsyncIterator[Anything]:
    """Every object, page by page; begins again, in one page, when the server has forgotten where it was."""
    token, seen = "", 0
    while True:
        try:
            result = await client.list(
                query.namespace,
                label_selector=view.label_selector,
                field_selector=view.field_selector,
                limit=view.chunk_size,
                continue_token=token,
            )
        except Exception as e:
            if not token or not is_expired(e):
                raise
            result = await client.list(
                query.namespace, label_selector=view.label_selector, field_selector=view.field_selector
            )
            result.items = result.items[seen:]
        for item in result.items:
            seen += 1
            yield item
        token = result.continue_token
        if not token:
            return


async def show_all(session: Session, queries: list[Query], view: View) -> int:
    fetched = await asyncio.gather(*(fetch(session, query, view) for query in queries))
    failures = [e for _, errors in fetched for e in errors]
    found = [(query, sort(objects, view.sort_by)) for query, (objects, _) in zip(queries, fetched, strict=True)]
    if view.output in TABLES:
        await show_tables(session, found, view)
    else:
        show_documents(found, view)
    code = 0
    for error in failures:
        code = tell_any(error)
    if view.output in TABLES and not failures and not any(objects for _, objects in found):
        nothing_found(session, queries, view)
    return code


def tell_any(error: BaseException) -> int:
    from tillerman.api.status import StatusError

    if not isinstance(error, StatusError):
        raise error
    return tell(error)


def nothing_found(session: Session, queries: list[Query], view: View) -> None:
    if view.ignore_not_found:
        return
    where = f" in {session.namespace} namespace" if queries[0].namespace else ""
    click.echo(f"No resources found{where}.", err=True)


def sort(objects: list[Anything], path: str) -> list[Anything]:
    """By the value of a JSONPath; objects without it first. Raises ValueError for a bad path."""
    if not path:
        return objects
    from tillerman.api.jsonpath import find
    from tillerman.api.quantity import parse_quantity

    bare = path.strip("{}")
    bare = bare if bare.startswith((".", "[", "$")) else f".{bare}"

    def key(obj: Anything) -> tuple[int, Any]:
        values = find(bare, as_dict(obj))
        if not values or values[0] is None:
            return 0, 0
        if isinstance(values[0], (int, float)):
            return 1, values[0]
        try:
            return 1, parse_quantity(values[0])
        except (ValueError, TypeError):
            return 2, str(values[0])

    return sorted(objects, key=key)


async def row_maker(session: Session, kind: Kind) -> RowMaker:
    if is_built_in(kind):
        return BuiltIn(kind)
    for resource in await session.client.discover():
        if (resource.api_version, resource.resource) == (kind.api_version, kind.resource):
            return Custom([(c.name, c.type, c.json_path, c.priority) for c in resource.columns])
    return Custom([])


def table_writer(maker: RowMaker, query: Query, view: View, *, prefixed: bool) -> TableWriter:
    return TableWriter(
        maker,
        wide=view.output == "wide",
        with_namespace=view.all_namespaces and query.kind.namespaced,
        show_header=view.show_header,
        show_labels=view.show_labels,
        label_columns=view.label_columns,
        name_prefix=f"{query.kind.qualified}/" if prefixed or view.show_kind else "",
        with_event=view.output_watch_events,
        write=sys.stdout.write,
    )


async def show_tables(session: Session, found: list[tuple[Query, list[Anything]]], view: View) -> None:
    """A table per resource that has objects, an empty line between them; names carry their type when there are more."""
    shown = [(query, objects) for query, objects in found if objects]
    for i, (query, objects) in enumerate(shown):
        if i:
            sys.stdout.write("\n")
        writer = table_writer(await row_maker(session, query.kind), query, view, prefixed=len(found) > 1)
        writer.write(objects)


def show_documents(found: list[tuple[Query, list[Anything]]], view: View) -> None:
    form, _, argument = view.output.partition("=")
    if form == "name":
        for query, items in found:
            for item in items:
                click.echo(f"{query.kind.qualified}/{metadata_of(item).get('name', '')}")
        return
    objects: list[dict[str, Any]] = [as_dict(obj) for _, items in found for obj in items]
    if not view.show_managed_fields:
        objects = [without_managed_fields(obj) for obj in objects]
    if form == "custom-columns":
        columns = custom_columns(argument)
        table = Table([name for name, _ in columns], show_header=view.show_header, write=sys.stdout.write)
        table.rows([custom_row(obj, columns) for obj in objects])
        return
    single = len(found) == 1 and len(found[0][0].names) == 1
    if single and not objects:
        return
    sys.stdout.write(render(view.output, objects[0] if single else list_of(objects)))


async def follow(session: Session, query: Query, view: View, *, with_list: bool) -> None:
    """Shows what there is, then every change, for ever. Lists again when the server has lost the place."""
    client = client_for(session, query.kind)
    field_selector = view.field_selector
    if query.names:
        field_selector = f"metadata.name={query.names[0]}"
        if with_list:
            await client.get(query.names[0], query.namespace)
    writer: TableWriter | None = None
    if view.output in TABLES:
        writer = table_writer(await row_maker(session, query.kind), query, view, prefixed=False)
    known: dict[str, str] = {}
    first = True
    while True:
        result = await client.list(query.namespace, label_selector=view.label_selector, field_selector=field_selector)
        listed = [obj for obj in result.items if known.get(_key(obj)) != _version(obj)]
        known = {_key(obj): _version(obj) for obj in result.items}
        if (with_list or not first) and listed:
            show_changes(query, view, writer, listed, "ADDED")
        first = False
        version = result.resource_version
        try:
            async for event in client.watch(
                query.namespace,
                resource_version=version,
                label_selector=view.label_selector,
                field_selector=field_selector,
            ):
                if event.type == "BOOKMARK":
                    continue
                known[_key(event.object)] = event.resource_version
                show_changes(query, view, writer, [event.object], event.type)
        except Exception as e:
            if not is_expired(e):
                raise


def _key(obj: Anything) -> str:
    metadata = metadata_of(obj)
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"


def _version(obj: Anything) -> str:
    if isinstance(obj, dict):
        return str((obj.get("metadata") or {}).get("resourceVersion", ""))
    return str(obj.metadata.resourceVersion)  # type: ignore[attr-defined]


def show_changes(query: Query, view: View, writer: TableWriter | None, objects: list[Anything], event: str) -> None:
    if writer is not None:
        writer.write(objects, event)
    elif view.output == "name" or view.output.startswith("custom-columns"):
        show_documents([(query, objects)], view)
    else:
        for obj in objects:
            data = as_dict(obj)
            data = data if view.show_managed_fields else without_managed_fields(data)
            if view.output == "yaml":
                sys.stdout.write("---\n")
            sys.stdout.write(render(view.output, {"type": event, "object": data} if view.output_watch_events else data))
            if view.output.startswith("jsonpath"):
                sys.stdout.write("\n")
    sys.stdout.flush()
