"""logs, exec and attach: kubectl, the front, and a kubelet that answers by script."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from real_apiserver import RunningApiserver
from real_kubectl import Kubectl

from services.apiserver.fronts.http.channel_wires import frame_of
from tillerman.pb.api import kubelet_pb2, kubelet_pb2_grpc, pods_pb2
from tillerman.pb.k8s import core_v1_pb2 as core


class ScriptedKubelet(kubelet_pb2_grpc.KubeletServicer):
    """exec: `cat` gives stdin back, all else ends with 7; ports answer in
    capitals. ``uid``: of the one pod that it has measured."""

    def __init__(self) -> None:
        self.uid = ""

    async def Logs(self, request: pods_pb2.LogsRequest, context: Any) -> AsyncIterator[pods_pb2.LogsChunk]:
        for number in range(3)[-request.tail_lines :] if request.HasField("tail_lines") else range(3):
            yield pods_pb2.LogsChunk(data=f"line {number} of {request.pod}\n".encode())

    async def Exec(
        self, requests: AsyncIterator[pods_pb2.ExecRequest], context: Any
    ) -> AsyncIterator[pods_pb2.ExecResponse]:
        start = (await anext(aiter(requests))).start
        if start.command[0] == "cat":
            async for request in requests:
                if request.close_stdin:
                    break
                yield pods_pb2.ExecResponse(stdout=request.stdin)
            yield pods_pb2.ExecResponse(exit_code=0)
        else:
            yield pods_pb2.ExecResponse(stdout=" ".join(start.command).encode())
            yield pods_pb2.ExecResponse(stderr=b"no good\n")
            yield pods_pb2.ExecResponse(exit_code=7)

    async def Attach(
        self, requests: AsyncIterator[pods_pb2.ExecRequest], context: Any
    ) -> AsyncIterator[pods_pb2.ExecResponse]:
        yield pods_pb2.ExecResponse(stdout=b"attached\n")
        yield pods_pb2.ExecResponse(exit_code=0)

    async def PortForward(
        self, requests: AsyncIterator[pods_pb2.PortForwardRequest], context: Any
    ) -> AsyncIterator[pods_pb2.PortForwardResponse]:
        async for request in requests:
            if request.start.port == 81:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "connection refused")
            if request.data:
                yield pods_pb2.PortForwardResponse(data=request.data.upper())

    async def Stats(self, request: kubelet_pb2.StatsRequest, context: Any) -> kubelet_pb2.StatsResponse:
        response = kubelet_pb2.StatsResponse(window_seconds=10)
        response.node_usage.cpu_nanocores = 250_000_000
        response.node_usage.memory_bytes = 512 << 20
        used = response.pods.add(uid=self.uid).containers.add(name="main").usage
        used.cpu_nanocores, used.memory_bytes = 100_000_000, 64 << 20
        return response


@pytest.fixture
async def pod(apiserver: RunningApiserver) -> AsyncIterator[str]:
    """The name of a running pod on a node with a scripted kubelet."""
    server, kubelet = grpc.aio.server(), ScriptedKubelet()
    kubelet_pb2_grpc.add_KubeletServicer_to_server(kubelet, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    name = f"s-{uuid.uuid4().hex[:8]}"
    node = core.Node()
    node.metadata.name = name
    node.status.addresses.add(type="InternalIP", address="127.0.0.1")
    node.status.daemonEndpoints.kubeletEndpoint.Port = port
    node.status.allocatable["cpu"].string = "1"
    node.status.allocatable["memory"].string = "1Gi"
    await apiserver.client.resource(core.Node).create(node)
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace = name, "default"
    pod.spec.nodeName = name
    pod.spec.containers.add(name="main", image="i")
    pods = apiserver.client.resource(core.Pod)
    created = await pods.create(pod)
    kubelet.uid = created.metadata.uid
    created.status.phase = "Running"
    status = created.status.containerStatuses.add(name="main", ready=True, image="i")
    status.state.running.SetInParent()
    await pods.update_status(created)
    try:
        yield name
    finally:
        await apiserver.client.resource(core.Node).delete(name)
        await pods.delete(name, "default", grace_period_seconds=0)
        await server.stop(0)


async def test_logs(kubectl: Kubectl, pod: str) -> None:
    assert await kubectl("logs", pod) == "".join(f"line {number} of {pod}\n" for number in range(3))
    assert await kubectl("logs", pod, "--tail=1", "-f") == f"line 2 of {pod}\n"


@pytest.fixture(params=["true", "false"], ids=["WebSocket", "SPDY"])
def streaming(kubectl: Kubectl, request: pytest.FixtureRequest) -> Kubectl:
    """kubectl as of today, and as before 1.30."""
    kubectl.environment["KUBECTL_REMOTE_COMMAND_WEBSOCKETS"] = request.param
    kubectl.environment["KUBECTL_PORT_FORWARD_WEBSOCKETS"] = request.param
    return kubectl


async def test_exec_tells_output_and_exit_code(streaming: Kubectl, pod: str) -> None:
    kubectl = streaming
    code, out, err = await kubectl.run("exec", pod, "--", "fail", "with", "seven")
    assert (code, out) == (7, "fail with seven")
    assert err.startswith("no good\n")


async def test_exec_carries_stdin_and_its_end(streaming: Kubectl, pod: str) -> None:
    kubectl = streaming
    text = "a line\n" * 20_000
    assert await kubectl("exec", "-i", pod, "--", "cat", stdin=text) == text


async def test_attach(streaming: Kubectl, pod: str) -> None:
    kubectl = streaming
    assert "attached\n" in await kubectl("attach", pod)


@pytest.mark.parametrize(
    ("protocol", "status"),
    [
        ("v5.channel.k8s.io", b'"ExitCode","message":"7"'),
        ("v4.base64.channel.k8s.io", b'"ExitCode","message":"7"'),
        ("base64.channel.k8s.io", b"command terminated with non-zero exit code: exit status 7"),
        ("", b"command terminated with non-zero exit code: exit status 7"),
    ],
)
async def test_exec_in_every_protocol(kubectl: Kubectl, pod: str, protocol: str, status: bytes) -> None:
    path = f"/api/v1/namespaces/default/pods/{pod}/exec?command=fail&stdout=true&stderr=true"
    found: dict[int, bytes] = {}
    protocols = (protocol,) if protocol else ()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(kubectl.url + path, ssl=kubectl.tls(), protocols=protocols) as socket,
    ):
        assert (socket.protocol or "") == protocol
        async for message in socket:
            frame = frame_of(message, base64_text="base64" in protocol)
            found[frame[0]] = found.get(frame[0], b"") + frame[1:]
    assert (found[1], found[2]) == (b"fail", b"no good\n")
    assert status in found[3]


async def test_port_forward_over_channels(kubectl: Kubectl, pod: str) -> None:
    path = f"/api/v1/namespaces/default/pods/{pod}/portforward?ports=80&ports=81"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(kubectl.url + path, ssl=kubectl.tls(), protocols=("v4.channel.k8s.io",)) as socket,
    ):
        await socket.send_bytes(b"\0hello")
        seen: dict[int, bytes] = {}
        async with asyncio.timeout(20):
            while seen.get(0) != b"\x50\0HELLO" or b"refused" not in seen.get(3, b""):
                frame = await socket.receive_bytes()
                seen[frame[0]] = seen.get(frame[0], b"") + frame[1:]
    assert seen[2] == b"\x51\0" and seen[1] == b"\x50\0"


async def test_exec_in_no_pod(streaming: Kubectl) -> None:
    kubectl = streaming
    code, _, err = await kubectl.run("exec", "nobody", "--", "true")
    assert code == 1
    assert 'pods "nobody" not found' in err


async def test_top(kubectl: Kubectl, pod: str) -> None:
    line = (await kubectl("top", "node", pod, "--no-headers")).split()
    assert line == [pod, "250m", "25%", "512Mi", "50%"]
    cells = (await kubectl("top", "pod", pod, "--containers", "--no-headers")).split()
    assert cells == [pod, "main", "100m", "64Mi"]


async def test_port_forward(streaming: Kubectl, pod: str) -> None:
    kubectl = streaming
    forward = await kubectl.start("port-forward", "--address=127.0.0.1", f"pod/{pod}", ":80", ":81")
    assert forward.stdout is not None
    try:
        async with asyncio.timeout(20):
            ports = [int((await forward.stdout.readline()).split()[2].rpartition(b":")[2]) for _ in range(2)]
            refused, writer = await asyncio.open_connection("127.0.0.1", ports[1])
            assert await refused.read() == b""
            writer.close()
            answers = await asyncio.gather(*(shout(ports[0], f"hello {number} " * 20_000) for number in range(5)))
            assert answers == [f"HELLO {number} " * 20_000 for number in range(5)]
    finally:
        forward.terminate()
        await forward.communicate()


async def shout(port: int, text: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text.encode())
        return (await reader.readexactly(len(text))).decode()
    finally:
        writer.close()
        await writer.wait_closed()
