"""Tables: objects as rows, for `kubectl get`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson

from services.apiserver.cache.entry import Entry
from services.apiserver.crd import columns as custom_columns
from services.apiserver.crd.definition import CustomInfo
from services.apiserver.fronts.http.content import META, Answer, partial, pieced
from services.apiserver.fronts.http.pieces import json_list
from tillerman.api import codec
from tillerman.api.printers import cells, definitions
from tillerman.api.printers.ages import age
from tillerman.api.scheme import ResourceInfo
from tillerman.api.status import StatusError, bad_request


def columns(info: ResourceInfo) -> list[dict[str, Any]]:
    """columnDefinitions."""
    if isinstance(info, CustomInfo):
        return custom_columns.definitions(info.printed)
    return definitions(info)


def check_include(include: str) -> str:
    """The query's includeObject. Raises BadRequest."""
    if include not in ("", "None", "Metadata", "Object"):
        raise unknown_include(include)
    return include or "Metadata"


def unknown_include(include: str) -> StatusError:
    return bad_request(
        f'Unable to convert to Table as requested: includeObject: Invalid value: "{include}": '
        "must be 'Metadata', 'Object', 'None', or empty"
    )


def row(info: ResourceInfo, entry: Entry, include: str, now: float, api_version: str = META) -> dict[str, Any]:
    found: list[Any]
    if isinstance(info, CustomInfo):
        found = custom_columns.cells(orjson.loads(entry.json), info.printed, now)
    else:
        found = cells(entry.message(), now)
    result: dict[str, Any] = {"cells": found}
    if ended := conditions(info, entry):
        result["conditions"] = ended
    if include == "Object":
        result["object"] = orjson.Fragment(entry.json)
    elif include == "Metadata":
        result["object"] = partial(orjson.loads(entry.json), api_version)
    return result


def scale(obj: Any, include: str) -> bytes:
    """The Table of a Scale, which is no resource of its own."""
    whole = codec.to_json(obj)
    one: dict[str, Any] = {
        "cells": [
            obj.metadata.name,
            obj.spec.replicas,
            obj.status.replicas,
            age(obj.metadata.creationTimestamp, time.time()),
        ]
    }
    if include == "Object":
        one["object"] = orjson.Fragment(whole)
    elif include == "Metadata":
        one["object"] = partial(orjson.loads(whole))
    definitions = [
        {
            "name": name,
            "type": kind,
            "format": "name" if name == "Name" else "",
            "description": f"{name} of the Scale.",
            "priority": 0,
        }
        for name, kind in (("Name", "string"), ("Desired", "integer"), ("Available", "integer"), ("Age", "string"))
    ]
    content = {"kind": "Table", "apiVersion": META, "metadata": {"resourceVersion": obj.metadata.resourceVersion}}
    return orjson.dumps({**content, "columnDefinitions": definitions, "rows": [one]})


_COMPLETED = {"type": "Completed", "status": "True"}
ENDED = {
    "Succeeded": [{**_COMPLETED, "reason": "Succeeded", "message": "The pod has completed successfully."}],
    "Failed": [{**_COMPLETED, "reason": "Failed", "message": "The pod failed."}],
}


def conditions(info: ResourceInfo, entry: Entry) -> list[dict[str, str]] | None:
    """A row's conditions: which pods have ended, for those who don't show them."""
    return ENDED.get(entry.message().status.phase) if info.kind == "Pod" and info.group == "" else None


def table(
    info: ResourceInfo,
    entries: list[Entry],
    include: str,
    meta: dict[str, Any],
    *,
    with_columns: bool = True,
    api_version: str = META,
) -> bytes:
    """``with_columns`` False: as the later events of a watch have it. ``api_version``: of the Table."""
    return b"".join(_pieces(info, entries, include, meta, api_version, with_columns=with_columns))


def listed(
    info: ResourceInfo, entries: list[Entry], include: str, meta: dict[str, Any], api_version: str = META
) -> Answer:
    """A list's answer."""
    return pieced(entries, _pieces(info, entries, include, meta, api_version))


def _pieces(
    info: ResourceInfo,
    entries: list[Entry],
    include: str,
    meta: dict[str, Any],
    api_version: str,
    *,
    with_columns: bool = True,
) -> Iterator[bytes]:
    now = time.time()

    def encode(entry: Entry) -> bytes:
        made: bytes = orjson.dumps(row(info, entry, include, now, api_version))
        return made

    head = {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": meta,
        "columnDefinitions": columns(info) if with_columns else None,
    }
    return json_list(head, "rows", entries, encode)
