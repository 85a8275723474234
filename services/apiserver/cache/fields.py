"""The fields that field selectors may name, per resource, as Kubernetes supports them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tillerman.api.selectors import FieldSelector, parse_field_selector
from tillerman.api.status import bad_request

Extract = Callable[[Any], dict[str, str]]

_NAME, _META = ("metadata.name",), ("metadata.name", "metadata.namespace")
_OF_EVENT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


def _same(*paths: str) -> dict[str, str]:
    return {path: path for path in paths}


# (api version, resource) -> the name that a selector may use -> the field of the stored object. Resources that are not
# here can be selected by name and namespace only.
_SUPPORTED: dict[tuple[str, str], dict[str, str]] = {
    ("v1", "pods"): {
        **_same(*_META, "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"),
        **_same("spec.hostNetwork", "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName"),
        "spec.host": "spec.nodeName",
    },
    ("v1", "events"): {
        **_same(*_META, *(f"involvedObject.{name}" for name in _OF_EVENT)),
        **_same("reason", "reportingComponent", "source", "type"),
    },
    ("events.k8s.io/v1", "events"): {
        **_same(*_META, "reason", "type"),
        **{f"regarding.{name}": f"involvedObject.{name}" for name in _OF_EVENT},
        "reportingController": "reportingComponent",
    },
    ("v1", "nodes"): _same(*_NAME, "spec.unschedulable"),
    ("v1", "namespaces"): _same(*_NAME, "status.phase"),
    ("v1", "secrets"): _same(*_META, "type"),
    ("v1", "services"): _same(*_META, "spec.clusterIP", "spec.type"),
    ("v1", "replicationcontrollers"): _same(*_META, "status.replicas"),
    ("batch/v1", "jobs"): _same(*_META, "status.successful"),
    ("certificates.k8s.io/v1", "certificatesigningrequests"): _same(*_NAME, "spec.signerName"),
}
_BOOLEANS = frozenset({"spec.unschedulable", "spec.hostNetwork"})


def parse(text: str) -> FieldSelector:
    """Raises BadRequest."""
    try:
        return parse_field_selector(text)
    except ValueError as error:
        raise bad_request(str(error)) from error


def resolve(selector: FieldSelector, api_version: str, resource: str) -> FieldSelector:
    """The selector with the names of the stored object's fields. Raises BadRequest for one that cannot be selected."""
    known = _SUPPORTED.get((api_version, resource))
    allowed = known if known is not None else _same(*_META)
    for path, _, _ in selector.requirements:
        if path not in allowed:
            raise bad_request(_unknown(path, resource, known is None))
    return FieldSelector(tuple((allowed[path], operator, value) for path, operator, value in selector.requirements))


def _unknown(path: str, resource: str, of_many: bool) -> str:
    """Kubernetes' words, which jobs have of their own, and so have the ``of_many`` kinds with a name only."""
    if of_many:
        return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    return f'field label "{path}" not supported for Job' if resource == "jobs" else f"field label not supported: {path}"


def extractor(api_version: str, resource: str) -> Extract:
    """A function from a decoded object to all its selectable fields."""
    paths = [path for path in _SUPPORTED.get((api_version, resource), {}).values() if path not in _META]

    def extract(message: Any) -> dict[str, str]:
        values = {"metadata.name": message.metadata.name, "metadata.namespace": message.metadata.namespace}
        for path in paths:
            values[path] = _value(message, path)
        return values

    return extract


def _value(message: Any, path: str) -> str:
    if path == "source":
        return message.source.component or str(message.reportingComponent)
    if path == "status.successful":
        return str(message.status.succeeded)
    if path == "status.podIPs":
        return ""  # Kubernetes takes the name and never gives it a value
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
