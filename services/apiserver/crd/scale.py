"""The scale subresource of custom resources: where the definition says that replicas and selector stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.apiserver.crd.objects import CustomObject
from tillerman.api.status import Cause, internal, invalid_value
from tillerman.pb.k8s import autoscaling_v1_pb2

_MAX = 2**31 - 1
_GO_TYPES = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    list: "[]interface {}",
    dict: "map[string]interface {}",
    type(None): "<nil>",
}


class AccessError(ValueError):
    """Something else stands where a number or text should be."""


def _at(content: Mapping[str, Any], path: str, wanted: type) -> Any:
    """The value at a path such as `.spec.replicas`; None when it is missing. Raises AccessError."""
    steps = path.removeprefix(".").split(".")
    value: Any = content
    for index, step in enumerate(steps):
        if not isinstance(value, Mapping):
            raise _accessor(steps[:index], value, "map[string]interface{}")
        if step not in value:
            return None
        value = value[step]
    if type(value) is not wanted:
        raise _accessor(steps, value, _GO_TYPES[wanted])
    return value


def _accessor(steps: list[str], value: Any, wanted: str) -> AccessError:
    shown = value if isinstance(value, str) else orjson.dumps(value).decode()
    path, found = "." + ".".join(steps), _GO_TYPES[type(value)]
    return AccessError(f"{path} accessor error: {shown} is of the type {found}, expected {wanted}")


def validate(content: Mapping[str, Any], paths: Mapping[str, str], *, spec: bool = True) -> list[Cause]:
    """What is wrong with the replicas and the selector; with ``spec`` False only the status is looked at."""
    causes: list[Cause] = []
    if spec:
        causes += _replicas(content, paths["specReplicasPath"])
        if selector := paths.get("labelSelectorPath"):
            try:
                _at(content, selector, str)
            except AccessError as error:
                causes.append(invalid_value(selector, "", str(error)))
    return causes + _replicas(content, paths["statusReplicasPath"])


def _replicas(content: Mapping[str, Any], path: str) -> list[Cause]:
    try:
        replicas = _at(content, path, int) or 0
    except AccessError as error:
        return [invalid_value(path, 0, str(error))]
    if replicas < 0:
        return [invalid_value(path, replicas, "should be a non-negative integer")]
    if replicas > _MAX:
        return [invalid_value(path, replicas, f"should be less than or equal to {_MAX}")]
    return []


def scale_of(obj: CustomObject, paths: Mapping[str, str]) -> autoscaling_v1_pb2.Scale:
    """Missing replicas count as none. Raises InternalError where something else stands in their place."""
    try:
        replicas = _at(obj.content, paths["specReplicasPath"], int)
        observed = _at(obj.content, paths["statusReplicasPath"], int)
        selector = _at(obj.content, path, str) if (path := paths.get("labelSelectorPath")) else None
    except AccessError as error:
        raise internal(str(error)) from error
    found = autoscaling_v1_pb2.Scale()
    meta = obj.metadata
    for name in ("name", "namespace", "uid", "resourceVersion"):
        if value := getattr(meta, name):
            setattr(found.metadata, name, value)
    found.metadata.creationTimestamp.CopyFrom(meta.creationTimestamp)
    if replicas:
        found.spec.replicas = replicas
    found.status.replicas = observed or 0
    if selector:
        found.status.selector = selector
    return found


def check(obj: CustomObject, paths: Mapping[str, str]) -> None:
    """Raises InternalError for an object whose replicas are not set, which has no scale to show."""
    path = paths["specReplicasPath"]
    try:
        replicas = _at(obj.content, path, int)
    except AccessError as error:
        raise internal(str(error)) from error
    if replicas is None:
        raise internal(f'the spec replicas field "{path}" does not exist')


def set_replicas(obj: CustomObject, paths: Mapping[str, str], replicas: int) -> None:
    """Raises InternalError when the object has no place for them."""
    *steps, last = paths["specReplicasPath"].removeprefix(".").split(".")
    place: Any = obj.content
    for step in steps:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise internal(f"{step} is not an object")
    place[last] = replicas
