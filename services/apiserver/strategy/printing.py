"""Values in refusals as Go's %#v writes them, where that says as much as their JSON form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.message import Message

from tillerman.api.status import Printed, shown
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import intstr_pb2
from tillerman.pb.k8s import meta_v1_pb2 as meta
from tillerman.pb.k8s import rbac_v1_pb2 as rbac


def printed(value: Any) -> Printed | None:
    """None for values that are not written so: single ones, and messages that point to others."""
    if isinstance(value, Message):
        if type(value) in _STRUCTS:
            return _struct(value)
        write = _MESSAGES.get(type(value))
        return None if write is None else Printed(write(value))
    if isinstance(value, str | bytes | int | float | None):
        return None
    if isinstance(value, Mapping):
        return Printed(_map(value)) if all(isinstance(item, str) for item in value.values()) else None
    if isinstance(value, Iterable):
        items = list(value)
        return Printed(_texts(items)) if items and all(isinstance(item, str) for item in items) else None
    return None


def _map(values: Mapping[str, str]) -> str:
    """Go knows maps that are empty, and maps that are not there; here they are the same."""
    if not values:
        return "map[string]string(nil)"
    return f"map[string]string{{{', '.join(f'{shown(name)}:{shown(values[name])}' for name in sorted(values))}}}"


def _texts(values: Iterable[str]) -> str:
    items = [shown(value) for value in values]
    return f"[]string{{{', '.join(items)}}}" if items else "[]string(nil)"


def _number_or_text(value: Any) -> str:
    return f"intstr.IntOrString{{Type:{value.type}, IntVal:{value.intVal}, StrVal:{shown(value.strVal)}}}"


def _requirement(value: Any) -> str:
    fields = f"Key:{shown(value.key)}, Operator:{shown(value.operator)}, Values:{_texts(value.values)}"
    return f"v1.LabelSelectorRequirement{{{fields}}}"


def _selector(value: Any) -> str:
    expressions = ", ".join(map(_requirement, value.matchExpressions))
    written = f"{{{expressions}}}" if expressions else "(nil)"
    labels = _map(value.matchLabels)
    return f"v1.LabelSelector{{MatchLabels:{labels}, MatchExpressions:[]v1.LabelSelectorRequirement{written}}}"


def _struct(value: Any) -> Printed | None:
    """None where a pointer leads somewhere: Go prints its address."""
    name, fields = _STRUCTS[type(value)]
    written = []
    for field, pointer in fields.items():
        if pointer and value.HasField(field):
            return None
        text = f"({pointer})(nil)" if pointer else shown(getattr(value, field))
        written.append(f"{_GO_NAMES.get(field, field[0].upper() + field[1:])}:{text}")
    return Printed(f"{name}{{{', '.join(written)}}}")


_GO_NAMES = {"apiVersion": "APIVersion", "apiGroup": "APIGroup", "uid": "UID"}
# By message: Go's name, and the fields in Go's order; with their types where they are pointers.
_STRUCTS: dict[type[Any], tuple[str, dict[str, str]]] = {
    apps.DeploymentStrategy: (
        "apps.DeploymentStrategy",
        {"type": "", "rollingUpdate": "*apps.RollingUpdateDeployment"},
    ),
    apps.DaemonSetUpdateStrategy: (
        "apps.DaemonSetUpdateStrategy",
        {"type": "", "rollingUpdate": "*apps.RollingUpdateDaemonSet"},
    ),
    apps.StatefulSetUpdateStrategy: (
        "apps.StatefulSetUpdateStrategy",
        {"type": "", "rollingUpdate": "*apps.RollingUpdateStatefulSetStrategy"},
    ),
    core.Toleration: (
        "core.Toleration",
        {"key": "", "operator": "", "value": "", "effect": "", "tolerationSeconds": "*int64"},
    ),
    meta.OwnerReference: (
        "v1.OwnerReference",
        {"apiVersion": "", "kind": "", "name": "", "uid": "", "controller": "*bool", "blockOwnerDeletion": "*bool"},
    ),
    rbac.RoleRef: ("rbac.RoleRef", {"apiGroup": "", "kind": "", "name": ""}),
}
_MESSAGES: dict[type[Any], Callable[[Any], str]] = {
    intstr_pb2.IntOrString: _number_or_text,
    meta.LabelSelector: _selector,
    meta.LabelSelectorRequirement: _requirement,
}
