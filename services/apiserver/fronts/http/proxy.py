"""The proxy subresources: requests handed on to a pod, to a pod behind a Service, or to a node.

The API server itself connects to the pod's address, as Kubernetes' does, and reaches a node through its kubelet. What
comes back is handed on as it is, but that links and redirects lead through here again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from google.protobuf.message import Message
from multidict import CIMultiDict
from yarl import URL

from services.apiserver.fronts.http.proxy_links import Links
from services.apiserver.fronts.http.upgrades import CHUNK, Connection, hand_over
from services.apiserver.fronts.pods import Kubelets
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Registry, Target
from tillerman.api.status import bad_request, service_unavailable
from tillerman.pb.api import kubelet_pb2
from tillerman.pb.k8s import core_v1_pb2 as core

OPTIONS: dict[str, type[Message]] = {
    "pods": core.PodProxyOptions,
    "services": core.ServiceProxyOptions,
    "nodes": core.NodeProxyOptions,
}
VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
SCHEMES = frozenset({"", "http", "https"})
CONNECT_SECONDS = 30.0
PAGE_SECONDS = 30.0
# A page that is longer is handed on without a look at its links.
MAX_PAGE = 8 * 1024 * 1024
MAX_HEAD = 64 * 1024
_PATH = re.compile(r"^(/api/v1/(?:namespaces/[^/]+/(?:pods|services)|nodes)/[^/]+/proxy)(/[^?]*)?")
# Of one connection, or of the caller and the API server.
_OWN = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class Backend:
    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Proxy:
    def __init__(self, registry: Registry, kubelets: Kubelets) -> None:
        self._registry = registry
        self._kubelets = kubelets
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def serve(self, request: web.BaseRequest, target: Target, user: User) -> web.StreamResponse:
        """Raises StatusError before anything is answered."""
        found = _PATH.match(request.raw_path)
        assert found is not None
        prefix, path = found.group(1), found.group(2) or ""
        options = OPTIONS[target.resource](path=path)
        await self._registry.connect(target, options, Context(user), VERBS.get(request.method, ""))
        scheme, name, port = named(target)
        if target.resource == "nodes" and not port:
            return await self._page(name, path)
        backend = await self._backend(target, scheme, name, port)
        query = request.raw_path.partition("?")[2]
        if "upgrade" in request.headers.get("Connection", "").lower():
            return await _upgraded(request, backend, (path or "/") + (f"?{query}" if query else ""))
        if not path:
            # A page's relative links need the slash.
            return web.Response(status=301, headers={"Location": f"{prefix}/" + (f"?{query}" if query else "")})
        url = URL(f"{backend.scheme}://{backend.authority}{path}" + (f"?{query}" if query else ""), encoded=True)
        return await self._handed_on(request, url, Links(prefix, backend.authority))

    # -- where to --------------------------------------------------------------------------------------------------

    async def _backend(self, target: Target, scheme: str, name: str, port: str) -> Backend:
        if target.resource == "services":
            host, number = await self._endpoint(target.namespace, name, port)
        elif target.resource == "pods":
            pod = await self._kubelets.pod(target.namespace, name)
            host = pod.status.podIP
            if not host:
                raise bad_request("address not allowed")
            ports = [one.containerPort for container in pod.spec.containers for one in container.ports]
            number = _number(target, port) if port else next(iter(ports), 443 if scheme == "https" else 80)
        else:
            node = await self._get("nodes", "", name)
            host = next((one.address for one in node.status.addresses if one.type == "InternalIP"), "")
            if not host:
                raise service_unavailable(f"node {name} has no address")
            number = _number(target, port)
        return Backend(scheme or "http", host, number)

    async def _endpoint(self, namespace: str, name: str, port: str) -> tuple[str, int]:
        """An address of those that are ready, at random."""
        if port.isdigit():
            service = await self._get("services", namespace, name)
            chosen = [one.name for one in service.spec.ports if one.port == int(port)]
            if not chosen:
                raise service_unavailable(f'no service port {port} found for service "{name}"')
            port = chosen[0]
        endpoints = await self._get("endpoints", namespace, name)
        choices = [
            (address.ip, number.port)
            for subset in endpoints.subsets
            for number in subset.ports
            if number.name == port
            for address in subset.addresses
        ]
        if not choices:
            raise service_unavailable(f'no endpoints available for service "{name}"')
        return random.choice(choices)

    async def _get(self, resource: str, namespace: str, name: str) -> Any:
        """Raises NotFound."""
        return (await self._registry.reader.get(self._registry.catalog.get("v1", resource), namespace, name)).message()

    # -- answers ---------------------------------------------------------------------------------------------------

    async def _page(self, node: str, path: str) -> web.StreamResponse:
        """What the node's kubelet tells under a path."""
        try:
            channel = await self._kubelets.channel_to(node)
            raw = await channel.unary_unary("/tillerman.v1.Kubelet/Page")(
                kubelet_pb2.PageRequest(path=path or "/").SerializeToString(), timeout=PAGE_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise service_unavailable(f"error trying to reach service: {error.details()}") from error
        page = kubelet_pb2.PageResponse.FromString(raw)
        return web.Response(status=page.status, body=page.body, headers={"Content-Type": page.content_type})

    async def _handed_on(self, request: web.BaseRequest, url: URL, links: Links) -> web.StreamResponse:
        if self._session is None:
            unverified = ssl.create_default_context()
            unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=unverified),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        try:
            asked = self._session.request(
                request.method,
                url,
                headers=_forwarded(request),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Content-Type", "Accept"),
            )
            async with asked as answer:
                return await _answered(request, answer, links)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise service_unavailable(f"error trying to reach service: {error}") from error


def named(target: Target) -> tuple[str, str, str]:
    """(scheme, name, port) of [scheme:]name[:port]. Raises BadRequest."""
    parts = target.name.split(":")
    if len(parts) < 3:
        parts.insert(0, "")
    scheme, name, port = (*parts, "")[:3]
    if len(parts) > 3 or not name or scheme not in SCHEMES:
        raise bad_request(f'invalid {target.resource.removesuffix("s")} request "{target.name}"')
    return scheme, name, port


def _number(target: Target, port: str) -> int:
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise bad_request(f'invalid {target.resource.removesuffix("s")} request "{target.name}"')
    return int(port)


def _forwarded(request: web.BaseRequest) -> CIMultiDict[str]:
    """The caller's headers, as they are for the backend."""
    listed = {name.strip().lower() for name in request.headers.get("Connection", "").split(",")}
    kept = CIMultiDict(
        (name, value)
        for name, value in request.headers.items()
        if name.lower() not in _OWN and name.lower() not in listed and not name.lower().startswith("impersonate-")
    )
    # Pages whose links are to be changed must be readable.
    kept["Accept-Encoding"] = "identity"
    kept["X-Forwarded-Uri"] = request.raw_path.partition("?")[0]
    kept["X-Forwarded-Host"] = request.headers.get("Host", "")
    kept["X-Forwarded-Proto"] = "https" if request.secure else "http"
    if request.remote:
        kept["X-Forwarded-For"] = ", ".join([*request.headers.getall("X-Forwarded-For", []), request.remote])
    return kept


async def _answered(request: web.BaseRequest, answer: aiohttp.ClientResponse, links: Links) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in answer.headers.items():
        if name.lower() not in _OWN:
            response.headers.add(name, links.rewritten(value) if name.lower() == "location" else value)
    start = b""
    if answer.content_type == "text/html" and "Content-Encoding" not in answer.headers and request.method != "HEAD":
        start = await _read(answer.content, MAX_PAGE)
        if len(start) <= MAX_PAGE:
            start = links.page(start, answer.charset or "utf-8")
        if answer.content.at_eof():
            response.content_length = len(start)
    if response.content_length is None and request.method != "HEAD":
        response.enable_chunked_encoding()
    # An answer that has begun can only break off.
    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        await response.prepare(request)
        if start:
            await response.write(start)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    return response


async def _read(stream: aiohttp.StreamReader, limit: int) -> bytes:
    """Up to the end, or until it is more than the limit."""
    parts: list[bytes] = []
    size = 0
    while size <= limit and (part := await stream.readany()):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


async def _upgraded(request: web.BaseRequest, backend: Backend, path: str) -> web.StreamResponse:
    """The request's head as it is; after the backend's 101 the two connections are one."""
    secure = None
    if backend.scheme == "https":
        secure = ssl.create_default_context()
        secure.check_hostname, secure.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(backend.host, backend.port, ssl=secure, limit=MAX_HEAD)
            headers = _forwarded(request)
            headers["Host"] = backend.authority
            headers["Connection"], headers["Upgrade"] = "Upgrade", request.headers.get("Upgrade", "")
            lines = [f"{request.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
            head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
        raise service_unavailable(f"error trying to reach service: {error}") from error
    connection = hand_over(request, head)
    try:
        await _joined(connection, reader, writer)
    finally:
        writer.close()
    return connection


async def _joined(connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends."""

    async def to_caller() -> None:
        while data := await reader.read(CHUNK):
            await connection.send(data)

    async def to_backend() -> None:
        async for data in connection.received():
            writer.write(data)
            await writer.drain()

    tasks = [asyncio.create_task(to_caller()), asyncio.create_task(to_backend())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
