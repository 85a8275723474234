"""/openapi/v3, generated from the message descriptors and the facts in their options.

A document is made when it is asked for, and kept as bytes until its resources change; clients keep it under the hash of
its URL. What fields mean, for the common kinds, stands in descriptions.json: by message, "*" for all.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor

from services.apiserver.crd.definition import CustomInfo
from services.apiserver.crd.document import document_schema
from services.apiserver.fronts.http.content import Answer
from services.apiserver.fronts.http.discovery import Discovery, Listed
from tillerman.api.envelope import length_delimited
from tillerman.api.scheme import SCHEME, ResourceInfo
from tillerman.api.status import no_such_path
from tillerman.pb import options_pb2
from tillerman.pb.k8s import meta_v1_pb2
from tillerman.service.version import VERSION

SCALARS: dict[int, dict[str, str]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "integer", "format": "int64"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "int64"},
    FieldDescriptor.TYPE_UINT64: {"type": "integer", "format": "int64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
}
STRINGS = {"type": "array", "items": {"type": "string"}}
_OBJECT_META = meta_v1_pb2.ObjectMeta.DESCRIPTOR
_META = "k8s.io.apimachinery.pkg.apis.meta.v1."
# Messages that JSON shows otherwise than as an object of their fields.
FORMS: dict[str, dict[str, Any]] = {
    _META + "Time": {"type": "string", "format": "date-time"},
    _META + "MicroTime": {"type": "string", "format": "date-time"},
    _META + "Duration": {"type": "string"},
    _META + "FieldsV1": {"type": "object"},
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": {
        "oneOf": [{"type": "integer"}, {"type": "string"}],
        "format": "int-or-string",
    },
    "k8s.io.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "k8s.io.apimachinery.pkg.runtime.RawExtension": {"type": "object"},
    _META + "Verbs": STRINGS,
    "k8s.io.api.authentication.v1.ExtraValue": STRINGS,
    "k8s.io.api.authorization.v1.ExtraValue": STRINGS,
    "k8s.io.api.certificates.v1.ExtraValue": STRINGS,
}
_SCHEMAS = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON"
# Of googleapis/gnostic's openapi.v2.Document.
OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
QUERY = ("dryRun", "fieldManager", "fieldValidation", "force", "pretty")


class OpenApi:
    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        # By path: of which digest, and the document.
        self._made: dict[str, tuple[str, bytes]] = {}

    def index(self) -> Answer:
        """The documents, by group and version."""
        paths = {}
        for api_version, rows in self._discovery.groups().items():
            path = _path(api_version)
            digest = _digest(rows)
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return Answer(orjson.dumps({"paths": paths}))

    def document(self, path: str) -> Answer:
        """Raises NotFound."""
        for api_version, rows in self._discovery.groups().items():
            if _path(api_version) == path:
                digest = _digest(rows)
                made = self._made.get(path)
                if made is None or made[0] != digest:
                    made = self._made[path] = digest, orjson.dumps(_document(api_version, rows))
                return Answer(made[1])
        raise no_such_path()


def legacy(accept: str) -> Answer:
    """/openapi/v2, which kubectl falls back to for a kind that no document of v3 has: it names no kinds at all."""
    if OPENAPI_V2 in accept:
        info = length_delimited(1, b"Kubernetes") + length_delimited(2, VERSION.encode())
        # Its media type, but for the "@" that Go's parser of media types does not take in an answer.
        media = OPENAPI_V2.replace("@", ".")
        return Answer(length_delimited(1, b"2.0") + length_delimited(2, info), media_type=media)
    return Answer(orjson.dumps({"swagger": "2.0", "info": {"title": "Kubernetes", "version": VERSION}, "paths": {}}))


def _digest(rows: list[tuple[ResourceInfo | None, Listed]]) -> str:
    """Changes with whatever the document is made of: clients keep what they have read under it."""
    names = ",".join(listed.name for _, listed in rows)
    digest = hashlib.sha256(f"{VERSION} {names}".encode())
    for info, _ in rows:
        if isinstance(info, CustomInfo):
            digest.update(orjson.dumps(info.schema, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()[:32].upper()


def _path(api_version: str) -> str:
    return f"apis/{api_version}" if "/" in api_version else f"api/{api_version}"


def _document(api_version: str, rows: list[tuple[ResourceInfo | None, Listed]]) -> dict[str, Any]:
    schemas = _Schemas()
    paths: dict[str, Any] = {}
    for info, listed in rows:
        if info is not None:
            paths.update(_paths(info, schemas))
        else:
            _subresource_schema(listed, schemas)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.found.items()))},
    }


def _subresource_schema(listed: Listed, schemas: _Schemas) -> None:
    if listed.group_version:
        schemas.reference(SCHEME.message_type(listed.group_version, listed.kind).DESCRIPTOR)


def _paths(info: ResourceInfo, schemas: _Schemas) -> dict[str, Any]:
    """The paths of a resource; PATCH and POST say that they validate fields, which kubectl looks for."""
    kind = {"group": info.group, "version": info.version, "kind": info.kind}
    if isinstance(info, CustomInfo):
        name = f"{'.'.join(reversed(info.group.split('.')))}.{info.version}.{info.kind}"
        schemas.found[name] = document_schema(info.schema, kind, schemas.reference(_OBJECT_META))
        schema = {"$ref": f"#/components/schemas/{name}"}
    else:
        schema = schemas.reference(info.message.DESCRIPTOR)
    root = f"/{_path(info.api_version)}/" + ("namespaces/{namespace}/" if info.namespaced else "") + info.resource
    collection, single = {}, {}
    for verb, method, action in (("list", "get", "list"), ("create", "post", "post")):
        if verb in info.verbs:
            collection[method] = _operation(info, action, kind, schema)
    for verb, method in (("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")):
        if verb in info.verbs:
            single[method] = _operation(info, method, kind, schema)
    found: dict[str, Any] = {}
    if collection:
        found[root] = collection
    if single:
        found[root + "/{name}"] = single
    return found


def _operation(info: ResourceInfo, action: str, kind: dict[str, str], schema: dict[str, Any]) -> dict[str, Any]:
    writes = action in ("post", "put", "patch")
    return {
        "operationId": f"{action}{info.group.replace('.', '_')}{info.version}{info.kind}",
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
            for name in (QUERY if writes else ("pretty",))
        ],
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind,
    }


class _Schemas:
    """``found``: schemas by name, those of every message that was referred to, and what they lead to."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def reference(self, descriptor: Any) -> dict[str, Any]:
        name = schema_name(descriptor.full_name)
        if name not in self.found:
            self.found[name] = {}
            self.found[name] = self._schema(descriptor)
        return {"$ref": f"#/components/schemas/{name}"}

    def _schema(self, descriptor: Any) -> dict[str, Any]:
        if form := FORMS.get(descriptor.full_name):
            return dict(form)
        if descriptor.full_name.startswith(_SCHEMAS):
            return {"x-kubernetes-preserve-unknown-fields": True}
        properties: dict[str, Any] = {}
        told = descriptions().get(descriptor.name, {})
        schema: dict[str, Any] = {"type": "object", "description": told.get("", f"{descriptor.name}.")}
        try:
            api_version, kind = SCHEME.kind_of_name(descriptor.full_name)
        except LookupError:
            pass
        else:
            properties["apiVersion"] = {"type": "string", "description": "The version of the object's form."}
            properties["kind"] = {"type": "string", "description": "The kind of the object."}
            group, _, version = api_version.rpartition("/")
            schema["x-kubernetes-group-version-kind"] = [{"group": group, "version": version, "kind": kind}]
        required: list[str] = []
        self._properties(descriptor, properties, required)
        if properties:
            schema["properties"] = properties
        if required:
            schema["required"] = required
        return schema

    def _properties(self, descriptor: Any, into: dict[str, Any], required: list[str]) -> None:
        for field in descriptor.fields:
            facts = field.GetOptions().Extensions[options_pb2.k8s]
            if facts.inline and field.message_type is not None:
                self._properties(field.message_type, into, required)
            else:
                if facts.always:
                    required.append(field.json_name)
                into[field.json_name] = self._property(field, facts)

    def _property(self, field: Any, facts: options_pb2.FieldFacts) -> dict[str, Any]:
        found: dict[str, Any]
        child = field.message_type
        if child is not None and child.GetOptions().map_entry:
            values = self._value(child.fields_by_name["value"])
            found = {"type": "object", "additionalProperties": values}
        elif field.is_repeated:
            found = {"type": "array", "items": self._value(field)}
        elif child is not None:
            found = {"allOf": [self.reference(child)]}
        else:
            found = dict(SCALARS[field.type])
        found["description"] = _description(field, facts)
        _annotate(found, facts)
        return found

    def _value(self, field: Any) -> dict[str, Any]:
        child = field.message_type
        return dict(SCALARS[field.type]) if child is None else self.reference(child)


def schema_name(full_name: str) -> str:
    """io.k8s.api.core.v1.Pod of k8s.io.api.core.v1.Pod."""
    return "io.k8s." + full_name.removeprefix("k8s.io.").replace("_", "-")


@functools.cache
def descriptions() -> dict[str, dict[str, str]]:
    """By message's name ("*": any), by field's name ("": the message itself)."""
    found: dict[str, dict[str, str]] = orjson.loads(Path(__file__).with_name("descriptions.json").read_bytes())
    return found


def _description(field: Any, facts: options_pb2.FieldFacts) -> str:
    name, told = field.json_name, descriptions()
    what = field.message_type.name if field.message_type is not None else name
    plain = f"{name} ({what})." if what != name else f"{name}."
    parts = [told.get(field.containing_type.name, {}).get(name) or told["*"].get(name) or plain]
    if facts.values:
        parts.append(f"One of {', '.join(value for value in facts.values if value)}.")
    if facts.default:
        parts.append(f"Default {facts.default}.")
    return " ".join(parts)


def _annotate(schema: dict[str, Any], facts: options_pb2.FieldFacts) -> None:
    if facts.values:
        schema["enum"] = sorted(value for value in facts.values if value)
    hints = {
        "x-kubernetes-patch-merge-key": facts.merge_key,
        "x-kubernetes-patch-strategy": ",".join(facts.patch_strategy),
        "x-kubernetes-list-type": facts.list_type,
        "x-kubernetes-list-map-keys": list(facts.list_map_key),
        "x-kubernetes-map-type": facts.map_type or facts.struct_type,
    }
    schema.update({name: value for name, value in hints.items() if value})
