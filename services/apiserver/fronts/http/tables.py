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
from tillerman.api.printers import cells, columns_of
from tillerman.api.printers.ages import age
from tillerman.api.scheme import ResourceInfo
from tillerman.api.status import StatusError, bad_request


def columns(info: ResourceInfo) -> list[dict[str, Any]]:
    """columnDefinitions."""
    if isinstance(info, CustomInfo):
        return custom_columns.definitions(info.printed)
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": "name" if column.name == "Name" else "",
            "description": f"{column.name} of the {info.kind}.",
            "priority": 1 if column.wide else 0,
        }
        for column in columns_of(info)
    ]


def check_include(include: str) -> str:
    """The query's includeObject. Raises BadRequest."""
    if include not in ("", "None", "Metadata", "Object"):
        raise unknown_include(include)
    return include or "Metadata"


def unknown_include(include: str) -> StatusError:
    return bad_request(f'Invalid value: "{include}": includeObject must be None, Metadata or Object')


def row(info: ResourceInfo, entry: Entry, include: str, now: float) -> dict[str, Any]:
    found: list[Any]
    if isinstance(info, CustomInfo):
        found = custom_columns.cells(orjson.loads(entry.json), info.printed, now)
    else:
        found = cells(entry.message(), now)
    result: dict[str, Any] = {"cells": found}
    if include == "Object":
        result["object"] = orjson.Fragment(entry.json)
    elif include == "Metadata":
        result["object"] = partial(orjson.loads(entry.json))
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


def table(
    info: ResourceInfo, entries: list[Entry], include: str, meta: dict[str, Any], *, with_columns: bool = True
) -> bytes:
    """``with_columns`` False: as the later events of a watch have it."""
    return b"".join(_pieces(info, entries, include, meta, with_columns=with_columns))


def listed(info: ResourceInfo, entries: list[Entry], include: str, meta: dict[str, Any]) -> Answer:
    """A list's answer."""
    return pieced(entries, _pieces(info, entries, include, meta))


def _pieces(
    info: ResourceInfo, entries: list[Entry], include: str, meta: dict[str, Any], *, with_columns: bool = True
) -> Iterator[bytes]:
    now = time.time()

    def encode(entry: Entry) -> bytes:
        made: bytes = orjson.dumps(row(info, entry, include, now))
        return made

    head = {
        "kind": "Table",
        "apiVersion": META,
        "metadata": meta,
        "columnDefinitions": columns(info) if with_columns else None,
    }
    return json_list(head, "rows", entries, encode)
