"""CustomResourceDefinition."""

from __future__ import annotations

import re
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    immutable,
    invalid,
    invalid_all,
    not_supported,
    required,
)
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns1035_label, dns_subdomain
from services.apiserver.strategy.structural import schema_rules
from tillerman.pb.k8s import apiextensions_v1_pb2 as apiextensions

_SIMPLE_PATH = re.compile(r"(\.[a-zA-Z_][a-zA-Z0-9_-]*(\[[^\]]*\])?)+|\.")
_SIMPLE_PATH_DETAIL = "must be a simple json path starting with ."
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("int32", "int64", "float", "double", "byte", "date", "date-time", "password")
_ONE_STORAGE = "must have exactly one version marked as storage version"


def _create(definition: Any) -> None:
    definition.status.SetInParent()
    _store_versions(definition)


def _store_versions(definition: Any) -> None:
    """The storage version counts as stored from now on."""
    for version in definition.spec.versions:
        if version.storage and version.name not in definition.status.storedVersions:
            definition.status.storedVersions.append(version.name)


def _update(new: Any, old: Any) -> None:
    _store_versions(new)


def _update_status(new: Any, old: Any) -> None:
    """A status write leaves metadata as it is."""
    version, managed = new.metadata.resourceVersion, list(new.metadata.managedFields)
    new.metadata.CopyFrom(old.metadata)
    new.metadata.resourceVersion = version
    del new.metadata.managedFields[:]
    new.metadata.managedFields.extend(managed)


def _validate(definition: Any) -> list[Cause]:
    spec = definition.spec
    causes: list[Cause] = []
    expected = f"{spec.names.plural}.{spec.group}"
    if definition.metadata.name != expected:
        detail = 'must be spec.names.plural+"."+spec.group'
        causes.append(invalid("metadata.name", definition.metadata.name, detail))
    causes += _group(spec.group)
    if not spec.scope:
        causes.append(required("spec.scope"))
    elif spec.scope not in ("Cluster", "Namespaced"):
        causes.append(not_supported("spec.scope", spec.scope, ["Cluster", "Namespaced"]))
    causes += _versions(spec)
    causes += _names("spec.names", spec.names)
    causes += _conversion("spec.conversion", spec.conversion)
    if not definition.status.storedVersions:
        causes.append(invalid("status.storedVersions", [], "must have at least one stored version"))
    return causes


def _group(group: str) -> list[Cause]:
    if not group:
        return [required("spec.group")]
    problems = dns_subdomain(group)
    if problems:
        return [invalid("spec.group", group, ",".join(problems))]
    if len(group.split(".")) < 2:
        return [invalid("spec.group", group, "should be a domain with at least one dot")]
    return []


def _versions(spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, version in enumerate(spec.versions):
        path = f"spec.versions[{index}].name"
        problems = dns1035_label(version.name)
        if problems:
            causes.append(invalid(path, version.name, ",".join(problems)))
        if version.name in names:
            causes.append(invalid("spec.versions", version.name, "must contain unique version names"))
        names.add(version.name)
    if sum(version.storage for version in spec.versions) != 1:
        causes.append(invalid("spec.versions", [v.name for v in spec.versions], _ONE_STORAGE))
    # What all versions share, Kubernetes reports once and under the name it has outside the versions.
    for field, shared, rules in (
        ("schema", "validation", _schema),
        ("subresources", "subresources", _subresources),
        ("additionalPrinterColumns", "additionalPrinterColumns", _columns),
    ):
        if len(spec.versions) and all(_same(field, version, spec.versions[0]) for version in spec.versions):
            if field == "schema" and not spec.versions[0].schema.HasField("openAPIV3Schema"):
                causes += _schemas_missing(spec.versions)
            else:
                causes += rules(f"spec.{shared}", spec.versions[0])
            continue
        for index, version in enumerate(spec.versions):
            if field == "schema" and not version.schema.HasField("openAPIV3Schema"):
                causes.append(required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required"))
            else:
                causes += rules(f"spec.versions[{index}].{field}", version)
    return causes


def _same(field: str, version: Any, other: Any) -> bool:
    if field == "additionalPrinterColumns":
        return list(version.additionalPrinterColumns) == list(other.additionalPrinterColumns)
    return semantically_equal(getattr(version, field), getattr(other, field))


def _schemas_missing(versions: Any) -> list[Cause]:
    paths = [f"spec.versions[{index}].schema.openAPIV3Schema" for index in range(len(versions))]
    return [required(path, "schemas are required") for path in paths]


def _schema(path: str, version: Any) -> list[Cause]:
    return schema_rules(f"{path}.openAPIV3Schema", version.schema.openAPIV3Schema)


def _subresources(path: str, version: Any) -> list[Cause]:
    if not version.subresources.HasField("scale"):
        return []
    scale = version.subresources.scale
    causes: list[Cause] = []
    for field, roots in (("specReplicasPath", (".spec.",)), ("statusReplicasPath", (".status.",))):
        causes += _scale_path(f"{path}.scale.{field}", getattr(scale, field), roots)
    if scale.labelSelectorPath:
        causes += _scale_path(f"{path}.scale.labelSelectorPath", scale.labelSelectorPath, (".spec.", ".status."))
    return causes


def _scale_path(path: str, value: str, roots: tuple[str, ...]) -> list[Cause]:
    if not value:
        return [required(path)]
    if not _SIMPLE_PATH.fullmatch(value):
        return [invalid(path, value, _SIMPLE_PATH_DETAIL)]
    if not value.startswith(roots):
        under = " or ".join(root.rstrip(".") for root in roots)
        return [invalid(path, value, f"should be a json path under {under}")]
    return []


def _columns(path: str, version: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, column in enumerate(version.additionalPrinterColumns):
        where = f"{path}[{index}]"
        if not column.name:
            causes.append(required(f"{where}.name"))
        if not column.type:
            causes.append(required(f"{where}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
        elif column.type not in _COLUMN_TYPES:
            causes.append(invalid(f"{where}.type", column.type, f"must be one of {','.join(_COLUMN_TYPES)}"))
        if column.format and column.format not in _COLUMN_FORMATS:
            detail = f"must be one of {','.join(sorted(_COLUMN_FORMATS))}"
            causes.append(invalid(f"{where}.format", column.format, detail))
        # Kubernetes spells this field in capitals.
        if not column.jsonPath:
            causes.append(required(f"{where}.JSONPath"))
        elif not column.jsonPath.startswith("."):
            causes.append(invalid(f"{where}.JSONPath", column.jsonPath, _SIMPLE_PATH_DETAIL))
    return causes


def _names(path: str, names: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("plural", "singular", "kind", "listKind"):
        value = getattr(names, field)
        if not value:
            causes.append(required(f"{path}.{field}"))
            continue
        lower = value.lower() if field in ("kind", "listKind") else value
        problems = dns1035_label(lower)
        if problems:
            prefix = "may have mixed case, but should otherwise match: " if field in ("kind", "listKind") else ""
            causes.append(invalid(f"{path}.{field}", value, prefix + ",".join(problems)))
    for field in ("shortNames", "categories"):
        for index, value in enumerate(getattr(names, field)):
            causes += invalid_all(f"{path}.{field}[{index}]", value, dns1035_label(value))
    if names.kind and names.kind == names.listKind:
        causes.append(invalid(f"{path}.listKind", names.listKind, "kind and listKind may not be the same"))
    return causes


def _conversion(path: str, conversion: Any) -> list[Cause]:
    if not conversion.strategy:
        return [required(f"{path}.strategy")]
    if conversion.strategy not in ("None", "Webhook"):
        return [not_supported(f"{path}.strategy", conversion.strategy, ["None", "Webhook"])]
    if conversion.strategy == "None":
        if not conversion.HasField("webhook"):
            return []
        detail = "should not be set when strategy is not set to Webhook"
        return [Cause(f"{path}.webhook", "FieldValueForbidden", f"Forbidden: {detail}")]
    if not conversion.webhook.HasField("clientConfig"):
        return [required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook")]
    if not conversion.webhook.conversionReviewVersions:
        return [required(f"{path}.conversionReviewVersions")]
    return []


def _validate_update(new: Any, old: Any) -> list[Cause]:
    causes = immutable("spec.group", new.spec.group, old.spec.group)
    causes += immutable("spec.names.plural", new.spec.names.plural, old.spec.names.plural)
    if any(c.type == "Established" and c.status == "True" for c in old.status.conditions):
        causes += immutable("spec.scope", new.spec.scope, old.spec.scope)
        causes += immutable("spec.names.kind", new.spec.names.kind, old.spec.names.kind)
    kept = {version.name for version in new.spec.versions}
    for index, name in enumerate(new.status.storedVersions):
        if name not in kept:
            causes.append(invalid(f"status.storedVersions[{index}]", name, "must appear in spec.versions"))
    return causes


KINDS = {
    apiextensions.CustomResourceDefinition: Kind(
        namespaced=False,
        status=True,
        generation=True,
        create=_create,
        update=_update,
        update_status=_update_status,
        validate=_validate,
        validate_update=_validate_update,
    ),
}
