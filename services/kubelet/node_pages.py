"""What other kubelets answer over HTTP and this one tells through its service: the pods and the stats of the node."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from services.kubelet.pod_manager import PodManager
from services.kubelet.stats import ContainerUsage, StatsCollector
from tillerman.api.codec import to_dict

Answer = tuple[int, str, bytes]
JSON = "application/json"


class NodePages:
    """``others`` answers every path that is not among these."""

    def __init__(
        self, manager: PodManager, stats: StatsCollector, *, node: str, others: Callable[[str], Answer]
    ) -> None:
        self._manager = manager
        self._stats = stats
        self._node = node
        self._others = others

    async def answer(self, path: str) -> Answer:
        match path.rstrip("/"):
            case "/pods":
                return 200, JSON, orjson.dumps(self._pods())
            case "/stats/summary":
                return 200, JSON, orjson.dumps(await self._summary())
        return self._others(path)

    def _pods(self) -> dict[str, Any]:
        items = [to_dict(worker.pod) for worker in self._manager.workers.values()]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}

    async def _summary(self) -> dict[str, Any]:
        """stats/v1alpha1's Summary, as far as it is known."""
        node, pods = await self._stats.current()
        listed = [
            {
                "podRef": {"name": pod.metadata.name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid},
                "containers": [{"name": usage.name, **_usage(usage)} for usage in usages],
            }
            for pod, usages in pods
        ]
        return {"node": {"nodeName": self._node, **({} if node is None else _usage(node))}, "pods": listed}


def _usage(usage: ContainerUsage) -> dict[str, Any]:
    time = datetime.fromtimestamp(int(usage.usage.time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "cpu": {
            "time": time,
            "usageNanoCores": usage.cpu_nanocores,
            "usageCoreNanoSeconds": usage.usage.cpu_total,
        },
        "memory": {"time": time, "workingSetBytes": usage.usage.memory},
    }
