"""Hostile requests for the gRPC front."""

from __future__ import annotations

import json
from typing import Any

from hostile_parts import ANNOTATION, CONTENT_TYPES, JSON, SELECTORS, Call, Manifest, Parts, manifests, mark_of
from mutations import STRINGS, broken, chosen, nested_fields, odd_fields

from tillerman.api import codec, envelope
from tillerman.api.scheme import ResourceInfo
from tillerman.pb.api import objects_pb2
from tillerman.pb.k8s import meta_v1_pb2, runtime_pb2


class GrpcRequests(Parts):
    """``grpc(n)``: the request of that number."""

    def grpc(self, number: int) -> Call:
        random = self.random
        method, request = chosen(
            random,
            (30, lambda: self._grpc_create(number)),
            (16, lambda: self._grpc_update(number)),
            (18, lambda: self._grpc_patch(number)),
            (8, lambda: self._grpc_delete()),
            (8, lambda: self._grpc_list()),
            (6, lambda: self._grpc_get()),
            (4, lambda: self._grpc_watch()),
            (5, lambda: self._grpc_batch(number)),
            (1, lambda: ("Discover", objects_pb2.DiscoverRequest())),
        )
        raw = request.SerializeToString()
        if random.random() < 0.1:
            raw = chosen(
                random,
                (3, lambda: broken(random, raw)),
                (1, lambda: random.randbytes(random.randrange(100))),
                (1, lambda: raw + odd_fields(random)),
                (1, lambda: nested_fields(random, random.choice((50, 150, 20_000)))),
            )
        return Call(number, method, raw, streams=method == "Watch")

    def _target(self, manifest: Manifest, name: str = "") -> objects_pb2.Target:
        random = self.random
        info = manifest.info
        target = objects_pb2.Target(
            api_version=info.api_version, resource=info.resource, namespace=manifest.namespace, name=_text(name)
        )
        if random.random() < 0.15:
            target.subresource = random.choice((*info.subresources, "status", "scale", "nonesuch"))
        if random.random() < 0.08:
            field = random.choice(("api_version", "resource", "namespace", "name", "subresource"))
            setattr(target, field, _text(random.choice(STRINGS)))
        return target

    def _any(self, request: Any, content: dict[str, Any], info: ResourceInfo) -> None:
        random = self.random
        packed = request.object
        packed.type_url = info.type_url
        if random.random() < 0.1:
            other = random.choice(manifests()).info.type_url
            packed.type_url = random.choice((other, "", "x", "type.googleapis.com/", "type.googleapis.com/a.B"))
        if random.random() < 0.4:
            unknown = runtime_pb2.Unknown(raw=self._json(content), contentType=JSON)
            if random.random() < 0.2:
                unknown.raw = self._envelope(content, info)
                unknown.contentType = envelope.PROTOBUF
            if random.random() < 0.1:
                unknown.contentType = random.choice(CONTENT_TYPES)
            packed.type_url = "type.googleapis.com/k8s.io.apimachinery.pkg.runtime.Unknown"
            packed.value = unknown.SerializeToString()
            if random.random() < 0.1:
                packed.value = broken(random, packed.value)
        else:
            packed.value = self._message(content, info)

    def _flags(self, request: Any) -> None:
        random = self.random
        for name in ("field_manager", "field_validation"):
            if random.random() < 0.2:
                setattr(
                    request, name, _text(self._value("fieldManager" if name == "field_manager" else "fieldValidation"))
                )
        request.dry_run = random.random() < 0.1

    def _grpc_create(self, number: int) -> tuple[str, Any]:
        manifest, content = self._manifest(number)
        self._remember(manifest, number)
        request = objects_pb2.CreateRequest(target=self._target(manifest))
        self._any(request, content, manifest.info)
        self._flags(request)
        return "Create", request

    def _grpc_update(self, number: int) -> tuple[str, Any]:
        manifest, name = self._known()
        content = json.loads(json.dumps(manifest.content))
        content["metadata"] = {"name": name, "annotations": {ANNOTATION: mark_of(number)}}
        request = objects_pb2.UpdateRequest(target=self._target(manifest, name))
        self._any(request, content, manifest.info)
        self._flags(request)
        return "Update", request

    def _grpc_patch(self, number: int) -> tuple[str, Any]:
        manifest, name = self._known()
        kind, body = self._patch(number)
        request = objects_pb2.PatchRequest(target=self._target(manifest, name), patch_type=kind, patch=body)
        self._flags(request)
        if "apply" in kind:
            request.field_manager = "m"
            request.force = self.random.random() < 0.5
            if self.random.random() < 0.7:
                content = json.loads(json.dumps(manifest.content))
                content["metadata"] = {"name": name, "annotations": {ANNOTATION: mark_of(number)}}
                request.patch = self._json(content)
        elif self.random.random() < 0.05:
            request.force = True
        return "Patch", request

    def _grpc_delete(self) -> tuple[str, Any]:
        random = self.random
        manifest, name = self._known()
        collection = random.random() < 0.1
        options = self._delete_options()
        kind = objects_pb2.DeleteCollectionRequest if collection else objects_pb2.DeleteRequest
        request: Any = kind(target=self._target(manifest, "" if collection else name))
        try:
            request.options.CopyFrom(codec.from_dict(options, meta_v1_pb2.DeleteOptions))
        except (codec.DecodeError, ValueError, TypeError):
            request.options.dryRun.append("x")
        if collection:
            request.label_selector = _text(random.choice(("", *SELECTORS)))
            request.field_selector = _text(random.choice(("", *SELECTORS)))
        return "DeleteCollection" if collection else "Delete", request

    def _selecting(self, request: Any) -> None:
        random = self.random
        for name in ("label_selector", "field_selector"):
            if random.random() < 0.4:
                setattr(request, name, _text(random.choice(SELECTORS)))
        for name, parameter in (
            ("resource_version", "resourceVersion"),
            ("resource_version_match", "resourceVersionMatch"),
        ):
            if random.random() < 0.25:
                setattr(request, name, _text(self._value(parameter)))

    def _grpc_list(self) -> tuple[str, Any]:
        random = self.random
        request = objects_pb2.ListRequest(target=self._target(self._known()[0]))
        self._selecting(request)
        request.limit = random.choice((0, 0, 1, 5, -1, 2**62, 2**63 - 1, -(2**63)))
        if random.random() < 0.3:
            request.continue_token = _text(self._token())
        return "List", request

    def _grpc_get(self) -> tuple[str, Any]:
        manifest, name = self._known()
        request = objects_pb2.GetRequest(target=self._target(manifest, name))
        if self.random.random() < 0.3:
            request.resource_version = _text(self._value("resourceVersion"))
        return "Get", request

    def _grpc_watch(self) -> tuple[str, Any]:
        random = self.random
        request = objects_pb2.WatchRequest(target=self._target(self._known()[0]))
        self._selecting(request)
        request.timeout_seconds = random.choice((1, 1, 0, -1, 2**63 - 1))
        request.allow_bookmarks = random.random() < 0.5
        request.send_initial_events = random.random() < 0.3
        return "Watch", request

    def _grpc_batch(self, number: int) -> tuple[str, Any]:
        request = objects_pb2.BatchRequest()
        for _ in range(self.random.choice((0, 1, 3, 12))):
            operation = request.operations.add()
            # What a refused operation of a batch holds must not be stored: they share the number, so only one of
            # them is marked.
            method, made = self.random.choice((self._grpc_delete, lambda: self._grpc_create(number)))()
            if method == "DeleteCollection":
                continue
            getattr(operation, method.lower()).CopyFrom(made)
        return "Batch", request


def _text(value: str) -> str:
    """A string that protobuf can hold."""
    return value.encode("utf-8", "replace").decode()
