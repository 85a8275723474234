"""One probe of one kind: what it does and what counts as success. No state; the prober calls it."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from services.kubelet.runtime.interface import Runtime, RuntimeFailure
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import intstr_pb2 as intstr

_BODY_LIMIT = 10 * 1024


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    ok: bool
    message: str = ""


async def run_probe(
    handler: core.ProbeHandler,
    *,
    runtime: Runtime,
    container: core.Container,
    container_id: str,
    pod_ip: str,
    timeout: float,
) -> ProbeOutcome:
    """Never raises but for cancellation; a timeout is a failure."""
    try:
        async with asyncio.timeout(timeout):
            if handler.HasField("exec"):
                return await _exec(runtime, container_id, list(handler.exec.command))
            if handler.HasField("httpGet"):
                return await _http(handler.httpGet, container, pod_ip)
            if handler.HasField("tcpSocket"):
                host = handler.tcpSocket.host or pod_ip
                return await _tcp(host, port_number(handler.tcpSocket.port, container))
            if handler.HasField("grpc"):
                return await _grpc(handler.grpc, pod_ip, timeout)
    except TimeoutError:
        return ProbeOutcome(False, _timeout_message(handler, container, pod_ip, timeout))
    except (OSError, RuntimeFailure, LookupError, ValueError, asyncio.IncompleteReadError) as error:
        return ProbeOutcome(False, str(error))
    return ProbeOutcome(True)


def port_number(port: intstr.IntOrString, container: core.Container) -> int:
    """A number, or the container's port of that name. Raises LookupError."""
    if port.type == 0:
        return port.intVal
    if port.strVal.isdigit():
        return int(port.strVal)
    for candidate in container.ports:
        if candidate.name == port.strVal:
            return candidate.containerPort
    raise LookupError(f'container {container.name} has no port named "{port.strVal}"')


async def run_exec(runtime: Runtime, container_id: str, command: list[str]) -> tuple[int, str]:
    """(exit code, output). Raises RuntimeFailure."""
    session = await runtime.exec(container_id, command, stdin=False, tty=False)
    try:
        output = bytearray()
        async for part in session.output():
            if len(output) < _BODY_LIMIT:
                output += part.data
        return await session.exit_code(), output[:_BODY_LIMIT].decode(errors="replace")
    finally:
        await session.close()


async def http_request(action: core.HTTPGetAction, container: core.Container, pod_ip: str) -> tuple[int, str]:
    """(status, body). Raises OSError and LookupError."""
    host = action.host or pod_ip
    port = port_number(action.port, container)
    secure = (action.scheme or "HTTP").upper() == "HTTPS"
    context: ssl.SSLContext | None = None
    if secure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        headers: dict[str, str] = {
            "Host": f"{host}:{port}",
            "User-Agent": "kube-probe/1.32",
            "Accept": "*/*",
            "Connection": "close",
        }
        headers.update({h.name.title(): h.value for h in action.httpHeaders})
        path = action.path if action.path.startswith("/") else "/" + action.path
        head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        await writer.drain()
        line = (await reader.readline()).decode("latin-1").split(" ", 2)
        if len(line) < 2 or not line[1].strip().isdigit():
            raise OSError(f"malformed HTTP response from {host}:{port}")
        body = await reader.read(_BODY_LIMIT)
        return int(line[1]), body.partition(b"\r\n\r\n")[2].decode(errors="replace")
    finally:
        writer.close()


async def _exec(runtime: Runtime, container_id: str, command: list[str]) -> ProbeOutcome:
    code, output = await run_exec(runtime, container_id, command)
    return ProbeOutcome(code == 0, output.strip() or f"command exited with code {code}")


async def _http(action: core.HTTPGetAction, container: core.Container, pod_ip: str) -> ProbeOutcome:
    try:
        status, _ = await http_request(action, container, pod_ip)
    except OSError as error:
        return ProbeOutcome(False, f'Get "{_url(action, container, pod_ip)}": {_words(error)}')
    if 200 <= status < 400:
        return ProbeOutcome(True)
    return ProbeOutcome(False, f"HTTP probe failed with statuscode: {status}")


async def _tcp(host: str, port: int) -> ProbeOutcome:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return ProbeOutcome(False, f"dial tcp {host}:{port}: {_words(error)}")
    writer.close()
    return ProbeOutcome(True)


async def _grpc(action: core.GRPCAction, pod_ip: str, timeout: float) -> ProbeOutcome:
    address = f"{pod_ip}:{action.port}"
    async with grpc.aio.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=action.service), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return ProbeOutcome(False, f"error: this server does not implement the grpc health protocol: {address}")
            return ProbeOutcome(False, f"service unhealthy ({error.code().name}: {error.details()})")
        except DecodeError as error:
            return ProbeOutcome(False, str(error))
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return ProbeOutcome(name == "SERVING", f"service unhealthy (responded with {name})")


def _timeout_message(handler: core.ProbeHandler, container: core.Container, pod_ip: str, timeout: float) -> str:
    if handler.HasField("httpGet"):
        url = _url(handler.httpGet, container, pod_ip)
        return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    return f"command timed out after {timeout:g}s" if handler.HasField("exec") else "dial tcp: i/o timeout"


def _url(action: core.HTTPGetAction, container: core.Container, pod_ip: str) -> str:
    scheme = (action.scheme or "HTTP").lower()
    try:
        port = port_number(action.port, container)
    except LookupError:
        port = 0
    return f"{scheme}://{action.host or pod_ip}:{port}/{action.path.lstrip('/')}"


def _words(error: OSError) -> str:
    known: Mapping[type[OSError], str] = {
        ConnectionRefusedError: "connect: connection refused",
        ConnectionResetError: "read: connection reset by peer",
    }
    return known.get(type(error), str(error) or type(error).__name__)
