"""What pods use, asked from their kubelets: one Stats call per node, shared by everyone who asks at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from prometheus_client import Counter

from services.controller.autoscaling.replicas import Sample
from services.controller.framework import Log
from services.controller.options import ControllerManagerOptions
from tillerman.client.channel import ClientConfig, open_channel
from tillerman.client.clock import Clock
from tillerman.client.informer import Informer
from tillerman.pb.api import kubelet_pb2, kubelet_pb2_grpc
from tillerman.pb.k8s import core_v1_pb2 as core

# Seconds for which an answer is good for another autoscaler, and that a kubelet may take.
FRESH = 2.0
TIMEOUT = 5.0

FAILURES = Counter("horizontal_pod_autoscaler_controller_stats_failures", "Stats calls that failed.", ["node"])


@dataclass
class _Answer:
    at: float
    stats: asyncio.Future[kubelet_pb2.StatsResponse | None]


class KubeletStats:
    """Holds one channel per kubelet address until `close`."""

    def __init__(
        self, *, nodes: Informer[core.Node], options: ControllerManagerOptions, clock: Clock, log: Log
    ) -> None:
        self._nodes = nodes
        self._options = options
        self._clock = clock
        self._log = log
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._answers: dict[str, _Answer] = {}

    async def usage(self, pods: Iterable[core.Pod], resource: str, container: str = "") -> dict[str, Sample]:
        """Samples by pod name, for the pods whose kubelet reports them. All pods are of one namespace."""
        wanted = {pod.metadata.uid: pod for pod in pods if pod.spec.nodeName}
        names = sorted({pod.spec.nodeName for pod in wanted.values()})
        answers = await asyncio.gather(*(self._stats(name) for name in names))
        samples: dict[str, Sample] = {}
        for answer in answers:
            for reported in answer.pods if answer is not None else ():
                pod = wanted.get(reported.uid)
                if pod is not None and answer is not None:
                    sample = sample_of(reported, resource, container, answer.window_seconds, self._clock.time())
                    if sample is not None:
                        samples[pod.metadata.name] = sample
        return samples

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)
        self._channels.clear()

    async def _stats(self, node_name: str) -> kubelet_pb2.StatsResponse | None:
        known = self._answers.get(node_name)
        now = self._clock.monotonic()
        if known is None or now - known.at > FRESH:
            known = self._answers[node_name] = _Answer(now, asyncio.ensure_future(self._ask(node_name)))
        return await asyncio.shield(known.stats)

    async def _ask(self, node_name: str) -> kubelet_pb2.StatsResponse | None:
        node = self._nodes.get(node_name)
        address = kubelet_address(node) if node is not None else ""
        if not address:
            return None
        try:
            stub = kubelet_pb2_grpc.KubeletStub(self._channel(address))
            response: kubelet_pb2.StatsResponse = await stub.Stats(kubelet_pb2.StatsRequest(), timeout=TIMEOUT)
            return response
        except (grpc.aio.AioRpcError, OSError) as error:
            FAILURES.labels(node_name).inc()
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            self._log.warning("no stats from kubelet", node=node_name, address=address, error=reason)
            return None

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            options = self._options
            config = ClientConfig(
                servers=[address],
                insecure=options.insecure,
                ca=_path(options.kubelet_certificate_authority) or options.client_ca_file,
                cert=_path(options.kubelet_client_certificate) or options.tls_cert_file,
                key=_path(options.kubelet_client_key) or options.tls_key_file,
            )
            channel = self._channels[address] = open_channel(config)
        return channel


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def kubelet_address(node: core.Node) -> str:
    """ "host:port" of the node's kubelet; "" while it is not known."""
    port = node.status.daemonEndpoints.kubeletEndpoint.Port
    addresses = {address.type: address.address for address in reversed(node.status.addresses)}
    host = addresses.get("InternalIP") or addresses.get("Hostname", "")
    if not host or not port:
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def sample_of(
    pod: kubelet_pb2.StatsResponse.Pod, resource: str, container: str, window: float, now: float
) -> Sample | None:
    """The pod's (or one container's) usage in milli-units; None when it is not reported."""
    total, time = 0, 0.0
    for one in pod.containers:
        if container and one.name != container:
            continue
        if resource == "cpu":
            total += -(-one.usage.cpu_nanocores // 1_000_000)
        elif resource == "memory":
            total += one.usage.memory_bytes * 1000
        else:
            return None
        taken = one.usage.time.seconds + one.usage.time.nanos / 1e9
        time = max(time, taken)
    if not any(not container or one.name == container for one in pod.containers):
        return None
    return Sample(total, time or now, window)
