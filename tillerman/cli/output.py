"""How `get` writes objects: tables, json, yaml, names, JSONPath, custom columns."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from google.protobuf.message import Message

from tillerman.api import printers
from tillerman.api.printers.labels import label_text
from tillerman.api.scheme import SCHEME, Column
from tillerman.cli.resolve import Kind

Anything = Message | dict[str, Any]
FORMATS = "wide, json, yaml, name, jsonpath=…, jsonpath-as-json=…, custom-columns=…"


def as_dict(obj: Anything) -> dict[str, Any]:
    if isinstance(obj, dict):
        return obj
    from tillerman.api.codec import to_dict

    return to_dict(obj)


def metadata_of(obj: Anything) -> dict[str, Any]:
    """name, namespace and labels of an object in either form."""
    if isinstance(obj, dict):
        return obj.get("metadata") or {}
    metadata: Any = obj.metadata  # type: ignore[attr-defined]
    return {"name": metadata.name, "namespace": metadata.namespace, "labels": metadata.labels}


def without_managed_fields(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


class Table:
    """Rows under a header, columns as wide as their widest cell; later rows keep the widths seen so far."""

    def __init__(self, header: Sequence[str], *, show_header: bool = True, write: Callable[[str], Any]) -> None:
        self._header = [name.upper() for name in header]
        self._widths = [len(name) if show_header else 0 for name in self._header]
        self._pending_header = show_header
        self._write = write

    def rows(self, rows: Sequence[Sequence[Any]]) -> None:
        lines = [[_cell(cell) for cell in row] for row in rows]
        if self._pending_header:
            lines.insert(0, self._header)
            self._pending_header = False
        for line in lines:
            for i, cell in enumerate(line):
                self._widths[i] = max(self._widths[i], len(cell))
        for line in lines:
            padded = [cell.ljust(max(6, width + 3)) for cell, width in zip(line[:-1], self._widths[:-1], strict=True)]
            self._write("".join([*padded, line[-1]]).rstrip() + "\n")


def _cell(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    first, newline, _ = text.partition("\n")
    return f"{first}..." if newline else text


class RowMaker(Protocol):
    """Which columns a resource has and what an object shows in them."""

    @property
    def columns(self) -> Sequence[Column]: ...

    def row(self, obj: Anything) -> list[Any]: ...


class BuiltIn:
    """Rows of a kind of the scheme."""

    def __init__(self, kind: Kind) -> None:
        self.columns: Sequence[Column] = printers.columns_of(SCHEME.by_kind(kind.api_version, kind.kind))

    def row(self, obj: Anything) -> list[Any]:
        assert isinstance(obj, Message)
        return list(printers.cells(obj, time.time()))


class Custom:
    """Rows of a custom resource. `columns`: (name, type, JSONPath, priority) of its definition."""

    def __init__(self, columns: Sequence[tuple[str, str, str, int]]) -> None:
        found = columns or [("Age", "date", ".metadata.creationTimestamp", 0)]
        self._paths = [("Name", "string", ".metadata.name"), *((n, t, p) for n, t, p, _ in found)]
        wide = [False, *(priority > 0 for *_, priority in found)]
        self.columns: Sequence[Column] = [
            Column(name, kind, w) for (name, kind, _), w in zip(self._paths, wide, strict=True)
        ]

    def row(self, obj: Anything) -> list[Any]:
        cells = printers.custom_cells(as_dict(obj), self._paths, time.time())
        return ["" if cell is None else cell for cell in cells]


class TableWriter:
    """Writes objects of one resource as a table, with the columns that the options add."""

    def __init__(
        self,
        maker: RowMaker,
        *,
        wide: bool = False,
        with_namespace: bool = False,
        show_header: bool = True,
        show_labels: bool = False,
        label_columns: Sequence[str] = (),
        name_prefix: str = "",
        with_event: bool = False,
        write: Callable[[str], Any],
    ) -> None:
        self._maker = maker
        self._with_namespace, self._show_labels, self._label_columns = with_namespace, show_labels, label_columns
        self._with_event = with_event
        self._shown = [i for i, column in enumerate(maker.columns) if wide or not column.wide]
        names = [maker.columns[i].name for i in self._shown]
        self._name_at = names.index("Name") if "Name" in names else -1
        self._prefix = name_prefix
        header = (
            (["Event"] if with_event else [])
            + (["Namespace"] if with_namespace else [])
            + names
            + [key.rpartition("/")[2] for key in label_columns]
            + (["Labels"] if show_labels else [])
        )
        self._table = Table(header, show_header=show_header, write=write)

    def write(self, objects: Sequence[Anything], event: str = "") -> None:
        self._table.rows([self._row(obj, event) for obj in objects])

    def _row(self, obj: Anything, event: str) -> list[Any]:
        metadata = metadata_of(obj)
        labels = metadata.get("labels") or {}
        full = self._maker.row(obj)
        row = [full[i] for i in self._shown]
        if self._prefix and self._name_at >= 0:
            row[self._name_at] = self._prefix + str(row[self._name_at])
        return (
            ([event] if self._with_event else [])
            + ([metadata.get("namespace", "")] if self._with_namespace else [])
            + row
            + [labels.get(key, "<none>") if key in labels else "<none>" for key in self._label_columns]
            + ([label_text(labels)] if self._show_labels else [])
        )


def custom_columns(spec: str) -> list[tuple[str, str]]:
    """`NAME:.metadata.name,NODE:.spec.nodeName` as (header, path). Raises ValueError."""
    columns = []
    for part in spec.split(","):
        header, colon, path = part.partition(":")
        if not colon or not header:
            raise ValueError(f"unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>")
        path = path.strip("{}")
        columns.append((header, path if path.startswith((".", "[", "$")) else f".{path}"))
    return columns


def custom_row(obj: dict[str, Any], columns: Sequence[tuple[str, str]]) -> list[str]:
    """Several values of one path stand side by side, nothing is `<none>`."""
    from tillerman.api.jsonpath import find

    def shown(value: Any) -> str:
        if value is None:
            return "<nil>"
        return str(value).lower() if isinstance(value, bool) else str(value)

    return [",".join(shown(value) for value in find(path, obj)) or "<none>" for _, path in columns]


def list_of(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The envelope in which several objects are printed."""
    return {"apiVersion": "v1", "items": list(objects), "kind": "List", "metadata": {"resourceVersion": ""}}


def render(output: str, data: dict[str, Any]) -> str:
    """json, yaml, jsonpath=… and jsonpath-as-json=…. Raises ValueError for anything else."""
    from tillerman.api import jsonpath, manifest

    form, _, argument = output.partition("=")
    if form == "json":
        return manifest.to_json_text(data) + "\n"
    if form == "yaml":
        return manifest.to_yaml(data)
    if form in ("jsonpath", "jsonpath-as-json") and not argument:
        raise ValueError(f"template format specified but no template given: write -o {form}=TEMPLATE")
    if form == "jsonpath":
        return jsonpath.render(argument, data)
    if form == "jsonpath-as-json":
        return manifest.to_json_text(jsonpath.find(argument.strip("{}"), data)) + "\n"
    raise ValueError(
        f'unable to match a printer suitable for the output format "{output}", allowed formats are: {FORMATS}'
    )
