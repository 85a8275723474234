"""A custom resource's schema as OpenAPI v3 shows it: complete with what every object has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.apiserver.crd.schema import Schema, embedded

_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
API_VERSION = {
    "type": "string",
    "description": (
        "APIVersion defines the versioned schema of this representation of an object. Servers should convert "
        "recognized schemas to the latest internal value, and may reject unrecognized values. More info: "
        f"{_CONVENTIONS}#resources"
    ),
}
KIND = {
    "type": "string",
    "description": (
        "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
        "endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
        f"{_CONVENTIONS}#types-kinds"
    ),
}
METADATA = f"Standard object's metadata. More info: {_CONVENTIONS}#metadata"


def document_schema(schema: Schema, kind: Mapping[str, str], object_meta: Mapping[str, str]) -> dict[str, Any]:
    """``kind``: group, version and kind; ``object_meta``: a reference to the schema of metadata."""
    found = _shown(schema, object_meta, root=True)
    found["x-kubernetes-group-version-kind"] = [dict(kind)]
    return found


def _shown(schema: Schema, object_meta: Mapping[str, str], *, root: bool = False) -> dict[str, Any]:
    found = dict(schema)
    known = {name: _shown(child, object_meta) for name, child in (schema.get("properties") or {}).items()}
    if root or embedded(schema):
        own = known.get("metadata") or {}
        known |= {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"description": own.get("description") or METADATA, "allOf": [dict(object_meta)]},
        }
    if known:
        found["properties"] = known
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), Mapping):
            found[name] = _shown(schema[name], object_meta)
    return found
