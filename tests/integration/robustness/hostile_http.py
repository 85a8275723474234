"""Hostile requests for the HTTP front."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hostile_parts import ANNOTATION, CONTENT_TYPES, JSON, NAMESPACE, YAML, Call, Manifest, Parts, manifests, mark_of
from mutations import chosen

from tillerman.api import envelope
from tillerman.api.scheme import ResourceInfo

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


class HttpRequests(Parts):
    """``http(n)``: the request of that number."""

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
