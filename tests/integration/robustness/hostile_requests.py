"""Seeded random requests for both fronts: valid manifests of every kind, mutated at every level of the protocol.

Each body carries its request's number in an annotation: what is stored afterwards tells which request stored it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any
from urllib.parse import quote

from mutations import (
    NUMBERS,
    STRINGS,
    broken,
    chosen,
    mutated,
    nested_fields,
    odd_fields,
    scalar,
    text_of,
)

from tests.fixtures.golden import cases
from tillerman.api import codec, envelope
from tillerman.api.scheme import SCHEME, ResourceInfo
from tillerman.pb.api import objects_pb2
from tillerman.pb.k8s import meta_v1_pb2, runtime_pb2

ANNOTATION = "fuzz.test/request"
NAMESPACE = "fuzz"
JSON, YAML = "application/json", "application/yaml"
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
CONTENT_TYPES = (
    JSON,
    YAML,
    envelope.PROTOBUF,
    *PATCH_TYPES,
    "",
    "text/plain",
    "application/json; charset=latin-1",
    "application/cbor",
    "multipart/form-data; boundary=x",
    "a/b/c;;==",
)
ACCEPTS = (
    JSON,
    "",
    "*/*",
    envelope.PROTOBUF,
    YAML,
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;as=Table;v=v9;g=x",
    "text/html",
    ";;;,,,",
    "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json",
)
SELECTORS = (
    "a=b",
    "a!=b",
    "a in (b,c)",
    "a notin (b)",
    "!a",
    "a",
    "a in",
    "a in (",
    "a=b,,c",
    ",",
    "=",
    "!!a",
    "a==b==c",
    "a>1",
    "a<x",
    "a in ()",
    "x/y/z=a",
    "a=" + "b" * 64,
    "()",
    "in in (in)",
    "\0",
    "metadata.name=a",
    "metadata.name!=a",
    "spec.nodeName=a,status.phase!=Running",
    "status.phase=",
    "nonesuch=1",
    "metadata.namespace=fuzz",
    "a\\,b=c",
    "metadata.name=a,metadata.name=b",
)
QUERY_NAMES = (
    "limit",
    "continue",
    "labelSelector",
    "fieldSelector",
    "resourceVersion",
    "resourceVersionMatch",
    "dryRun",
    "fieldManager",
    "fieldValidation",
    "force",
    "gracePeriodSeconds",
    "propagationPolicy",
    "orphanDependents",
    "timeoutSeconds",
    "watch",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "includeObject",
    "pretty",
    "container",
    "follow",
    "tailLines",
    "sinceSeconds",
    "sinceTime",
    "limitBytes",
    "previous",
    "timestamps",
    "command",
    "stdin",
    "ports",
    "nonesuch",
)


@dataclass(frozen=True, slots=True)
class Call:
    """``raw``: an HTTP request, or a gRPC request message of ``method``. ``streams``: it may go on without end."""

    number: int
    method: str
    raw: bytes
    streams: bool = False
    upgrade: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    info: ResourceInfo
    namespace: str
    content: dict[str, Any]


@cache
def manifests() -> tuple[Manifest, ...]:
    """The recorded creates (accepted and refused) and the bases of the recorded patches: every kind is among them."""
    found = []
    for name, field in (("creates", "request"), ("invalid", "request"), ("patches", "base")):
        for case in cases(name):
            content = case.get(field)
            try:
                info = SCHEME.by_kind(content["apiVersion"], content["kind"])
            except (LookupError, TypeError):
                continue
            found.append(Manifest(info, NAMESPACE if info.namespaced else "", content))
    return tuple(found)


@cache
def patches() -> tuple[tuple[str, Any], ...]:
    steps = [step for case in cases("patches") for step in case["steps"] if "patch" in step]
    return tuple((step["content_type"], step["patch"]) for step in steps)


@cache
def resources() -> tuple[ResourceInfo, ...]:
    return tuple(SCHEME.resources(also_served=True))


class Generator:
    """``http(n)`` and ``grpc(n)``: the request of that number; what came before in this Generator has its say too."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self._names: list[tuple[Manifest, str]] = []

    # -- shared ----------------------------------------------------------------------------------------------------

    def _manifest(self, number: int) -> tuple[Manifest, dict[str, Any]]:
        """A manifest with a name of its own and its request's number."""
        manifest = self.random.choice(manifests())
        content = json.loads(json.dumps(manifest.content))
        meta = content.get("metadata")
        if not isinstance(meta, dict):
            meta = content["metadata"] = {}
        meta["namespace"] = manifest.namespace
        if not manifest.namespace:
            del meta["namespace"]
        meta["name"] = f"n{number}"
        annotations = meta.get("annotations")
        meta["annotations"] = {**(annotations if isinstance(annotations, dict) else {}), ANNOTATION: mark_of(number)}
        return manifest, content

    def _known(self) -> tuple[Manifest, str]:
        """Something that may be there."""
        if self._names and self.random.random() < 0.9:
            return self.random.choice(self._names[-200:])
        return self.random.choice(manifests()), self.random.choice(("nonesuch", "default", *STRINGS))

    def _remember(self, manifest: Manifest, number: int) -> None:
        self._names.append((manifest, f"n{number}"))

    def _mutated(self, content: Any) -> Any:
        return mutated(self.random, content, self.random.choice((0, 0, 0, 1, 1, 2, 5)))

    def _json(self, content: Any) -> bytes:
        raw = text_of(self.random, self._mutated(content))
        return broken(self.random, raw) if self.random.random() < 0.15 else raw

    def _message(self, content: dict[str, Any], info: ResourceInfo) -> bytes:
        """The protobuf of a manifest, often broken."""
        random = self.random
        try:
            raw = codec.from_dict(self._mutated(content), info.message).SerializeToString()
        except (codec.DecodeError, ValueError, TypeError, AttributeError, RecursionError):
            raw = codec.from_dict(content, info.message).SerializeToString() if _decodes(content, info) else b""
        return chosen(
            random,
            (6, lambda: raw),
            (3, lambda: broken(random, raw)),
            (2, lambda: raw + odd_fields(random)),
            (1, lambda: raw + nested_fields(random, random.choice((50, 99, 150, 5_000)))),
            (1, lambda: random.randbytes(random.randrange(200))),
        )

    def _envelope(self, content: dict[str, Any], info: ResourceInfo) -> bytes:
        random = self.random
        api_version, kind = info.api_version, info.kind
        if random.random() < 0.15:
            api_version, kind = random.choice((("v1", "Pod"), ("", ""), ("v9", "Nonesuch"), (api_version, "List")))
        raw = envelope.wrap(api_version, kind, self._message(content, info))
        return broken(random, raw) if random.random() < 0.15 else raw

    def _patch(self, number: int) -> tuple[str, bytes]:
        random = self.random
        kind, patch = random.choice(patches())
        mark = {"metadata": {"annotations": {ANNOTATION: mark_of(number)}}}
        if kind == PATCH_TYPES[0]:
            if isinstance(patch, list):
                patch = [*patch, {"op": "add", "path": f"/metadata/annotations/{ANNOTATION.replace('/', '~1')}"}]
                patch[-1]["value"] = str(number)
        elif isinstance(patch, dict):
            patch = {**patch, **mark}
        if random.random() < 0.2:
            kind = random.choice(CONTENT_TYPES)
        return kind, self._json(patch)

    def _token(self) -> str:
        random = self.random
        token = {"v": "meta.k8s.io/v1", "rv": random.choice((1, *NUMBERS)), "start": random.choice(STRINGS)}
        raw = text_of(random, mutated(random, token, random.choice((0, 1, 1))))
        return chosen(
            random,
            (4, lambda: base64.urlsafe_b64encode(raw).decode().rstrip("=")),
            (1, lambda: random.choice(STRINGS)),
        )

    def _value(self, name: str) -> str:
        """A value for a query parameter, sensible about half the time."""
        random = self.random
        if random.random() < 0.3:
            return str(scalar(random))
        match name:
            case "continue":
                return self._token()
            case "labelSelector" | "fieldSelector":
                return random.choice(SELECTORS)
            case "limit" | "gracePeriodSeconds" | "resourceVersion" | "tailLines" | "limitBytes" | "sinceSeconds":
                return str(random.choice((0, 1, 2, 100, *NUMBERS)))
            case "timeoutSeconds":
                return "1"
            case "resourceVersionMatch":
                return random.choice(("Exact", "NotOlderThan", "x"))
            case "propagationPolicy":
                return random.choice(("Orphan", "Foreground", "Background", "x"))
            case "fieldValidation":
                return random.choice(("Strict", "Warn", "Ignore", "x"))
            case "dryRun":
                return random.choice(("All", "", "x"))
            case "includeObject":
                return random.choice(("None", "Metadata", "Object", "x"))
        return random.choice(("1", "true", "false", "a", "x" * 200))

    def _delete_options(self) -> dict[str, Any]:
        random = self.random
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        for name in ("gracePeriodSeconds", "propagationPolicy", "dryRun", "orphanDependents", "preconditions"):
            if random.random() < 0.3:
                value: Any = self._value(name)
                if name == "gracePeriodSeconds":
                    value = random.choice((0, 1, 30, *NUMBERS))
                elif name == "dryRun":
                    value = [value]
                elif name == "orphanDependents":
                    value = random.random() < 0.5
                elif name == "preconditions":
                    value = {"uid": random.choice(STRINGS), "resourceVersion": random.choice(("1", *STRINGS))}
                options[name] = value
        return options

    # -- HTTP ------------------------------------------------------------------------------------------------------

    def http(self, number: int) -> Call:
        random = self.random
        return chosen(
            random,
            (34, lambda: self._http_create(number)),
            (18, lambda: self._http_update(number)),
            (18, lambda: self._http_patch(number)),
            (8, lambda: self._http_delete(number)),
            (14, lambda: self._http_read(number)),
            (4, lambda: self._http_path(number)),
            (3, lambda: self._http_upgrade(number)),
            (1, lambda: self._http_huge(number)),
        )

    def _request(
        self,
        number: int,
        method: str,
        path: str,
        body: bytes = b"",
        content_type: str = JSON,
        *,
        params: int = 0,
        always: str = "",
        headers: tuple[str, ...] = (),
        streams: bool = False,
        upgrade: bool = False,
    ) -> Call:
        random = self.random
        query = [always] if always else []
        for _ in range(params):
            name = random.choice(QUERY_NAMES)
            if name in ("watch", "follow") and not streams:
                continue
            query.append(f"{name}={quote(self._value(name).encode('utf-8', 'surrogatepass'), safe='=,!()')}")
        accept = random.choice(ACCEPTS) if random.random() < 0.3 else JSON
        lines = [f"{method} {path}{'?' if query else ''}{'&'.join(query)} HTTP/1.1", "Host: a", f"Accept: {accept}"]
        if body or method in ("POST", "PUT", "PATCH"):
            lines += [f"Content-Length: {len(body)}", f"Content-Type: {content_type}"]
        lines += headers
        head = "\r\n".join(lines) + "\r\n\r\n"
        return Call(number, method, head.encode("latin-1", "replace") + body, streams=streams, upgrade=upgrade)

    def _collection(self, manifest: Manifest) -> str:
        info = manifest.info
        version = f"/api/{info.version}" if not info.group else f"/apis/{info.group}/{info.version}"
        return f"{version}{f'/namespaces/{manifest.namespace}' if manifest.namespace else ''}/{info.resource}"

    def _object(self, manifest: Manifest, name: str) -> str:
        path = f"{self._collection(manifest)}/{quote(name.encode('utf-8', 'surrogatepass'), safe='')}"
        if self.random.random() < 0.2:
            path += f"/{self.random.choice((*manifest.info.subresources, 'status', 'nonesuch'))}"
        return path

    def _body(self, content: dict[str, Any], info: ResourceInfo) -> tuple[bytes, str]:
        random = self.random
        body, kind = chosen(
            random,
            (6, lambda: (self._json(content), JSON)),
            (3, lambda: (self._envelope(content, info), envelope.PROTOBUF)),
            (1, lambda: (self._json(content), YAML)),
            (1, lambda: (random.randbytes(random.randrange(100)), random.choice(CONTENT_TYPES))),
        )
        return body, random.choice(CONTENT_TYPES) if random.random() < 0.05 else kind

    def _http_create(self, number: int) -> Call:
        manifest, content = self._manifest(number)
        self._remember(manifest, number)
        body, kind = self._body(content, manifest.info)
        path = self._collection(manifest)
        if self.random.random() < 0.05:
            path = self._collection(self.random.choice(manifests()))
        return self._request(number, "POST", path, body, kind, params=self.random.choice((0, 0, 0, 1, 2)))

    def _http_update(self, number: int) -> Call:
        manifest, name = self._known()
        content = self._manifest(number)[1] if self.random.random() < 0.2 else json.loads(json.dumps(manifest.content))
        meta = content.setdefault("metadata", {}) if isinstance(content.get("metadata", {}), dict) else {}
        meta.update(name=name, annotations={ANNOTATION: mark_of(number)})
        if not manifest.namespace:
            meta.pop("namespace", None)
        else:
            meta["namespace"] = manifest.namespace
        body, kind = self._body(content, manifest.info)
        return self._request(number, "PUT", self._object(manifest, name), body, kind, params=self.random.choice((0, 1)))

    def _http_patch(self, number: int) -> Call:
        manifest, name = self._known()
        kind, body = self._patch(number)
        always = "fieldManager=m" if "apply" in kind else ""
        if "apply" in kind and self.random.random() < 0.7:
            content = json.loads(json.dumps(manifest.content))
            content["metadata"] = {"name": name, "annotations": {ANNOTATION: mark_of(number)}}
            body = self._json(content)
        return self._request(
            number,
            "PATCH",
            self._object(manifest, name),
            body,
            kind,
            params=self.random.choice((0, 0, 1)),
            always=always,
        )

    def _http_delete(self, number: int) -> Call:
        manifest, name = self._known()
        path = self._collection(manifest) if self.random.random() < 0.1 else self._object(manifest, name)
        body = self._json(self._delete_options()) if self.random.random() < 0.6 else b""
        return self._request(number, "DELETE", path, body, params=self.random.choice((0, 0, 2)))

    def _http_read(self, number: int) -> Call:
        random = self.random
        manifest, name = self._known()
        path = self._object(manifest, name) if random.random() < 0.4 else self._collection(manifest)
        watch = random.random() < 0.15
        always = "watch=1&timeoutSeconds=1" if watch else ""
        return self._request(number, "GET", path, params=random.randrange(5), always=always, streams=watch)

    def _http_path(self, number: int) -> Call:
        random = self.random
        pieces = ("api", "apis", "v1", "apps", "namespaces", "pods", "..", ".", "%00", "%ff", "%2f", "%", "", "*", "a")
        path = "/" + "/".join(random.choice((*pieces, "openapi", "v3", "healthz")) for _ in range(random.randrange(9)))
        method = random.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "FOO", "CONNECT"))
        return self._request(number, method, path, params=random.randrange(3), streams=method == "HEAD")

    def _http_upgrade(self, number: int) -> Call:
        random = self.random
        name = self._known()[1]
        subresource = random.choice(("exec", "attach", "portforward", "log", "proxy"))
        path = (
            f"/api/v1/namespaces/{NAMESPACE}/pods/{quote(name.encode('utf-8', 'surrogatepass'), safe='')}/{subresource}"
        )
        headers = [
            f"Upgrade: {random.choice(('websocket', 'SPDY/3.1', 'h2c', ''))}",
            f"Connection: {random.choice(('Upgrade', 'upgrade, x', 'close'))}",
        ]
        if random.random() < 0.8:
            headers.append(f"Sec-WebSocket-Key: {random.choice(('AAAAAAAAAAAAAAAAAAAAAA==', 'x', ''))}")
            headers.append(f"Sec-WebSocket-Version: {random.choice(('13', '8', 'x'))}")
            protocols = ("v5.channel.k8s.io", "SPDY/3.1+portforward.k8s.io", "nonesuch")
            headers.append(f"Sec-WebSocket-Protocol: {random.choice(protocols)}")
        method = random.choice(("GET", "GET", "POST"))
        return self._request(number, method, path, params=3, headers=tuple(headers), streams=True, upgrade=True)

    def _http_huge(self, number: int) -> Call:
        random = self.random
        manifest, content = self._manifest(number)
        size = random.choice((200_000, 1_600_000, 2_900_000, 3_200_000))
        content["metadata"]["annotations"]["big"] = "x" * size
        return self._request(number, "POST", self._collection(manifest), json.dumps(content).encode())

    # -- gRPC ------------------------------------------------------------------------------------------------------

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


def mark_of(number: int) -> str:
    """What a request writes into the annotation: its number, twice, so that a mutation makes no other's of it."""
    return f"{number}-{number}"


def number_of(mark: str) -> int | None:
    """Of the request that wrote a mark; None when that cannot be told."""
    first, _, second = mark.partition("-")
    return int(first) if first == second and first.isdecimal() else None


def _text(value: str) -> str:
    """A string that protobuf can hold."""
    return value.encode("utf-8", "replace").decode()


def _decodes(content: dict[str, Any], info: ResourceInfo) -> bool:
    try:
        codec.from_dict(content, info.message)
    except (codec.DecodeError, ValueError, TypeError):
        return False
    return True
