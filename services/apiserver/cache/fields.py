"""The fields that field selectors may name, per resource, as Kubernetes supports them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tillerman.api.selectors import FieldSelector
from tillerman.api.status import bad_request

Extract = Callable[[Any], dict[str, str]]

_META = ("metadata.name", "metadata.namespace")

_EVENT = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "type",
)

_SUPPORTED: dict[tuple[str, str], tuple[str, ...]] = {
    ("v1", "pods"): (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    ("v1", "events"): (*_EVENT, "reportingComponent", "source"),
    ("v1", "nodes"): ("spec.unschedulable",),
    ("v1", "namespaces"): ("status.phase",),
    ("v1", "secrets"): ("type",),
    ("v1", "services"): ("spec.clusterIP", "spec.type"),
    ("v1", "replicationcontrollers"): ("status.replicas",),
    ("apps/v1", "replicasets"): ("status.replicas",),
    ("batch/v1", "jobs"): ("status.successful",),
    ("certificates.k8s.io/v1", "certificatesigningrequests"): ("spec.signerName",),
}
_BOOLEANS = frozenset({"spec.unschedulable", "spec.hostNetwork"})
_COUNTS = frozenset({"status.replicas"})


def supported(api_version: str, resource: str) -> frozenset[str]:
    return frozenset(_META + _SUPPORTED.get((api_version, resource), ()))


def check(selector: FieldSelector, api_version: str, resource: str) -> None:
    """Raises BadRequest for a field that cannot be selected on."""
    known = supported(api_version, resource)
    for path, _, _ in selector.requirements:
        if path not in known:
            raise bad_request(
                f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
                if (api_version, resource) not in _SUPPORTED
                else f"field label not supported: {path}"
            )


def extractor(api_version: str, resource: str) -> Extract:
    """A function from a decoded object to all its selectable fields."""
    paths = _SUPPORTED.get((api_version, resource), ())

    def extract(message: Any) -> dict[str, str]:
        values = {"metadata.name": message.metadata.name, "metadata.namespace": message.metadata.namespace}
        for path in paths:
            values[path] = _value(message, path)
        return values

    return extract


def _value(message: Any, path: str) -> str:
    if path == "source":
        return message.source.component or str(message.reportingComponent)
    if path == "reportingComponent":
        return str(message.reportingComponent)
    if path == "status.successful":
        return str(message.status.succeeded)
    value: Any = message
    for name in path.split("."):
        value = getattr(value, name)
    if path in _BOOLEANS:
        return "true" if value else "false"
    return str(value)


def matcher(selector: FieldSelector, extract: Extract) -> Callable[[Any], bool]:
    """A test of an Entry."""

    def matches(entry: Any) -> bool:
        values: Mapping[str, str] = entry.fields(extract)
        return selector.matches(lambda path: values.get(path, ""))

    return matches
