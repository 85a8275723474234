"""Rules for environment variables and for references to a pod's own fields."""

from __future__ import annotations

import re
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    invalid,
    invalid_all,
    not_supported,
    qualified_name,
    required,
)
from services.apiserver.strategy.names import dns_subdomain
from tillerman.api.quantity import canonical, parse_quantity
from tillerman.api.validation import is_config_key, is_env_name

_ENVIRONMENT_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = ("metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid")
_KNOWN_FIELDS = {
    *_ENVIRONMENT_FIELDS,
    *VOLUME_FIELDS,
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
    "spec.host",
}
_SUBSCRIPTED = ("metadata.labels", "metadata.annotations")
_RESOURCES = tuple(
    f"{side}.{name}" for side in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory")
)
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_CPU_DIVISORS = ("1m", "1")
_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_SHOWN = {"ephemeral-storage": "local ephemeral storage"}
_SUBSCRIPT = re.compile(r"(.+?)\['(.*)'\]", re.DOTALL)
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def environment(path: str, variables: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, variable in enumerate(variables):
        where = f"{path}[{index}]"
        if not variable.name:
            causes.append(required(f"{where}.name"))
        else:
            causes += invalid_all(f"{where}.name", variable.name, is_env_name(variable.name))
        if variable.HasField("valueFrom"):
            causes += _value_from(f"{where}.valueFrom", variable)
    return causes


def _value_from(path: str, variable: Any) -> list[Cause]:
    source = variable.valueFrom
    causes: list[Cause] = []
    given = [name for name in _SOURCES if name in source.DESCRIPTOR.fields_by_name and source.HasField(name)]
    if "fieldRef" in given:
        causes += field_reference(f"{path}.fieldRef", source.fieldRef, _ENVIRONMENT_FIELDS)
    if "resourceFieldRef" in given:
        causes += resource_reference(f"{path}.resourceFieldRef", source.resourceFieldRef, volume=False)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in given:
            causes += _key_reference(f"{path}.{name}", getattr(source, name))
    if not given:
        detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        causes.append(invalid(path, "", detail))
    elif variable.value:
        causes.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        causes.append(invalid(path, "", "may not have more than one field specified at a time"))
    return causes


def _key_reference(path: str, selector: Any) -> list[Cause]:
    name = selector.localObjectReference.name
    causes = invalid_all(f"{path}.name", name, dns_subdomain(name))
    if not selector.key:
        return [*causes, required(f"{path}.key")]
    return causes + invalid_all(f"{path}.key", selector.key, is_config_key(selector.key))


def environment_sources(path: str, sources: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, source in enumerate(sources):
        where = f"{path}[{index}]"
        if source.prefix:
            causes += invalid_all(f"{where}.prefix", source.prefix, is_env_name(source.prefix))
        given = [name for name in ("configMapRef", "secretRef") if source.HasField(name)]
        for name in given:
            reference = getattr(source, name).localObjectReference.name
            if not reference:
                causes.append(required(f"{where}.{name}.name"))
            else:
                causes += invalid_all(f"{where}.{name}.name", reference, dns_subdomain(reference, prefix=True))
        # Kubernetes leaves the index out of these two paths.
        if not given:
            causes.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            causes.append(invalid(path, "", "may not have more than one field specified at a time"))
    return causes


def field_reference(path: str, reference: Any, allowed: tuple[str, ...]) -> list[Cause]:
    """A reference to a field of the pod itself."""
    if not reference.apiVersion:
        return [required(f"{path}.apiVersion")]
    if not reference.fieldPath:
        return [required(f"{path}.fieldPath")]
    subscript = _SUBSCRIPT.fullmatch(reference.fieldPath)
    field, key = subscript.groups() if subscript else (reference.fieldPath, "")
    problem = ""
    if reference.apiVersion != "v1":
        problem = f"unsupported pod version: {reference.apiVersion}"
    elif subscript and field not in _SUBSCRIPTED:
        problem = f"field label does not support subscript: {reference.fieldPath}"
    elif field not in _KNOWN_FIELDS:
        problem = f"field label not supported: {reference.fieldPath}"
    if problem:
        return [invalid(f"{path}.fieldPath", reference.fieldPath, f"error converting fieldPath: {problem}")]
    if subscript:
        return invalid_all(path, key, qualified_name(key.lower() if field == "metadata.annotations" else key))
    # An old name for the node's.
    if (field := "spec.nodeName" if field == "spec.host" else field) not in allowed:
        return [not_supported(f"{path}.fieldPath", field, sorted(allowed))]
    return []


def resource_reference(path: str, reference: Any, *, volume: bool) -> list[Cause]:
    """A reference to a container's request or limit."""
    causes: list[Cause] = []
    resource = reference.resource
    name = resource.partition(".")[2]
    huge = resource.startswith(_HUGE_PAGES)
    if volume and not reference.containerName:
        causes.append(required(f"{path}.containerName"))
    elif not resource:
        causes.append(required(f"{path}.resource"))
    elif resource not in _RESOURCES and not huge:
        causes.append(not_supported(f"{path}.resource", resource, _RESOURCES))
    divisor = reference.divisor.string
    if (resource in _RESOURCES or huge) and divisor and parse_quantity(divisor) != 0:
        shown = "hugepages" if huge else _SHOWN.get(name, name)
        allowed = _CPU_DIVISORS if name == "cpu" else _DIVISORS
        if canonical(divisor) not in allowed:
            values = (" and " if name == "cpu" else ", ").join(allowed)
            detail = f"only divisor's values {values} are supported with the {shown} resource"
            causes.append(invalid(f"{path}.divisor", resource, detail))
    return causes
