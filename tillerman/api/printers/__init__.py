"""Tables: what `get` shows of an object, one cell per column, for the CLI and for the HTTP front's Table.

Pure functions: message and the present in, cells out. The column definitions are the scheme's.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Final

from google.protobuf.message import Message

from tillerman.api import times
from tillerman.api.printers.ages import age
from tillerman.api.printers.descriptions import describe
from tillerman.api.scheme import SCHEME, Column, ResourceInfo

Cell = str | int | float | bool
Printer = Callable[[Any, float], list[Cell]]

# proto package -> modules of this package that hold its printers (each has PRINTERS: kind -> function)
_MODULES: Final = {
    "k8s.io.api.core.v1": ("pods", "core", "services", "workloads"),
    "k8s.io.api.apps.v1": ("workloads",),
    "k8s.io.api.batch.v1": ("workloads",),
    "k8s.io.api.autoscaling.v1": ("autoscaling",),
    "k8s.io.api.autoscaling.v2": ("autoscaling",),
    "k8s.io.api.discovery.v1": ("services",),
    "k8s.io.api.networking.v1": ("services",),
    "k8s.io.api.events.v1": ("core",),
    "k8s.io.api.storage.v1": ("storage",),
}
_OTHERS: Final = ("policy", "storage")
_NAME_AND_AGE: Final = (Column("Name", "string", False), Column("Age", "string", False))
# Kinds whose columns the resource table does not list.
_COLUMNS: Final = {
    "MutatingWebhookConfiguration": {"Name": "string", "Webhooks": "integer", "Age": "string"},
    "ValidatingWebhookConfiguration": {"Name": "string", "Webhooks": "integer", "Age": "string"},
    "CSINode": {"Name": "string", "Drivers": "integer", "Age": "string"},
    "VolumeAttachment": {
        "Name": "string",
        "Attacher": "string",
        "PV": "string",
        "Node": "string",
        "Attached": "boolean",
        "Age": "string",
    },
    "ComponentStatus": {"Name": "string", "Status": "string", "Message": "string", "Error": "string"},
    "PodTemplate": {"Name": "string", "Containers": "string", "Images": "string", "Pod Labels": "string"},
}
_NAMES: Final = frozenset({("VolumeAttachment", "Attacher")})
_found: dict[str, Printer] = {}


def columns_of(info: ResourceInfo) -> tuple[Column, ...]:
    """The columns of a resource's table, wide ones included."""
    if info.columns:
        return info.columns
    listed = _COLUMNS.get(info.kind)
    return tuple(Column(name, kind, False) for name, kind in listed.items()) if listed else _NAME_AND_AGE


def definitions(info: ResourceInfo) -> list[dict[str, Any]]:
    """The columns as a Table's columnDefinitions."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": "name" if column.name == "Name" or (info.kind, column.name) in _NAMES else "",
            "description": describe(info.kind, column.name),
            "priority": 1 if column.wide else 0,
        }
        for column in columns_of(info)
    ]


def cells(obj: Message, now: float) -> list[Cell]:
    """One cell per column of columns_of(); `now` in epoch seconds."""
    name = obj.DESCRIPTOR.full_name
    printer = _found.get(name)
    if printer is None:
        printer = _found[name] = _find(name)
    return printer(obj, now)


def _find(full_name: str) -> Printer:
    package, _, kind = full_name.rpartition(".")
    for module in (*_MODULES.get(package, ()), *_OTHERS):
        printers: dict[str, Printer] = import_module(f"tillerman.api.printers.{module}").PRINTERS
        if kind in printers:
            return printers[kind]
    try:
        columns = columns_of(SCHEME.by_kind(*SCHEME.kind_of_name(full_name)))
    except LookupError:
        columns = _NAME_AND_AGE
    return _created_at if columns[-1].name == "Created At" else _name_and_age


def _name_and_age(obj: Any, now: float) -> list[Cell]:
    return [obj.metadata.name, age(obj.metadata.creationTimestamp, now)]


def _created_at(obj: Any, now: float) -> list[Cell]:
    return [obj.metadata.name, times.rfc3339(obj.metadata.creationTimestamp)]


def custom_cells(obj: Mapping[str, Any], columns: Iterable[tuple[str, str, str]], now: float) -> list[Cell | None]:
    """Cells of a custom resource, None where it has nothing to show. `columns` are (name, type, JSONPath), as its
    definition lists them.
    """
    return [_custom_cell(obj, kind, path, now) for _, kind, path in columns]


def _custom_cell(obj: Mapping[str, Any], kind: str, path: str, now: float) -> Cell | None:
    from tillerman.api import jsonpath

    try:
        values = jsonpath.find(path, obj)
    except jsonpath.PathError:
        return None
    value = values[0] if values else None
    if value is None or kind == "string":
        return _text(value) if values else None
    if kind == "date":
        return _since(value, now) if isinstance(value, str) else None
    if isinstance(value, bool) or kind == "boolean":
        return value if isinstance(value, bool) and kind == "boolean" else None
    if not isinstance(value, int | float):
        return None
    return int(value) if kind == "integer" else float(value)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _since(value: str, now: float) -> str:
    try:
        return age(times.parse_rfc3339(value), now)
    except ValueError:
        return "<invalid>"
