"""Rules that make a schema structural: every field has a type and stands in one place, so that pruning and defaulting
know what to do with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.apiserver.crd.schema import Schema, embedded, keeps_unknown
from services.apiserver.strategy.causes import Cause, forbidden, invalid, required

ROOT, ITEM, FIELD = "at the root", "for specified array items", "for specified object fields"
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_LOGIC = ("allOf", "oneOf", "anyOf")


def structural(path: str, schema: Schema) -> list[Cause]:
    """What keeps a version's schema from being structural."""
    return [*_invariants(path, schema, ROOT), *_completeness(path, schema)]


def _invariants(path: str, schema: Schema, level: str) -> list[Cause]:
    causes: list[Cause] = []
    kind, items = schema.get("type"), schema.get("items")
    if kind == "array" and items is None:
        causes.append(required(f"{path}.items", "must be specified"))
    if isinstance(items, Mapping):
        causes += _invariants(f"{path}.items", items, ITEM)
    for name in sorted(schema.get("properties") or {}):
        causes += _invariants(f"{path}.properties[{name}]", schema["properties"][name], FIELD)
    rest = schema.get("additionalProperties")
    if rest is not None and level == ROOT:
        causes.append(forbidden(f"{path}.additionalProperties", "must not be used at the root"))
    if isinstance(rest, Mapping):
        causes += _invariants(f"{path}.additionalProperties", rest, FIELD)
    causes += _extensions(path, schema)
    causes += _logic(path, schema)
    causes += _type(path, schema, level)
    if level == ROOT or embedded(schema):
        causes += _own_metadata(path, schema, level)
    return causes


def _extensions(path: str, schema: Schema) -> list[Cause]:
    causes: list[Cause] = []
    if schema.get("x-kubernetes-int-or-string"):
        for name in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
            if schema.get(name):
                detail = "must be false if x-kubernetes-int-or-string is true"
                causes.append(invalid(f"{path}.{name}", True, detail))
        if schema.get("type"):
            detail = "must be empty if x-kubernetes-int-or-string is true"
            causes.append(invalid(f"{path}.type", schema["type"], detail))
    if embedded(schema):
        if schema.get("additionalProperties") is not None:
            detail = "must not be used if x-kubernetes-embedded-resource is set"
            causes.append(forbidden(f"{path}.additionalProperties", detail))
        if not keeps_unknown(schema) and not schema.get("properties"):
            detail = (
                "must not be empty if x-kubernetes-embedded-resource is true without "
                "x-kubernetes-preserve-unknown-fields"
            )
            causes.append(required(f"{path}.properties", detail))
    return causes


def _type(path: str, schema: Schema, level: str) -> list[Cause]:
    kind, where = schema.get("type") or "", f"{path}.type"
    if embedded(schema) and kind != "object":
        detail = "must be object if x-kubernetes-embedded-resource is true"
        return [invalid(where, kind, detail) if kind else required(where, detail)]
    if not kind and not schema.get("x-kubernetes-int-or-string") and not keeps_unknown(schema):
        return [required(where, f"must not be empty {level}")]
    if level == ROOT and kind and kind != "object":
        return [invalid(where, kind, "must be object at the root")]
    return []


def _own_metadata(path: str, schema: Schema, level: str) -> list[Cause]:
    """What is said of apiVersion, kind and metadata; only at the root must metadata be left as it is."""
    known = schema.get("properties") or {}
    causes = [
        invalid(f"{path}.properties[{name}].type", known[name].get("type") or "", "must be string")
        for name in ("apiVersion", "kind")
        if name in known and known[name].get("type") != "string"
    ]
    if "metadata" in known:
        where, metadata = f"{path}.properties[metadata]", known["metadata"]
        if metadata.get("type") != "object":
            causes.append(invalid(f"{where}.type", metadata.get("type") or "", "must be object"))
        declared = set(metadata.get("properties") or ())
        more = set(metadata) - {"type", "properties", "default"}
        if level == ROOT and (declared - {"name", "generateName"} or more):
            detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            causes.append(forbidden(where, detail))
    return causes


# -- under allOf, oneOf, anyOf and not ---------------------------------------------------------------------------------


def _alternatives(path: str, schema: Schema) -> list[tuple[str, Schema]]:
    """The schemas that only narrow what stands outside; the forms of int-or-string that Kubernetes allows are none."""
    found = []
    for name in _LOGIC:
        for index, child in enumerate(schema.get(name) or ()):
            found.append((f"{path}.{name}[{index}]", child))
    if "not" in schema:
        found.append((f"{path}.not", schema["not"]))
    if schema.get("x-kubernetes-int-or-string"):
        if schema.get("anyOf") == _INT_OR_STRING:
            found = [(where, child) for where, child in found if not where.startswith(f"{path}.anyOf[")]
        elif (schema.get("allOf") or [{}])[0].get("anyOf") == _INT_OR_STRING:
            first = f"{path}.allOf[0]"
            rest = {name: value for name, value in schema["allOf"][0].items() if name != "anyOf"}
            found = [(where, rest if where == first else child) for where, child in found]
    return found


def _logic(path: str, schema: Schema) -> list[Cause]:
    causes: list[Cause] = []
    for where, child in _alternatives(path, schema):
        causes += _nested(where, child)
    return causes


_EMPTY, _UNDEFINED, _FALSE = (
    "must be empty to be structural",
    "must be undefined to be structural",
    "must be false to be structural",
)
_NOT_NESTED = {
    "type": _EMPTY,
    "additionalProperties": _UNDEFINED,
    "default": _UNDEFINED,
    "title": _EMPTY,
    "description": _EMPTY,
    "nullable": _FALSE,
    "x-kubernetes-preserve-unknown-fields": _FALSE,
    "x-kubernetes-embedded-resource": _FALSE,
    "x-kubernetes-int-or-string": _FALSE,
    "x-kubernetes-list-map-keys": _EMPTY,
    "x-kubernetes-list-type": _UNDEFINED,
    "x-kubernetes-map-type": _UNDEFINED,
}


def _nested(path: str, schema: Schema) -> list[Cause]:
    causes = _logic(path, schema)
    if isinstance(schema.get("items"), Mapping):
        causes += _nested(f"{path}.items", schema["items"])
    known = schema.get("properties") or {}
    for name in sorted(known):
        causes += _nested(f"{path}.properties[{name}]", known[name])
    causes += [forbidden(f"{path}.{name}", detail) for name, detail in _NOT_NESTED.items() if name in schema]
    if "metadata" in known:
        causes.append(forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context"))
    return causes


def _completeness(path: str, schema: Schema) -> list[Cause]:
    """What is narrowed must be declared outside."""
    causes: list[Cause] = []
    for where, child in _alternatives(path, schema):
        causes += _declared(path, schema, where, child)
    if isinstance(schema.get("items"), Mapping):
        causes += _completeness(f"{path}.items", schema["items"])
    for name in sorted(schema.get("properties") or {}):
        causes += _completeness(f"{path}.properties[{name}]", schema["properties"][name])
    if isinstance(schema.get("additionalProperties"), Mapping):
        causes += _completeness(f"{path}.additionalProperties", schema["additionalProperties"])
    return causes


def _declared(path: str, schema: Schema, nested_path: str, nested: Schema) -> list[Cause]:
    causes: list[Cause] = []
    for where, child in _alternatives(nested_path, nested):
        causes += _declared(path, schema, where, child)
    items = schema.get("items")
    if isinstance(nested.get("items"), Mapping):
        where = f"{nested_path}.items"
        if not isinstance(items, Mapping):
            causes.append(required(f"{path}.items", f"because it is defined in {where}"))
        else:
            causes += _declared(f"{path}.items", items, where, nested["items"])
    known, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, child in sorted((nested.get("properties") or {}).items()):
        where, place = f"{nested_path}.properties[{name}]", f"{path}.properties[{name}]"
        if name in known:
            causes += _declared(place, known[name], where, child)
        elif isinstance(rest, Mapping):
            causes += _declared(f"{path}.additionalProperties", rest, where, child)
        elif rest is None:
            causes.append(required(place, f"because it is defined in {where}"))
    return causes
