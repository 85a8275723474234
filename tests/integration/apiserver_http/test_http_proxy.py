"""The proxy subresources, before an HTTP server that stands in for a pod and a kubelet that answers by script."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from real_apiserver import RunningApiserver
from real_kubectl import Kubectl

from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.api import kubelet_pb2, kubelet_pb2_grpc
from tillerman.pb.k8s import core_v1_pb2 as core

PAGE = '<a href="/x">x</a><a href="y">y</a>'


async def answer(request: web.Request) -> web.StreamResponse:
    match request.path:
        case "/page":
            return web.Response(text=PAGE, content_type="text/html")
        case "/away":
            return web.Response(status=302, headers={"Location": "/page"})
        case "/ws":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(message.data.upper())
            return socket
        case "/stream":
            response = web.StreamResponse()
            await response.prepare(request)
            for number in range(3):
                await response.write(b"part %d\n" % number)
            return response
    body = await request.read()
    told = {
        "method": request.method,
        "path": request.raw_path,
        "body": body.decode(),
        "secrets": [name for name in request.headers if name.lower() in ("authorization", "impersonate-user")],
        "forwarded": request.headers.get("X-Forwarded-Uri", ""),
        "own": request.headers.get("X-Own", ""),
    }
    return web.json_response(told, status=418 if request.path == "/teapot" else 200)


class Kubelet(kubelet_pb2_grpc.KubeletServicer):
    async def Page(self, request: kubelet_pb2.PageRequest, context: Any) -> kubelet_pb2.PageResponse:
        return kubelet_pb2.PageResponse(status=200, content_type="text/plain", body=f"page {request.path}".encode())


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where the pod listens."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def name(client: Client, port: int) -> AsyncIterator[str]:
    """Of a node, of a pod on it and of a Service before that."""
    server = grpc.aio.server()
    kubelet_pb2_grpc.add_KubeletServicer_to_server(Kubelet(), server)
    listens = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    name = f"p-{uuid.uuid4().hex[:8]}"
    node = core.Node()
    node.metadata.name = name
    node.status.addresses.add(type="InternalIP", address="127.0.0.1")
    node.status.daemonEndpoints.kubeletEndpoint.Port = listens
    await client.resource(core.Node).create(node)
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace, pod.spec.nodeName = name, "default", name
    pod.spec.containers.add(name="main", image="i").ports.add(containerPort=port)
    created = await client.resource(core.Pod).create(pod)
    created.status.podIP = "127.0.0.1"
    await client.resource(core.Pod).update_status(created)
    service = core.Service()
    service.metadata.name, service.metadata.namespace = name, "default"
    service.spec.ports.add(name="web", port=80)
    service.spec.ports.add(name="other", port=81)
    await client.resource(core.Service).create(service)
    endpoints = core.Endpoints()
    endpoints.metadata.name, endpoints.metadata.namespace = name, "default"
    subset = endpoints.subsets.add()
    subset.addresses.add(ip="127.0.0.1")
    subset.ports.add(name="web", port=port)
    await client.resource(core.Endpoints).create(endpoints)
    yield name
    for kind in (core.Service, core.Endpoints):
        with_name = client.resource(kind)
        try:
            await with_name.delete(name, "default")
        except StatusError as error:
            assert error.reason == "NotFound"
    await client.resource(core.Pod).delete(name, "default", grace_period_seconds=0)
    await client.resource(core.Node).delete(name)
    await server.stop(0)


@pytest.fixture
async def http(kubectl: Kubectl, apiserver: RunningApiserver) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=kubectl.tls())
    async with aiohttp.ClientSession(kubectl.url, connector=connector) as session:
        yield session


def proxied(name: str, kind: str = "pods", port: str = "") -> str:
    return f"/api/v1/namespaces/default/{kind}/{name}{port}/proxy"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_requests_reach_the_pod_as_they_are(http: aiohttp.ClientSession, name: str, method: str) -> None:
    path = f"{proxied(name)}/a%2Fb//c?x=1&y=%20"
    headers = {"X-Own": "yes", "Authorization": "Bearer x"}
    body = "" if method == "GET" else "hello"
    async with http.request(method, path, data=body or None, headers=headers) as response:
        told = await response.json()
    assert told == {
        "method": method,
        "path": "/a%2Fb//c?x=1&y=%20",
        "body": body,
        "secrets": [],
        "forwarded": path.partition("?")[0],
        "own": "yes",
    }


async def test_answers_come_back_as_they_are_but_for_links(http: aiohttp.ClientSession, name: str, port: int) -> None:
    base = proxied(name, port=f":{port}")
    async with http.get(f"{base}/teapot") as response:
        assert response.status == 418
    async with http.get(f"{base}/stream") as response:
        assert await response.text() == "part 0\npart 1\npart 2\n"
    async with http.get(f"{base}/page") as response:
        assert await response.text() == f'<a href="{base}/x">x</a><a href="y">y</a>'
    async with http.head(f"{base}/page") as response:
        assert (response.status, await response.read()) == (200, b"")
    async with http.get(f"{base}/away", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, f"{base}/page")
    async with http.get(f"{base}?q=1", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (301, f"{base}/?q=1")


async def test_upgraded_connections_pass_through(http: aiohttp.ClientSession, name: str) -> None:
    async with http.ws_connect(f"{proxied(name)}/ws") as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "HELLO"


async def test_a_service_leads_to_one_of_its_pods(http: aiohttp.ClientSession, name: str, port: int) -> None:
    for asked in (":web", ":80", "http:{}:web"):
        path = proxied(asked.format(name), "services") if "{}" in asked else proxied(name, "services", asked)
        async with http.get(f"{path}/x") as response:
            assert (response.status, (await response.json())["path"]) == (200, "/x")
    refusals = {
        ":81": (503, f'no endpoints available for service "{name}"'),
        ":82": (503, f'no service port 82 found for service "{name}"'),
        ":a:b:c": (400, f'invalid service request "{name}:a:b:c"'),
    }
    for asked, wanted in refusals.items():
        async with http.get(proxied(name, "services", asked) + "/") as response:
            assert (response.status, (await response.json())["message"]) == wanted


async def test_what_cannot_be_reached_is_told(http: aiohttp.ClientSession, name: str) -> None:
    async with http.get(proxied(name, port=":1") + "/") as response:
        told = await response.json()
        assert response.status == 503 and told["message"].startswith("error trying to reach service: ")
    async with http.get(proxied("missing") + "/") as response:
        assert (response.status, (await response.json())["reason"]) == (404, "NotFound")


async def test_a_node_answers_through_its_kubelet_or_at_a_port(
    http: aiohttp.ClientSession, name: str, port: int
) -> None:
    async with http.get(f"/api/v1/nodes/{name}/proxy/stats/summary?x=1") as response:
        assert await response.text() == "page /stats/summary"
    async with http.get(f"/api/v1/nodes/{name}:{port}/proxy/x") as response:
        assert (await response.json())["path"] == "/x"


async def test_kubectl_gets_through(kubectl: Kubectl, name: str) -> None:
    assert await kubectl("get", "--raw", proxied(name, "services", ":web") + "/stream") == "part 0\npart 1\npart 2\n"
    process = await kubectl.start("proxy", "--port=0")
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    address = line.rsplit(" ", 1)[-1].strip()
    try:
        async with aiohttp.ClientSession() as plain, plain.get(f"http://{address}{proxied(name)}/page") as response:
            assert f'href="{proxied(name)}/x"' in await response.text()
    finally:
        process.terminate()
        await process.communicate()
