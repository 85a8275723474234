"""The API as the conformance suite calls it: both fronts of one server, answers as JSON and codes."""

from __future__ import annotations

import contextlib
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc

from tillerman.api import codec
from tillerman.api.rpcstatus import from_rpc
from tillerman.api.scheme import SCHEME, ResourceInfo
from tillerman.pb.api import objects_pb2 as pb
from tillerman.pb.api import objects_pb2_grpc
from tillerman.pb.k8s import meta_v1_pb2, runtime_pb2

JSON, YAML = "application/json", "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
NAMESPACE = "conformance"
UNKNOWN = "type.googleapis.com/k8s.io.apimachinery.pkg.runtime.Unknown"


@dataclass(frozen=True)
class Answer:
    """``content``: the JSON, or None for another media type."""

    code: int
    content: Any
    raw: bytes
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        return str(self.content.get("reason", ""))

    @property
    def fields(self) -> set[str]:
        """The fields that a refusal names."""
        return {cause.get("field", "") for cause in (self.content.get("details") or {}).get("causes") or ()}


def path_of(info: ResourceInfo, name: str = "", subresource: str = "", *, namespace: str = NAMESPACE) -> str:
    version = f"/apis/{info.group}/{info.version}" if info.group else f"/api/{info.version}"
    parts = [version]
    if info.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts.append(info.resource)
    parts += [quote(part) for part in (name, subresource) if part]
    return "/".join(parts)


class Http:
    """One connection in plain text."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._connection = http.client.HTTPConnection(*self._address, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        **query: str | int,
    ) -> Answer:
        if query:
            path += "?" + "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"Accept": accept, "User-Agent": "conformance/1"}
        if raw:
            headers["Content-Type"] = content_type
        self._connection.request(method, path, body=raw or None, headers=headers)
        response = self._connection.getresponse()
        answer = response.read()
        kind = response.headers.get("Content-Type", "")
        content = json.loads(answer) if kind.startswith(JSON) and b"\n{" not in answer else None
        return Answer(response.status, content, answer, dict(response.headers.items()))

    def must(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        """The content of an answer that must be a success."""
        answer = self(method, path, body, **options)
        assert answer.code < 300, f"{method} {path}: {answer.code} {answer.raw[:800]!r}"
        content: dict[str, Any] = answer.content
        return content

    def events(self, path: str, count: int, **query: str | int) -> list[dict[str, Any]]:
        """The first ``count`` events of a watch, or as many as there are within some seconds."""
        query = {"watch": 1, "timeoutSeconds": 10, **query}
        path += "?" + "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
        with contextlib.closing(http.client.HTTPConnection(*self._address, timeout=30)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            found = []
            while len(found) < count and (line := response.readline()):
                found.append(json.loads(line))
        return found


class Grpc:
    """The service Objects; objects go and come as their own messages."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._stub = objects_pb2_grpc.ObjectsStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def target(self, info: ResourceInfo, name: str = "", subresource: str = "") -> pb.Target:
        return pb.Target(
            api_version=info.api_version,
            resource=info.resource,
            namespace=NAMESPACE if info.namespaced else "",
            name=name,
            subresource=subresource,
        )

    def call(self, method: str, request: Any) -> Any:
        """Raises StatusError."""
        try:
            return getattr(self._stub, method)(request, timeout=30)
        except grpc.RpcError as error:
            raise from_rpc(error) from error

    def code(self, method: str, request: Any) -> grpc.StatusCode:
        """The code of a call that may be refused."""
        try:
            getattr(self._stub, method)(request, timeout=30)
        except grpc.RpcError as error:
            found: grpc.StatusCode = error.code()
            return found
        return grpc.StatusCode.OK

    def packed(self, request: Any, content: dict[str, Any], info: ResourceInfo) -> Any:
        """The request with its object."""
        request.object.type_url = info.type_url
        request.object.value = codec.from_dict(content, info.message).SerializeToString()
        return request

    def as_json(self, request: Any, content: Any) -> Any:
        request.object.type_url = UNKNOWN
        request.object.value = runtime_pb2.Unknown(
            raw=json.dumps(content).encode(), contentType=JSON
        ).SerializeToString()
        return request

    def content(self, packed: Any) -> dict[str, Any]:
        message = SCHEME.message_by_name(packed.type_url.rpartition("/")[2]).FromString(packed.value)
        return codec.to_dict(message)


def delete_options(**fields: Any) -> meta_v1_pb2.DeleteOptions:
    found = codec.from_dict(fields, meta_v1_pb2.DeleteOptions)
    assert isinstance(found, meta_v1_pb2.DeleteOptions)
    return found
