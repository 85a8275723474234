"""Rules for what the versions of a definition declare: schema, subresources, columns, selectable fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from services.apiserver.crd.schema import Schema
from services.apiserver.strategy.causes import Cause, duplicate, forbidden, invalid, required, too_many
from services.apiserver.strategy.custom.defaults import defaults
from services.apiserver.strategy.custom.expressions import expressions
from services.apiserver.strategy.custom.structural import structural
from services.apiserver.strategy.custom.supported import patterns, supported
from tillerman.api import codec, jsonpath

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("int32", "int64", "float", "double", "byte", "date", "date-time", "password")
_SIMPLE_PATH = "must be a simple json path starting with ."
_MAX_SELECTABLE = 8
# What the root of a schema may hold where status is written by itself: all the rest would bind both.
_AT_ROOT = (
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
)

Version = Mapping[str, Any]
Rules = Callable[[str, Version], list[Cause]]


def version_rules(spec: Any) -> list[Cause]:
    """What all versions share, Kubernetes reports once and under the name that it has outside the versions."""
    causes: list[Cause] = []
    versions: list[Version] = [codec.to_dict(version) for version in spec.versions]
    for index, version in enumerate(versions):
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            causes.append(required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required"))
    rules: tuple[tuple[str, Rules], ...] = (
        ("subresources", _subresources),
        ("additionalPrinterColumns", _columns),
        ("selectableFields", _selectable),
    )
    for path, having in _places(versions, "schema", "validation"):
        status = any("status" in (version.get("subresources") or {}) for version in having)
        causes += _schema(path, having[0], status=status)
    for field, check in rules:
        for path, having in _places(versions, field, field):
            causes += check(path, having[0])
    return causes


def _places(versions: list[Version], field: str, shared: str) -> list[tuple[str, list[Version]]]:
    """(path, the versions that have the same there) of a field; ``shared``: its name outside the versions."""
    if versions and all(version.get(field) == versions[0].get(field) for version in versions):
        return [(f"spec.{shared}", versions)]
    return [(f"spec.versions[{index}].{field}", [version]) for index, version in enumerate(versions)]


# -- schema ------------------------------------------------------------------------------------------------------------


def _schema(path: str, version: Version, *, status: bool) -> list[Cause]:
    """``status``: whether status is written by itself, in any version that has this schema."""
    schema: Schema | None = (version.get("schema") or {}).get("openAPIV3Schema")
    if not schema:
        return []
    path = f"{path}.openAPIV3Schema"
    causes = _root(path, schema) if status else []
    if schema.get("nullable"):
        causes.append(forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    causes += supported(path, schema)
    # Of a schema with references and the like there is no structure to speak of.
    if any(cause.type == "FieldValueForbidden" and _unstructured(cause.field) for cause in causes):
        return causes
    shape = structural(path, schema)
    if shape:
        return causes + shape
    return causes or defaults(path, schema) + patterns(path, schema) + expressions(path, schema)


def _unstructured(field: str) -> bool:
    return field.rpartition(".")[2] in ("$ref", "uniqueItems", "definitions", "dependencies", "patternProperties")


def _root(path: str, schema: Schema) -> list[Cause]:
    if schema.get("type", "object") != "object":
        detail = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
        return [invalid(f"{path}.type", schema["type"], detail)]
    if any(name not in _AT_ROOT for name in schema):
        names = " ".join(name[:1].upper() + name[1:] for name in _AT_ROOT)
        detail = f"only [{names}] fields are allowed at the root of the schema if the status subresource is enabled"
        return [invalid(path, dict(schema), detail)]
    return []


# -- the rest ----------------------------------------------------------------------------------------------------------


def _subresources(path: str, version: Version) -> list[Cause]:
    scale = (version.get("subresources") or {}).get("scale")
    if scale is None:
        return []
    causes = _scale_path(f"{path}.scale.specReplicasPath", scale["specReplicasPath"], (".spec",))
    causes += _scale_path(f"{path}.scale.statusReplicasPath", scale["statusReplicasPath"], (".status",))
    if selector := scale.get("labelSelectorPath"):
        causes += _scale_path(f"{path}.scale.labelSelectorPath", selector, (".spec", ".status"))
    return causes


def _scale_path(path: str, value: str, roots: tuple[str, ...]) -> list[Cause]:
    if not value:
        return [required(path)]
    if causes := _simple_path(path, value):
        return causes
    if not value.startswith(tuple(f"{root}." for root in roots)):
        under = roots[0] if len(roots) == 1 else f"either {' or '.join(roots)}"
        return [invalid(path, value, f"should be a json path under {under}")]
    return []


def _simple_path(path: str, value: str) -> list[Cause]:
    if not value.startswith("."):
        return [invalid(path, value, _SIMPLE_PATH)]
    try:
        jsonpath.find(value, {})
    except jsonpath.PathError as error:
        return [invalid(path, value, str(error))]
    return []


def _columns(path: str, version: Version) -> list[Cause]:
    causes: list[Cause] = []
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        where = f"{path}[{index}]"
        kind, form, value = column["type"], column.get("format"), column["jsonPath"]
        if not column["name"]:
            causes.append(required(f"{where}.name"))
        if not kind:
            causes.append(required(f"{where}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
        elif kind not in _COLUMN_TYPES:
            causes.append(invalid(f"{where}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}"))
        if form and form not in _COLUMN_FORMATS:
            causes.append(invalid(f"{where}.format", form, f"must be one of {','.join(sorted(_COLUMN_FORMATS))}"))
        # Kubernetes spells this field in capitals.
        causes += _simple_path(f"{where}.JSONPath", value) if value else [required(f"{where}.JSONPath")]
    return causes


def _selectable(path: str, version: Version) -> list[Cause]:
    fields = version.get("selectableFields") or []
    causes: list[Cause] = []
    if len(fields) > _MAX_SELECTABLE:
        causes.append(too_many(path, len(fields), _MAX_SELECTABLE))
    schema: Schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    seen: set[str] = set()
    for index, field in enumerate(fields):
        where, value = f"{path}[{index}].jsonPath", field["jsonPath"]
        if not value:
            causes.append(required(where))
            continue
        if value in seen:
            causes.append(duplicate(where, value))
        seen.add(value)
        if not value.startswith(".") or value.startswith(".metadata."):
            detail = "must not point to fields in metadata" if value.startswith(".") else _SIMPLE_PATH
            causes.append(invalid(where, value, detail))
            continue
        found: Any = schema
        for step in value[1:].split("."):
            found = (found.get("properties") or {}).get(step) if isinstance(found, Mapping) else None
        if found is None:
            causes.append(invalid(where, value, "is an invalid path: does not refer to a valid field"))
        elif found.get("type") not in ("string", "boolean", "integer"):
            detail = (
                "must point to a field of type string, boolean or integer. "
                "Enum string fields and strings with formats are allowed."
            )
            causes.append(invalid(where, value, detail))
    return causes
