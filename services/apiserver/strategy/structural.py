"""Rules for the schemas of custom resources: what Kubernetes supports of OpenAPI v3, and what makes one structural.

Structural means that every field has a type and stands in one place of the schema, so that pruning and defaulting know
what to do with it.
"""

from __future__ import annotations

import re
from typing import Any

from services.apiserver.strategy.causes import Cause, forbidden, invalid, not_supported, required

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_LIST_TYPES = ("atomic", "set", "map")
_MAP_TYPES = ("atomic", "granular")
# Fields of JSON schema that Kubernetes refuses, with its words.
_REFUSED = (
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("id", "id is not supported"),
)
_QUADRATIC = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"


def schema_rules(path: str, schema: Any) -> list[Cause]:
    """What is wrong with the schema of one version; `path` ends in openAPIV3Schema."""
    causes = _supported(path, schema)
    # A schema with references or sets has no structure to speak of.
    broken = any(
        c.type == "FieldValueForbidden" and c.field.rpartition(".")[2] != "additionalProperties" for c in causes
    )
    if not broken:
        if not schema.type:
            causes.append(required(f"{path}.type", "must not be empty at the root"))
        elif schema.type != "object":
            causes.append(invalid(f"{path}.type", schema.type, "must be object at the root"))
        causes += _structural(path, schema)
    return causes or _patterns(path, schema)


def _patterns(path: str, schema: Any) -> list[Cause]:
    """Regular expressions are looked at once the rest is fine."""
    causes: list[Cause] = []
    if schema.pattern:
        try:
            re.compile(schema.pattern)
        except re.error as error:
            detail = f"must be a valid regular expression, but isn't: {error}"
            causes.append(invalid(f"{path}.pattern", schema.pattern, detail))
    for where, child in _children(path, schema):
        causes += _patterns(where, child)
    return causes


def _supported(path: str, schema: Any) -> list[Cause]:
    causes: list[Cause] = []
    if schema.uniqueItems:
        causes.append(forbidden(f"{path}.uniqueItems", _QUADRATIC))
    if schema.HasField("additionalProperties"):
        extra = schema.additionalProperties
        if schema.properties and (extra.allows or extra.HasField("schema")):
            detail = "additionalProperties and properties are mutual exclusive"
            causes.append(forbidden(f"{path}.additionalProperties", detail))
        elif not extra.allows and not extra.HasField("schema"):
            causes.append(forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false"))
    if schema.HasField("ref"):
        causes.append(forbidden(f"{path}.$ref", "$ref is not supported"))
    for field, detail in _REFUSED:
        descriptor = schema.DESCRIPTOR.fields_by_name[field]
        given = getattr(schema, field) if descriptor.is_repeated or field == "id" else schema.HasField(field)
        if given:
            causes.append(forbidden(f"{path}.{field}", detail))
    if schema.type == "null":
        detail = "type cannot be set to null, use nullable as an alternative"
        causes.append(forbidden(f"{path}.type", detail))
    elif schema.type and schema.type not in TYPES:
        causes.append(not_supported(f"{path}.type", schema.type, TYPES))
    causes += _extensions(path, schema)
    for where, child in _children(path, schema):
        causes += _supported(where, child)
    return causes


def _extensions(path: str, schema: Any) -> list[Cause]:
    causes: list[Cause] = []
    if schema.HasField("xKubernetesPreserveUnknownFields") and not schema.xKubernetesPreserveUnknownFields:
        where = f"{path}.x-kubernetes-preserve-unknown-fields"
        causes.append(invalid(where, False, "must be true or undefined"))
    if schema.HasField("xKubernetesListType"):
        where, kind = f"{path}.x-kubernetes-list-type", schema.xKubernetesListType
        if kind not in _LIST_TYPES:
            causes.append(not_supported(where, kind, _LIST_TYPES))
        if schema.type != "array":
            detail = "must be array if x-kubernetes-list-type is specified"
            causes.append(
                invalid(f"{path}.type", schema.type, detail) if schema.type else required(f"{path}.type", detail)
            )
    list_map = schema.xKubernetesListType == "map"
    if list_map and not schema.xKubernetesListMapKeys:
        detail = "must not be empty if x-kubernetes-list-type is map"
        causes.append(required(f"{path}.x-kubernetes-list-map-keys", detail))
    elif schema.xKubernetesListMapKeys and not list_map:
        detail = "must be map if x-kubernetes-list-map-keys is non-empty"
        where = f"{path}.x-kubernetes-list-type"
        kind = schema.xKubernetesListType
        causes.append(invalid(where, kind, detail) if kind else required(where, detail))
    if schema.HasField("xKubernetesMapType"):
        where = f"{path}.x-kubernetes-map-type"
        if schema.xKubernetesMapType not in _MAP_TYPES:
            causes.append(not_supported(where, schema.xKubernetesMapType, _MAP_TYPES))
        if schema.type != "object":
            detail = "must be object if x-kubernetes-map-type is specified"
            causes.append(invalid(f"{path}.type", schema.type, detail))
    return causes


def _structural(path: str, schema: Any, *, place: str = "") -> list[Cause]:
    causes: list[Cause] = []
    typeless = schema.xKubernetesIntOrString or schema.xKubernetesPreserveUnknownFields
    if place and not schema.type and not typeless:
        causes.append(required(f"{path}.type", f"must not be empty for specified {place}"))
    if schema.xKubernetesIntOrString and schema.type:
        detail = "must be empty if x-kubernetes-int-or-string is true"
        causes.append(invalid(f"{path}.type", schema.type, detail))
    if schema.xKubernetesEmbeddedResource and schema.type != "object":
        detail = "must be object if x-kubernetes-embedded-resource is true"
        causes.append(invalid(f"{path}.type", schema.type, detail) if schema.type else required(f"{path}.type", detail))
    if schema.type == "array" and not schema.HasField("items"):
        causes.append(required(f"{path}.items", "must be specified"))
    for name in sorted(schema.properties):
        causes += _structural(f"{path}.properties[{name}]", schema.properties[name], place="object fields")
    if schema.HasField("items") and schema.items.HasField("schema"):
        causes += _structural(f"{path}.items", schema.items.schema, place="array items")
    extra = schema.additionalProperties
    if schema.HasField("additionalProperties") and extra.HasField("schema"):
        causes += _structural(f"{path}.additionalProperties", extra.schema, place="object fields")
    for field in ("allOf", "oneOf", "anyOf"):
        for index, child in enumerate(getattr(schema, field)):
            causes += _in_logic(f"{path}.{field}[{index}]", child)
    if schema.HasField("not"):
        causes += _in_logic(f"{path}.not", getattr(schema, "not"))
    return causes


def _in_logic(path: str, schema: Any) -> list[Cause]:
    """Under allOf and the like a schema may only narrow what stands outside."""
    causes: list[Cause] = []
    detail = "must be {} to be structural"
    if schema.type:
        causes.append(forbidden(f"{path}.type", detail.format("empty")))
    given = [field for field in ("title", "description") if getattr(schema, field)]
    causes += [forbidden(f"{path}.{field}", detail.format("empty")) for field in given]
    if schema.HasField("default"):
        causes.append(forbidden(f"{path}.default", detail.format("undefined")))
    if schema.nullable:
        causes.append(forbidden(f"{path}.nullable", detail.format("false")))
    if schema.HasField("additionalProperties"):
        causes.append(forbidden(f"{path}.additionalProperties", detail.format("undefined")))
    for name in sorted(schema.properties):
        causes += _in_logic(f"{path}.properties[{name}]", schema.properties[name])
    if schema.HasField("items") and schema.items.HasField("schema"):
        causes += _in_logic(f"{path}.items", schema.items.schema)
    for field in ("allOf", "oneOf", "anyOf"):
        for index, child in enumerate(getattr(schema, field)):
            causes += _in_logic(f"{path}.{field}[{index}]", child)
    return causes


def _children(path: str, schema: Any) -> list[tuple[str, Any]]:
    children = [(f"{path}.properties[{name}]", schema.properties[name]) for name in sorted(schema.properties)]
    if schema.HasField("items"):
        if schema.items.HasField("schema"):
            children.append((f"{path}.items", schema.items.schema))
        children += [(f"{path}.items[{i}]", child) for i, child in enumerate(schema.items.jSONSchemas)]
    if schema.HasField("additionalProperties") and schema.additionalProperties.HasField("schema"):
        children.append((f"{path}.additionalProperties", schema.additionalProperties.schema))
    for field in ("allOf", "oneOf", "anyOf"):
        children += [(f"{path}.{field}[{i}]", child) for i, child in enumerate(getattr(schema, field))]
    if schema.HasField("not"):
        children.append((f"{path}.not", getattr(schema, "not")))
    return children
