"""metrics.k8s.io/v1beta1: what nodes and pods use now, asked of the kubelets when somebody asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc

from services.apiserver.fronts.http.content import Answer, accepted, one
from services.apiserver.fronts.http.discovery import Listed
from services.apiserver.fronts.http.verbs import Request
from services.apiserver.fronts.pods import Kubelets
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.reading import ListOptions, Selection
from services.apiserver.registry.registry import Registry
from tillerman.api.status import StatusError, method_not_supported, no_such_path, not_found
from tillerman.pb.api import kubelet_pb2
from tillerman.pb.k8s import metrics_v1beta1_pb2

METRICS = "metrics.k8s.io/v1beta1"
GROUP = "metrics.k8s.io"
LISTED = (
    (METRICS, Listed("nodes", "", False, "NodeMetrics", ("get", "list"))),
    (METRICS, Listed("pods", "", True, "PodMetrics", ("get", "list"))),
)
TIMEOUT_SECONDS = 5.0


class Metrics:
    """A node whose kubelet doesn't answer is left out, as metrics-server does."""

    def __init__(self, registry: Registry, kubelets: Kubelets) -> None:
        self._registry = registry
        self._kubelets = kubelets

    async def answer(self, request: Request, user: User) -> Answer:
        """Raises StatusError."""
        target = request.target
        verb = "get" if target.name else "list"
        if target.resource not in ("nodes", "pods") or target.subresource:
            raise no_such_path()
        if request.method != "GET":
            raise method_not_supported(target.resource, request.method.lower(), GROUP)
        await self._registry.authorizer.authorize(Context(user), verb, target)
        found = await (self._nodes(request) if target.resource == "nodes" else self._pods(request))
        accept = accepted(request.accept)
        if target.name:
            if not found:
                raise not_found(f"{'node' if target.resource == 'nodes' else 'pod'}metrics", target.name, GROUP)
            return one(found[0], accept)
        whole: Any = (
            metrics_v1beta1_pb2.NodeMetricsList()
            if target.resource == "nodes"
            else metrics_v1beta1_pb2.PodMetricsList()
        )
        whole.metadata.SetInParent()
        whole.items.extend(found)
        return one(whole, accept)

    async def _selected(self, request: Request, resource: str) -> list[Any]:
        """The stored nodes or pods that the request is about."""
        target = request.target
        selection = Selection(target.namespace, target.name, request.query.get("labelSelector", ""), "")
        options = ListOptions(resource_version="0")
        page = await self._registry.reader.list(self._registry.catalog.get("v1", resource), selection, options)
        return [entry.message() for entry in page.entries]

    async def _nodes(self, request: Request) -> list[Any]:
        nodes = await self._selected(request, "nodes")
        stats = await self._stats(node.metadata.name for node in nodes)
        return [
            node_metrics(node, stats[node.metadata.name])
            for node in nodes
            if node.metadata.name in stats and stats[node.metadata.name].HasField("node_usage")
        ]

    async def _pods(self, request: Request) -> list[Any]:
        pods = [pod for pod in await self._selected(request, "pods") if pod.spec.nodeName]
        stats = await self._stats({pod.spec.nodeName for pod in pods})
        by_uid = {found.uid: (found, answer) for answer in stats.values() for found in answer.pods}
        return [pod_metrics(pod, *by_uid[pod.metadata.uid]) for pod in pods if pod.metadata.uid in by_uid]

    async def _stats(self, nodes: Iterable[str]) -> dict[str, kubelet_pb2.StatsResponse]:
        names = list(nodes)
        answers = await asyncio.gather(*(self._ask(name) for name in names))
        return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}

    async def _ask(self, node: str) -> kubelet_pb2.StatsResponse | None:
        try:
            channel = await self._kubelets.channel_to(node)
            call = channel.unary_unary("/tillerman.v1.Kubelet/Stats")
            raw = await call(kubelet_pb2.StatsRequest().SerializeToString(), timeout=TIMEOUT_SECONDS)
        except (grpc.aio.AioRpcError, StatusError):
            return None
        return kubelet_pb2.StatsResponse.FromString(raw)


def node_metrics(node: Any, stats: kubelet_pb2.StatsResponse) -> metrics_v1beta1_pb2.NodeMetrics:
    found = metrics_v1beta1_pb2.NodeMetrics()
    found.metadata.name = node.metadata.name
    found.metadata.creationTimestamp.CopyFrom(node.metadata.creationTimestamp)
    found.metadata.labels.update(node.metadata.labels)
    _measured(found, stats, stats.node_usage)
    _use(found.usage, stats.node_usage)
    return found


def pod_metrics(
    pod: Any, used: kubelet_pb2.StatsResponse.Pod, stats: kubelet_pb2.StatsResponse
) -> metrics_v1beta1_pb2.PodMetrics:
    found = metrics_v1beta1_pb2.PodMetrics()
    found.metadata.name, found.metadata.namespace = pod.metadata.name, pod.metadata.namespace
    found.metadata.creationTimestamp.CopyFrom(pod.metadata.creationTimestamp)
    found.metadata.labels.update(pod.metadata.labels)
    latest = max((c.usage for c in used.containers), key=lambda u: u.time.seconds, default=stats.node_usage)
    _measured(found, stats, latest)
    for container in used.containers:
        _use(found.containers.add(name=container.name).usage, container.usage)
    return found


def _measured(found: Any, stats: kubelet_pb2.StatsResponse, usage: kubelet_pb2.Usage) -> None:
    found.timestamp.seconds = usage.time.seconds
    found.window.duration = int(stats.window_seconds * 1e9)


def _use(into: Any, usage: kubelet_pb2.Usage) -> None:
    """CPU in nanocores, memory in Ki: as metrics-server writes them."""
    into["cpu"].string = f"{usage.cpu_nanocores}n"
    into["memory"].string = f"{usage.memory_bytes // 1024}Ki"
