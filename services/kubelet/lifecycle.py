"""postStart and preStop hooks."""

import asyncio

from services.kubelet.probe_actions import http_request, port_number, run_exec
from services.kubelet.runtime.interface import Runtime, RuntimeFailure
from tillerman.pb.k8s import core_v1_pb2 as core


class HookFailed(Exception):
    """The hook did not succeed; the text is for the event."""


async def run_hook(
    handler: core.LifecycleHandler, *, runtime: Runtime, container: core.Container, container_id: str, pod_ip: str
) -> None:
    """Runs to its end; the caller limits the time. Raises HookFailed."""
    try:
        if handler.HasField("exec"):
            command = list(handler.exec.command)
            code, output = await run_exec(runtime, container_id, command)
            if code != 0:
                raise HookFailed(f"Exec lifecycle hook ({command}) failed: command exited with {code}: {output!r}")
        elif handler.HasField("httpGet"):
            status, _ = await http_request(handler.httpGet, container, pod_ip)
            if status >= 400:
                raise HookFailed(f"Http lifecycle hook failed: the server answered {status}")
        elif handler.HasField("tcpSocket"):
            port = port_number(handler.tcpSocket.port, container)
            _, writer = await asyncio.open_connection(handler.tcpSocket.host or pod_ip, port)
            writer.close()
        elif handler.HasField("sleep"):
            await asyncio.sleep(handler.sleep.seconds)
    except (OSError, RuntimeFailure, LookupError) as error:
        raise HookFailed(f"lifecycle hook failed: {error}") from error
