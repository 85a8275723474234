"""Calls to webhooks over HTTPS, for admission and for conversion: one client per API server, its connections kept.

A webhook that is a Service is spoken to under the name `<service>.<namespace>.svc`, which its certificate must bear,
at an address that the given resolver finds. Runs on the caller's event loop; aiohttp is imported with the first call.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

MAX_ANSWER = 8 * 1024 * 1024
MAX_CONNECTIONS = 256
MAX_CONTEXTS = 256
KEEPALIVE_SECONDS = 60.0
SERVICE_ZONE = ".svc"

# (namespace, name, port) of a Service -> (IP address or, for an ExternalName, host name, port). Raises WebhookError.
Resolve = Callable[[str, str, int], Awaitable[tuple[str, int]]]


class WebhookError(Exception):
    """A webhook could not be asked, or its answer is none. The text says why, in the words Kubernetes would use."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a webhook is: an https URL, and the PEM certificates that vouch for it (empty: the system's)."""

    url: str
    ca_bundle: bytes = b""


def endpoint_of(config: Any) -> Endpoint:
    """The endpoint that a WebhookClientConfig (of admission or of a conversion) means."""
    if config.HasField("service"):
        service = config.service
        port = service.port if service.HasField("port") else 443
        path = "/" + service.path.lstrip("/")
        return Endpoint(f"https://{service.name}.{service.namespace}{SERVICE_ZONE}:{port}{path}", config.caBundle)
    return Endpoint(config.url, config.caBundle)


class WebhookClient:
    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._session: Any = None
        self._contexts: OrderedDict[bytes, ssl.SSLContext] = OrderedDict()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, endpoint: Endpoint, body: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        """The JSON object that the webhook answers. ``timeout``: seconds for all of it. Raises WebhookError."""
        import aiohttp

        url = f"{endpoint.url}{'&' if '?' in endpoint.url else '?'}timeout={timeout:g}s"
        try:
            async with asyncio.timeout(timeout):
                try:
                    code, answer = await self._post(url, endpoint, orjson.dumps(body))
                except aiohttp.ServerDisconnectedError:
                    # A kept connection whose other end is gone: once more, on a new one.
                    code, answer = await self._post(url, endpoint, orjson.dumps(body))
        except TimeoutError:
            raise WebhookError(f'Post "{url}": context deadline exceeded') from None
        except (aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as error:
            raise WebhookError(f'Post "{url}": {_reason(error)}') from error
        return _decoded(code, answer)

    async def _post(self, url: str, endpoint: Endpoint, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        context = self._context(endpoint.ca_bundle)
        async with self._opened().post(url, data=body, headers=headers, ssl=context, allow_redirects=False) as response:
            parts: list[bytes] = []
            size = 0
            async for part in response.content.iter_any():
                size += len(part)
                if size > MAX_ANSWER:
                    raise WebhookError(f"the webhook's answer is longer than {MAX_ANSWER} bytes")
                parts.append(part)
            return response.status, b"".join(parts)

    def _opened(self) -> Any:
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS,
                keepalive_timeout=KEEPALIVE_SECONDS,
                resolver=_resolver(self._resolve),
                use_dns_cache=False,
            )
            # No limits of its own: each call brings its timeout.
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"User-Agent": "kube-apiserver-admission"},
                trust_env=False,
            )
        return self._session

    def _context(self, ca_bundle: bytes) -> ssl.SSLContext:
        """Kept by bundle: connections are shared among calls with the same one. Raises WebhookError."""
        found = self._contexts.get(ca_bundle)
        if found is not None:
            self._contexts.move_to_end(ca_bundle)
            return found
        try:
            context = ssl.create_default_context(cadata=ca_bundle.decode("ascii") if ca_bundle else None)
        except (ssl.SSLError, ValueError) as error:
            raise WebhookError(f"unable to load root certificates: {error}") from error
        self._contexts[ca_bundle] = context
        if len(self._contexts) > MAX_CONTEXTS:
            self._contexts.popitem(last=False)
        return context


def _resolver(resolve: Resolve) -> Any:
    from aiohttp.abc import AbstractResolver
    from aiohttp.resolver import ThreadedResolver

    class ServiceResolver(AbstractResolver):
        """Names of Services through the given function, all others through the system."""

        def __init__(self) -> None:
            self._system = ThreadedResolver()

        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
            name, _, namespace = host.removesuffix(SERVICE_ZONE).partition(".")
            if not host.endswith(SERVICE_ZONE) or "." in namespace or not namespace:
                return await self._system.resolve(host, port, family)  # type: ignore[no-any-return, unused-ignore]
            address, found_port = await resolve(namespace, name, port)
            if not is_address(address):
                return await self._system.resolve(address, found_port, family)  # type: ignore[no-any-return, unused-ignore]
            return [
                {
                    "hostname": host,
                    "host": address,
                    "port": found_port,
                    "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                    "proto": 0,
                    "flags": socket.AI_NUMERICHOST,
                }
            ]

        async def close(self) -> None:
            await self._system.close()

    return ServiceResolver()


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _decoded(code: int, answer: bytes) -> dict[str, Any]:
    if not 200 <= code < 300:
        text = answer[:2048].decode(errors="replace").strip()
        if code == 404:
            raise WebhookError("the server could not find the requested resource")
        if code >= 500:
            raise WebhookError(f'an error on the server ("{text}") has prevented the request from being successful')
        raise WebhookError(f"the server rejected our request for an unknown reason: {code} {text}".rstrip())
    try:
        content = orjson.loads(answer)
    except ValueError as error:
        raise WebhookError(f"couldn't get version/kind; json parse error: {error}") from error
    if not isinstance(content, dict):
        raise WebhookError("couldn't get version/kind; json parse error: the answer is no JSON object")
    return content


def _reason(error: BaseException) -> str:
    """What went wrong underneath."""
    certificate = getattr(error, "certificate_error", None)
    cause = certificate or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {cause.verify_message}"
    if isinstance(cause, ConnectionRefusedError):
        return "connect: connection refused"
    return str(cause) or type(cause).__name__
