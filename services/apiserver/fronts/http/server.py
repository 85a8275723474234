"""The HTTPS listener: TLS, who calls, and which part answers.

One asyncio handler per request, cancelled when its caller goes away; watches and streams last as long as the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from services.apiserver.auth.authorize import AuthorizerChain
from services.apiserver.auth.impersonate import impersonated
from services.apiserver.auth.tokens import TokenKeys
from services.apiserver.fronts.http import content
from services.apiserver.fronts.http.channels import Channels
from services.apiserver.fronts.http.compression import compressed
from services.apiserver.fronts.http.content import Answer
from services.apiserver.fronts.http.discovery import Discovery
from services.apiserver.fronts.http.logs import Logs, NoLog
from services.apiserver.fronts.http.metrics import LISTED, METRICS, Metrics
from services.apiserver.fronts.http.openapi import OpenApi, legacy
from services.apiserver.fronts.http.paths import resource_path, split
from services.apiserver.fronts.http.portforward import PortForward
from services.apiserver.fronts.http.proxy import OPTIONS as PROXIED
from services.apiserver.fronts.http.proxy import Proxy
from services.apiserver.fronts.http.verbs import Request, Verbs, error_line, warning_header
from services.apiserver.fronts.instrument import Instrument
from services.apiserver.fronts.limits import Limits
from services.apiserver.fronts.objects import JSON
from services.apiserver.fronts.pods import Kubelets
from services.apiserver.registry.context import User
from services.apiserver.registry.registry import Registry, Target, status_of
from services.apiserver.storage.errors import StorageError
from tillerman.api.status import (
    StatusError,
    bad_request,
    forbidden,
    internal,
    no_such_path,
    request_entity_too_large,
)
from tillerman.service.tls import ANONYMOUS, UserInfo
from tillerman.service.version import VERSION

# The Kubernetes release whose API this is.
KUBERNETES = ("1", "32", "v1.32.0")
MAX_BODY = 3 * 1024 * 1024
KEEPALIVE_SECONDS = 120.0
UNCACHED = {"Cache-Control": "no-cache, private"}
HEALTH = frozenset({"healthz", "livez", "readyz"})
NOBODY = User(ANONYMOUS.name, ANONYMOUS.groups)


class HttpFront:
    """``authenticate(request)`` finds the user, raises Unauthorized. ``ready``: whether /readyz says ok. ``issuer``: of
    service account tokens, for those who verify them elsewhere.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        authenticate: Callable[[Any], Awaitable[User]],
        authorizer: AuthorizerChain,
        instrument: Instrument,
        log: Any,
        kubelets: Kubelets,
        ready: Callable[[], bool] = lambda: True,
        limits: Limits,
        issuer: TokenKeys | None = None,
    ) -> None:
        self._registry = registry
        self._identify = authenticate
        self._authorizer = authorizer
        self._instrument = instrument
        self._log = log
        self._logs = Logs(registry, kubelets)
        channels = Channels(registry, kubelets)
        self._streams: dict[str, Channels | PortForward] = {
            "exec": channels,
            "attach": channels,
            "portforward": PortForward(registry, kubelets),
        }
        self._proxy = Proxy(registry, kubelets)
        self._ready = ready
        self._limits = limits
        self._issuer = issuer
        self._verbs = Verbs(registry, instrument)
        self._metrics = Metrics(registry, kubelets)
        self._discovery = Discovery(registry, extra=LISTED)
        self._openapi = OpenApi(self._discovery)

    async def _authenticate(self, request: web.BaseRequest) -> User:
        """The caller, or whom it acts as. Raises Unauthorized, Forbidden."""
        return impersonated(await self._identify(request), request.headers, self._authorizer)

    async def close(self) -> None:
        await self._proxy.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request; never raises but for cancellation."""
        try:
            return await self._dispatch(request)
        except Exception as error:
            return _response(content.refusal(self._failure(error)))

    def _failure(self, error: Exception) -> StatusError:
        if isinstance(error, StatusError):
            return error
        if isinstance(error, StorageError):
            return status_of(error)
        self._log.error("a request failed unexpectedly", exc_info=error)
        return internal(f"{type(error).__name__}: {error}")

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        segments = split(request.raw_path)
        if _is_resource(segments):
            return await self._resource(request, segments)
        user = await self._caller_of_path(request)
        if not self._authorizer.allows_path(user, request.method.lower(), request.path):
            detail = f'User "{user.name}" cannot {request.method.lower()} path "{request.path}"'
            raise forbidden("", "", detail)
        if request.method not in ("GET", "HEAD"):
            raise no_such_path()
        return _response(await compressed(self._page(request, segments), request.headers))

    async def _caller_of_path(self, request: web.BaseRequest) -> User:
        """Who has no credentials at all may still ask for what everybody may see."""
        try:
            return await self._authenticate(request)
        except StatusError as error:
            if error.code != 401 or "Authorization" in request.headers:
                raise
            return NOBODY

    def _page(self, request: web.BaseRequest, segments: list[str]) -> Answer:
        """Everything that is no resource: health, version, discovery."""
        accept = request.headers.get("Accept", "")
        match segments:
            case [] | [""]:
                return Answer(orjson.dumps({"paths": self._paths()}))
            case [check, *_] if check in HEALTH:
                return self._health(check)
            case [".well-known", "openid-configuration"] if self._issuer is not None:
                return Answer(orjson.dumps(self._issuer.configuration(f"https://{request.host}")))
            case ["openid", "v1", "jwks"] if self._issuer is not None:
                return Answer(orjson.dumps(self._issuer.jwks()), media_type="application/jwk-set+json")
            case ["version"]:
                return Answer(orjson.dumps(version()))
            case ["openapi", "v2"]:
                return legacy(accept)
            case ["openapi", "v3"]:
                return self._openapi.index()
            case ["openapi", "v3", *rest]:
                return self._openapi.document("/".join(rest))
            case ["api"]:
                return self._discovery.aggregated(accept, core=True) or self._discovery.api_versions(request.host)
            case ["apis"]:
                return self._discovery.aggregated(accept, core=False) or self._discovery.group_list()
            case ["api", api_version]:
                return self._discovery.resource_list(api_version)
            case ["apis", group]:
                return self._discovery.group(group)
            case ["apis", group, api_version]:
                return self._discovery.resource_list(f"{group}/{api_version}")
        return Answer(orjson.dumps({"paths": self._paths()}), 404)

    def _paths(self) -> list[str]:
        versions = self._discovery.groups()
        served = [f"/apis/{version}" if "/" in version else f"/api/{version}" for version in versions]
        return [
            "/api",
            "/apis",
            *served,
            *(f"/{check}" for check in sorted(HEALTH)),
            "/openapi/v2",
            "/openapi/v3",
            "/version",
        ]

    def _health(self, check: str) -> Answer:
        if check == "readyz" and not self._ready():
            return Answer(b"the caches are not filled yet\n", 500, "text/plain")
        return Answer(b"ok", media_type="text/plain")

    # -- resources -------------------------------------------------------------------------------------------------

    async def _resource(self, request: web.BaseRequest, segments: list[str]) -> web.StreamResponse:
        path = resource_path(segments)
        target = path.target
        headers = request.headers
        query = {name: request.query[name] for name in request.query}
        if path.watch:
            target, query = watch_of(target, query)
        asked = Request(
            request.method,
            target,
            query,
            headers.get("Accept", ""),
            headers.get("Content-Type", ""),
            headers.get("User-Agent", ""),
        )
        if target.subresource in self._streams and target.resource == "pods":
            return await self._stream(request, target, self._streams[target.subresource])
        if target.subresource == "proxy" and target.api_version == "v1" and target.resource in PROXIED:
            return await self._stream(request, target, self._proxy)
        if target.subresource == "log":
            return await self._log_of(request, asked)
        if asked.watch:
            return await self._watch(request, asked)
        reads = request.method in ("GET", "HEAD")
        with self._instrument.request(self._verbs.verb(asked), target) as outcome:
            try:
                user = await self._authenticate(request)
                await self._registry.seek(target)
                async with (self._limits.reads if reads else self._limits.writes).place(user):
                    if not reads:
                        asked = _with_body(asked, await read_body(request))
                    answering = self._metrics if target.api_version == METRICS else self._verbs
                    answer = await answering.answer(asked, user)
                    if answer.rest is not None:
                        return await _sent_in_pieces(request, answer, answer.rest)
            except Exception as error:
                failure = self._failure(error)
                outcome.code = failure.code
                answer = content.refusal_of(failure, target.api_version)
            else:
                outcome.code = answer.code
        return _response(await compressed(answer, request.headers) if reads else answer)

    async def _stream(
        self, request: web.BaseRequest, target: Target, stream: Channels | PortForward | Proxy
    ) -> web.StreamResponse:
        with self._instrument.stream("CONNECT", target) as outcome:
            try:
                return await stream.serve(request, target, await self._authenticate(request))
            except Exception as error:
                failure = self._failure(error)
                outcome.code = failure.code
                return _response(content.refusal(failure))

    async def _log_of(self, request: web.BaseRequest, asked: Request) -> web.StreamResponse:
        with self._instrument.stream("CONNECT", asked.target) as outcome:
            try:
                user = await self._authenticate(request)
                chunks = self._logs.read(asked, user)
                first = await anext(chunks, b"")
            except NoLog:
                return _response(Answer(b"", 204))
            except Exception as error:
                failure = self._failure(error)
                outcome.code = failure.code
                return _response(content.refusal(failure))
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            response.enable_chunked_encoding()
            async with contextlib.aclosing(chunks):
                with contextlib.suppress(ConnectionError):
                    await response.prepare(request)
                    if first:
                        await response.write(first)
                    # The answer has begun: a log that breaks off later just ends.
                    with contextlib.suppress(StatusError):
                        async for chunk in chunks:
                            await response.write(chunk)
                    await response.write_eof()
            return response

    async def _watch(self, request: web.BaseRequest, asked: Request) -> web.StreamResponse:
        with self._instrument.stream("WATCH", asked.target) as outcome:
            try:
                user = await self._authenticate(request)
                await self._registry.seek(asked.target)
                chunks = self._verbs.watch(asked, user)
                await anext(chunks)
            except Exception as error:
                failure = self._failure(error)
                outcome.code = failure.code
                return _response(content.refusal(failure))
            response = web.StreamResponse(headers={"Content-Type": JSON, **UNCACHED})
            if warning := self._registry.deprecation(asked.target):
                response.headers.add(*warning_header(warning))
            response.enable_chunked_encoding()
            async with contextlib.aclosing(chunks):
                with contextlib.suppress(ConnectionError):
                    await response.prepare(request)
                    try:
                        async for chunk in chunks:
                            await response.write(chunk)
                    except (StatusError, StorageError) as error:
                        failure = self._failure(error)
                        outcome.code = failure.code
                        await response.write(error_line(content.refusal(failure)))
                    await response.write_eof()
            return response


def watch_of(target: Target, query: dict[str, str]) -> tuple[Target, dict[str, str]]:
    """What an old path of watches asks for, as it is asked for now."""
    query = {**query, "watch": "true"}
    if target.name:
        fields = [query["fieldSelector"]] if query.get("fieldSelector") else []
        query["fieldSelector"] = ",".join([*fields, f"metadata.name={target.name}"])
    return replace(target, name=""), query


def _is_resource(segments: list[str]) -> bool:
    return len(segments) > {"api": 2, "apis": 3}.get(segments[0] if segments else "", 1_000)


def _with_body(request: Request, body: bytes) -> Request:
    return Request(
        request.method,
        request.target,
        request.query,
        request.accept,
        request.content_type,
        request.user_agent,
        body,
    )


async def read_body(request: web.BaseRequest) -> bytes:
    """Raises RequestEntityTooLarge, BadRequest."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.content.iter_any():
            size += len(part)
            if size > MAX_BODY:
                raise request_entity_too_large(f"Request entity too large: limit is {MAX_BODY}")
            parts.append(part)
    except web.RequestPayloadError as error:
        raise bad_request(f"the body cannot be read: {error}") from error
    return b"".join(parts)


async def _sent_in_pieces(request: web.BaseRequest, answer: Answer, rest: Iterator[bytes]) -> web.StreamResponse:
    """A long list; an answer that has begun can only break off."""
    response = web.StreamResponse(status=answer.code, headers={"Content-Type": answer.media_type, **UNCACHED})
    for name, value in answer.headers:
        response.headers.add(name, value)
    response.enable_chunked_encoding()
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await response.write(answer.body)
        for piece in rest:
            await response.write(piece)
            # Writing waits only for a slow reader.
            await asyncio.sleep(0)
        await response.write_eof()
    return response


def _response(answer: Answer) -> web.Response:
    response = web.Response(body=answer.body, status=answer.code, headers={"Content-Type": answer.media_type})
    for name, value in answer.headers:
        response.headers.add(name, value)
    response.headers.update(UNCACHED)
    return response


def version() -> dict[str, str]:
    major, minor, git = KUBERNETES
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"{git}+tillerman.{VERSION}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }",
    }


# -- TLS and callers ---------------------------------------------------------------------------------------------------


def peer_identity(request: web.BaseRequest) -> UserInfo:
    """The caller, by the client certificate that the CA vouches for; ANONYMOUS without one."""
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not certificate:
        return ANONYMOUS
    name, groups = "", []
    for parts in certificate.get("subject", ()):
        for kind, value in parts:
            if kind == "commonName":
                name = value
            elif kind == "organizationName":
                groups.append(value)
    return UserInfo(name, (*groups, "system:authenticated"))


def bearer_token(request: web.BaseRequest) -> str:
    """The token of "Authorization: Bearer …"; empty without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def tls_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """A server's context that asks for a client certificate and takes callers without one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _quiet() -> logging.Logger:
    """aiohttp's log. The front answers for itself; what is left are callers that don't speak HTTP, many lines each."""
    log = logging.getLogger("apiserver.http")
    log.setLevel(logging.CRITICAL)
    return log


async def listen(front: HttpFront, bound: socket.socket, tls: ssl.SSLContext | None) -> Callable[[], Awaitable[None]]:
    """Serves on a bound socket; the returned function ends it, with the requests in progress."""
    server = web.Server(
        front.handle,
        handler_cancellation=True,
        keepalive_timeout=KEEPALIVE_SECONDS,
        access_log=None,
        # As Kubernetes: bodies are what they are, whatever Content-Encoding says.
        auto_decompress=False,
        logger=_quiet(),
    )
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    await web.SockSite(runner, bound, ssl_context=tls, backlog=1024).start()

    async def end() -> None:
        await runner.cleanup()
        await front.close()

    return end
