"""One served version of a custom resource, with the rules that its definition declares.

All versions share one cache, which holds the objects as they are stored. They are brought into a version's form (old
versions converted, what the schema does not know dropped, defaults filled in) when they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import orjson

from services.apiserver.cache.entry import Entry, Framer, JsonFramer
from services.apiserver.cache.hub import CacheHub
from services.apiserver.crd import scale, schema, values
from services.apiserver.crd.conversion import Converter
from services.apiserver.crd.definition import Definition, Version
from services.apiserver.crd.objects import CustomObject, with_go_numbers
from services.apiserver.crd.rules import NOT_CHECKED, RuleTree, broken_rules, rule_tree
from services.apiserver.patch.field_types import FieldType
from services.apiserver.patch.schema_types import root_type
from services.apiserver.registry.context import Context
from services.apiserver.registry.resource import Resource
from services.apiserver.strategy import metadata
from services.apiserver.strategy.alike import Content
from services.apiserver.strategy.custom.invariants import embedded_objects, repeated_items
from services.apiserver.strategy.kind import Kind
from tillerman.api import codec, jsonpath
from tillerman.api.selectors import FieldSelector
from tillerman.api.status import (
    Cause,
    bad_request,
    invalid,
    invalid_value,
    method_not_supported,
    no_such_path,
    not_found,
)
from tillerman.pb.k8s import autoscaling_v1_pb2

# Verbs that a namespaced resource has across all namespaces.
_EVERYWHERE = frozenset({"list", "watch", "deletecollection"})
_META_FIELDS = ("metadata.name", "metadata.namespace")


class CustomResource(Resource):
    """``converter``: between the versions of ``definition``."""

    custom = True

    def __init__(self, definition: Definition, version: Version, hub: CacheHub, converter: Converter) -> None:
        self.definition = definition
        self.version = version
        self.schema = version.schema
        self._converter = converter
        self._storage = definition.storage_version
        self._rules = Kind(namespaced=definition.namespaced)
        super().__init__(definition.info(version), hub)

    def _make_framer(self) -> Framer:
        return JsonFramer()

    @cached_property
    def field_types(self) -> FieldType:
        return root_type(self.schema)

    @cached_property
    def rule_tree(self) -> RuleTree | None:
        """The schema's x-kubernetes-validations; None where there are none."""
        return rule_tree(self.schema, root=True)

    # -- requests --------------------------------------------------------------------------------------------------

    def check_request(self, verb: str, namespace: str, name: str, subresource: str) -> None:
        """Raises NotFound or MethodNotAllowed for what cannot be asked of the resource as a whole."""
        if (namespace and not self.namespaced) or (self.namespaced and not namespace and verb not in _EVERYWHERE):
            raise no_such_path()
        if subresource and subresource not in self.info.subresources:
            raise not_found(self.name, name, self.group)
        if self.definition.terminating and verb == "create":
            refused = method_not_supported(self.name, verb, self.group)
            refused.status.message = f"{verb} not allowed while custom resource definition is terminating"
            raise refused

    def resolve_fields(self, selector: FieldSelector) -> FieldSelector:
        for path, _, _ in selector.requirements:
            if path not in _META_FIELDS and f".{path}" not in self.version.selectable:
                raise bad_request(f"field label not supported: {path}")
        return selector

    def field_test(self, selector: FieldSelector) -> Callable[[Entry], bool]:
        def test(entry: Entry) -> bool:
            obj = orjson.loads(entry.json)

            def value(path: str) -> str:
                found = jsonpath.find(f".{path}", obj)
                return "" if not found or found[0] is None else _selected(found[0])

            return selector.matches(value)

        return test

    # -- bytes and forms -------------------------------------------------------------------------------------------

    def encode(self, obj: CustomObject) -> bytes:
        """As Kubernetes stores it: JSON and a line feed."""
        return obj.to_json() + b"\n"

    def store_value(self, raw: bytes) -> bytes:
        return raw

    async def encoded(self, obj: CustomObject) -> bytes:
        if self.version.storage:
            return self.encode(obj)
        (stored,) = await self._converter.convert([obj.copy()], self.definition.api_version(self._storage))
        schema.prune(stored.content, self._storage.schema)
        return self.encode(stored)

    async def load(self, entry: Entry) -> CustomObject:
        (loaded,) = await self._load([entry])
        return loaded

    async def _load(self, entries: Sequence[Entry]) -> list[CustomObject]:
        loaded: list[CustomObject] = []
        foreign: list[int] = []
        own = self.info.api_version
        for entry in entries:
            obj: CustomObject = entry.message()
            stored = self.definition.version_of(str(obj.content.get("apiVersion", "")))
            if stored is not None:
                schema.prune(obj.content, stored.schema)
                schema.fill(obj.content, stored.schema)
            if obj.content.get("apiVersion") != own:
                foreign.append(len(loaded))
            loaded.append(obj)
        if foreign:
            converted = await self._converter.convert([loaded[index] for index in foreign], own)
            for index, obj in zip(foreign, converted, strict=True):
                schema.prune(obj.content, self.schema)
                loaded[index] = obj
        return loaded

    async def served(self, entries: Sequence[Entry]) -> list[Entry]:
        """Stored entries in this version's form; made once for all readers."""
        found: list[Entry] = list(entries)
        missing: list[int] = []
        for index, entry in enumerate(found):
            known = entry.served
            if known is not None and known[0] is self:
                found[index] = known[1]
            else:
                missing.append(index)
        if not missing:
            return found
        for index, obj in zip(missing, await self._load([found[i] for i in missing]), strict=True):
            stored = found[index]
            raw = obj.to_json()
            entry = stored if raw == stored.json else Entry(self.framer, stored.key, raw, stored.revision)
            stored.served = (self, entry)
            found[index] = entry
        return found

    def new(self) -> CustomObject:
        return CustomObject.of({"apiVersion": self.info.api_version, "kind": self.info.kind})

    def copy(self, obj: CustomObject) -> CustomObject:
        return obj.copy()

    def to_dict(self, obj: CustomObject) -> dict[str, Any]:
        return obj.to_dict()

    def from_dict(self, content: dict[str, Any]) -> CustomObject:
        """Takes the dict over. Raises codec.DecodeError."""
        return self._taken(content, [], None)

    def other_versions(self) -> list[str]:
        served = [self.definition.api_version(version) for version in self.definition.served]
        return [api_version for api_version in served if api_version != self.info.api_version]

    async def to_version(self, obj: CustomObject, api_version: str) -> dict[str, Any]:
        (converted,) = await self._converter.convert([obj.copy()], api_version)
        return converted.to_dict()

    async def from_version(self, content: dict[str, Any]) -> CustomObject:
        (converted,) = await self._converter.convert([CustomObject.of(content)], self.info.api_version)
        schema.prune(converted.content, self.schema)
        return converted

    def patched(self, content: dict[str, Any], context: Context) -> CustomObject:
        try:
            content = with_go_numbers(content)
            text = orjson.dumps(content).decode()
        except codec.DecodeError as error:
            raise invalid("", "", [invalid_value("patch", "", str(error))]) from error
        try:
            return self._taken(content, [], context)
        except codec.DecodeError as error:
            raise invalid("", "", [invalid_value("patch", text, str(error))]) from error

    def decode(self, raw: bytes, context: Context) -> CustomObject:
        """The object of a request's JSON body. Raises codec.DecodeError."""
        try:
            content, repeated = codec.load_json_checked(raw)
        except RecursionError:
            raise codec.DecodeError(["json: exceeded max depth"]) from None
        if not isinstance(content, dict):
            raise codec.DecodeError(["couldn't get version/kind; json parse error: the body is not an object"])
        for name, word in (("kind", "Kind"), ("apiVersion", "apiVersion")):
            if not content.get(name) or not isinstance(content[name], str):
                shown = raw.decode(errors="replace").strip()
                raise codec.DecodeError([f"Object '{word}' is missing in '{shown}'"])
        return self._taken(content, repeated, context)

    def _taken(self, content: dict[str, Any], repeated: list[str], context: Context | None) -> CustomObject:
        content = with_go_numbers(content)
        unknown = schema.prune(content, self.schema)
        meta_unknown: list[str] = []
        obj = CustomObject.of(content, unknown=meta_unknown)
        faults = [f'unknown field "{path}"' for path in unknown] + meta_unknown
        faults += [f'duplicate field "{path}"' for path in repeated]
        if context is None:
            return obj
        if faults and context.field_validation == "Strict":
            raise codec.DecodeError(faults, strict=True)
        if context.field_validation == "Warn":
            context.warnings.extend(faults)
        return obj

    # -- rules -----------------------------------------------------------------------------------------------------

    def default(self, obj: CustomObject) -> None:
        schema.fill(obj.content, self.schema)

    def prepare_for_create(self, obj: CustomObject) -> None:
        meta = obj.metadata
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.ClearField(name)
        if not self.namespaced:
            meta.ClearField("namespace")
        meta.generation = 1
        if self.version.status:
            obj.content.pop("status", None)

    def prepare_for_update(self, new: CustomObject, old: CustomObject, subresource: str) -> None:
        if not self.namespaced:
            new.metadata.ClearField("namespace")
        if subresource == "status":
            self._keep_all_but_status(new, old)
            return
        metadata.carry_over(new, old)
        if self.version.status:
            new.content.pop("status", None)
            if "status" in old.content:
                new.content["status"] = old.copy().content["status"]
        if CustomObject(new.content, old.metadata) != old:
            new.metadata.generation = old.metadata.generation + 1

    def _keep_all_but_status(self, new: CustomObject, old: CustomObject) -> None:
        kept = old.copy()
        kept.content.pop("status", None)
        if "status" in new.content:
            kept.content["status"] = new.content["status"]
        kept.metadata.resourceVersion = new.metadata.resourceVersion
        del kept.metadata.managedFields[:]
        kept.metadata.managedFields.extend(new.metadata.managedFields)
        new.content, new.metadata = kept.content, kept.metadata

    def validate_create(self, obj: CustomObject, prepared: Content | None = None) -> list[Cause]:
        if wrong := self._type_meta(obj):
            return wrong
        causes = metadata.validate(obj.metadata, self._rules, plain_finalizers=True)
        return causes + self._validate_content(obj, None)

    def validate_update(self, new: CustomObject, old: CustomObject, subresource: str) -> list[Cause]:
        if wrong := self._type_meta(new):
            return wrong
        causes = metadata.validate_update(new.metadata, old.metadata, self._rules, plain_finalizers=True)
        return causes + self._validate_content(new, old, subresource)

    def _type_meta(self, obj: CustomObject) -> list[Cause]:
        if obj.kind != self.info.kind:
            return [invalid_value("kind", obj.kind, f"must be {self.info.kind}")]
        found = obj.content.get("apiVersion")
        if found != self.info.api_version:
            return [invalid_value("apiVersion", found, f"must be {self.info.api_version}")]
        return []

    def _validate_content(self, obj: CustomObject, old: CustomObject | None, subresource: str = "") -> list[Cause]:
        whole = obj.to_dict()
        causes = values.validate(whole, self.schema)
        if self.version.scale is not None:
            causes += scale.validate(whole, self.version.scale, spec=subresource != "status")
        causes += embedded_objects(whole, self.schema)
        if old is None or not repeated_items(old.content, self.schema):
            # What stands there twice already is not this write's fault.
            causes += repeated_items(whole, self.schema)
        if self.rule_tree is not None:
            if causes:
                causes.append(invalid_value("<nil>", None, NOT_CHECKED))
            else:
                before = None if old is None else old.to_dict()
                causes += broken_rules(self.rule_tree, whole, before, updating=old is not None)
        return causes

    def allows_unconditional_update(self, obj: CustomObject) -> bool:
        return False

    def demands_version(self, obj: CustomObject) -> bool:
        return True

    def allows_create_on_update(self, obj: CustomObject) -> bool:
        return False

    # -- scale -----------------------------------------------------------------------------------------------------

    def scale_of(self, obj: CustomObject) -> autoscaling_v1_pb2.Scale:
        assert self.version.scale is not None
        return scale.scale_of(obj, self.version.scale)

    def check_scale(self, obj: CustomObject) -> None:
        assert self.version.scale is not None
        scale.check(obj, self.version.scale)

    def set_replicas(self, obj: CustomObject, replicas: int) -> None:
        assert self.version.scale is not None
        scale.set_replicas(obj, self.version.scale, replicas)


def _selected(value: Any) -> str:
    """A selectable field's value as selectors compare it."""
    if isinstance(value, str):
        return value
    text: str = orjson.dumps(value).decode()
    return text
