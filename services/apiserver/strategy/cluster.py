"""Namespace and Node."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    forbidden,
    invalid,
    invalid_all,
    label_value,
    non_negative,
    qualified_name,
    required,
)
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.masking import take_field
from services.apiserver.strategy.metadata import finalizer_name
from services.apiserver.strategy.names import dns_label
from services.apiserver.strategy.pod_scheduling import taint_effect
from services.apiserver.strategy.ports import parse_cidr
from services.apiserver.strategy.resources import amount
from tillerman.pb.k8s import core_v1_pb2 as core

_FINALIZER = "kubernetes"
_TAINTS_UNIQUE = "taints must be unique by key and effect pair"


def _create_namespace(namespace: Any) -> None:
    namespace.status.phase = "Active"
    if _FINALIZER not in namespace.spec.finalizers:
        namespace.spec.finalizers.append(_FINALIZER)
    # The name may have been generated after the defaults were filled.
    if namespace.metadata.name:
        namespace.metadata.labels["kubernetes.io/metadata.name"] = namespace.metadata.name


def _update_namespace(new: Any, old: Any) -> None:
    """Only the finalize subresource takes finalizers away."""
    del new.spec.finalizers[:]
    new.spec.finalizers.extend(old.spec.finalizers)


def _validate_namespace(namespace: Any) -> list[Cause]:
    return [cause for name in namespace.spec.finalizers for cause in _namespace_finalizer("spec.finalizers", name)]


def _validate_finalize(new: Any, _old: Any) -> list[Cause]:
    found = enumerate(new.spec.finalizers)
    return [cause for index, name in found for cause in _namespace_finalizer(f"spec.finalizers[{index}]", name)]


def _namespace_finalizer(path: str, name: str) -> list[Cause]:
    return [*invalid_all(path, name, qualified_name(name)), *finalizer_name(path, name)]


def _validate_namespace_status(new: Any, old: Any) -> list[Cause]:
    if not new.metadata.HasField("deletionTimestamp"):
        if new.status.phase not in ("", "Active"):
            detail = "may only be 'Active' if `deletionTimestamp` is empty"
            return [invalid("status.Phase", new.status.phase, detail)]
    elif new.status.phase != "Terminating":
        detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        return [invalid("status.Phase", new.status.phase, detail)]
    return []


def _create_node(node: Any) -> None:
    node.status.SetInParent()


def _validate_node(node: Any) -> list[Cause]:
    causes = _taints("metadata.taints", node.spec.taints)
    causes += _capacity(node.status)
    cidrs = list(node.spec.podCIDRs)
    for index, cidr in enumerate(cidrs):
        if parse_cidr(cidr) is None:
            causes.append(invalid(f"spec.podCIDRs[{index}]", cidrs, "must be valid CIDR"))
    # A node that is stored already has what it has.
    if len(cidrs) > 1 and not node.metadata.resourceVersion:
        families = [network.version for network in map(parse_cidr, cidrs) if network is not None]
        if len(cidrs) > 2 or len(set(families)) < len(families):
            detail = "may specify no more than one CIDR for each IP family"
            causes.append(invalid("spec.podCIDRs", cidrs, detail))
    return causes


def _taints(path: str, taints: Any) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        where = f"{path}[{index}]"
        causes += invalid_all(f"{where}.key", taint.key, qualified_name(taint.key))
        problems = label_value(taint.value)
        if problems:
            causes.append(invalid(f"{where}.value", taint.value, ";".join(problems)))
        causes += taint_effect(f"{where}.effect", taint.effect) if taint.effect else [required(f"{where}.effect")]
        if (taint.key, taint.effect) in seen:
            shown = f'{{"effect":"{taint.effect}","key":"{taint.key}"}}'
            causes.append(Cause(where, "FieldValueDuplicate", f"Duplicate value: {shown}: {_TAINTS_UNIQUE}"))
        seen.add((taint.key, taint.effect))
    return causes


def _capacity(status: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("capacity", "allocatable"):
        resources = getattr(status, field)
        for name in sorted(resources):
            causes += amount(f"status.{field}.{name}", name, resources[name])
    return causes


def _validate_node_update(new: Any, old: Any) -> list[Cause]:
    """What identifies a node's machine may be filled in, never changed."""
    causes: list[Cause] = []
    if old.spec.podCIDRs and list(old.spec.podCIDRs) != list(new.spec.podCIDRs):
        detail = 'node updates may not change podCIDR except from "" to valid'
        causes.append(forbidden("spec.podCIDRs", detail))
    if old.spec.providerID and old.spec.providerID != new.spec.providerID:
        detail = 'node updates may not change providerID except from "" to valid'
        causes.append(forbidden("spec.providerID", detail))
    changed = core.Node()
    changed.spec.CopyFrom(new.spec)
    for field in ("taints", "unschedulable", "configSource"):
        take_field(changed.spec, old.spec, field)
    if not old.spec.podCIDRs:
        changed.spec.podCIDR = old.spec.podCIDR
        del changed.spec.podCIDRs[:]
    if not old.spec.providerID:
        changed.spec.providerID = old.spec.providerID
    if not semantically_equal(changed.spec, old.spec):
        detail = "node updates may only change labels, taints, or capacity"
        causes.append(forbidden("[]", detail))
    return causes


def _validate_node_status(new: Any, old: Any) -> list[Cause]:
    causes = _capacity(new.status)
    seen: set[tuple[str, str]] = set()
    for index, address in enumerate(new.status.addresses):
        key = (address.type, address.address)
        if key in seen:
            shown = f'{{"address":"{address.address}","type":"{address.type}"}}'
            message = f"Duplicate value: {shown}"
            causes.append(Cause(f"status.addresses[{index}]", "FieldValueDuplicate", message))
        seen.add(key)
    port = new.status.daemonEndpoints.kubeletEndpoint.Port
    return causes + non_negative("status.daemonEndpoints.kubeletEndpoint.Port", port)


KINDS = {
    core.Namespace: Kind(
        name=dns_label,
        namespaced=False,
        status=True,
        create=_create_namespace,
        update=_update_namespace,
        validate=_validate_namespace,
        validate_status=_validate_namespace_status,
        through={"finalize": _validate_finalize},
    ),
    # A kubelet may register its node complete with status.
    core.Node: Kind(
        namespaced=False,
        create=_create_node,
        update=lambda new, old: new.status.CopyFrom(old.status),
        validate=_validate_node,
        validate_update=_validate_node_update,
        validate_status=_validate_node_status,
    ),
}
