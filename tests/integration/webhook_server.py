"""A real HTTPS webhook in the test's own loop: TLS by a CA of its own, answers by a function of the request."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from tillerman.service import pki

Answer = Callable[[dict[str, Any]], Awaitable[Any]]


def allowed(**more: Any) -> dict[str, Any]:
    return {"allowed": True, **more}


def denied(message: str = "", **status: Any) -> dict[str, Any]:
    return {"allowed": False, "status": {"message": message, **status}}


def patched(*operations: dict[str, Any]) -> dict[str, Any]:
    patch = base64.b64encode(orjson.dumps(list(operations))).decode()
    return {"allowed": True, "patch": patch, "patchType": "JSONPatch"}


def added(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


class WebhookServer:
    """``requests``: what it was asked, in order. ``answers`` by URL path: dict (the response), bytes or int (raw)."""

    def __init__(self, port: int, ca_bundle: bytes) -> None:
        self.port = port
        self.ca_bundle = ca_bundle
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.answers: dict[str, Any] = {}
        self.connections = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        review = orjson.loads(await request.read())
        self.requests.append(review["request"])
        self.paths.append(request.path)
        answer = self.answers[request.path]
        if callable(answer):
            answer = answer(review["request"])
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = allowed()
        if isinstance(answer, int):
            return web.Response(status=answer, text="no luck")
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        response = {"uid": review["request"]["uid"], **answer}
        body = {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}
        return web.Response(body=orjson.dumps(body), content_type="application/json")


@contextlib.asynccontextmanager
async def webhook_server(folder: Path, names: tuple[str, ...] = ("127.0.0.1",)) -> AsyncIterator[WebhookServer]:
    folder.mkdir(parents=True, exist_ok=True)
    ca = pki.make_ca("webhooks")
    ca_file, _ = ca.write(folder)
    certificate, key = pki.issue(ca, "webhook", (), list(names)).write(folder, "webhook")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    bound = socket.create_server(("127.0.0.1", 0))
    found = WebhookServer(bound.getsockname()[1], ca_file.read_bytes())
    runner = web.ServerRunner(web.Server(found.handle, access_log=None), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, bound, ssl_context=tls).start()
    try:
        yield found
    finally:
        await runner.cleanup()
