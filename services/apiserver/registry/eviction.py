"""pods/eviction: a delete that PodDisruptionBudgets may hold off."""

from __future__ import annotations

import time
from typing import Any

from google.protobuf.message import Message

from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.context import Context
from services.apiserver.registry.deletion import Deleter
from services.apiserver.registry.identity import other_namespace
from services.apiserver.registry.reading import Reader
from services.apiserver.registry.registry import BaseSubresource, Target
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.writing import Writer
from tillerman.api import selectors, times
from tillerman.api.pods import is_ready
from tillerman.api.status import Cause, StatusError, bad_request, make, too_many_requests
from tillerman.pb.k8s import meta_v1_pb2

MAX_DISRUPTED = 2000
SEVERAL_BUDGETS = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."


class Eviction(BaseSubresource):
    """Answers a Status. Raises TooManyRequests while a budget does not allow the eviction."""

    def __init__(self, *, catalog: Catalog, reader: Reader, writer: Writer, deleter: Deleter) -> None:
        self._catalog = catalog
        self._reader = reader
        self._writer = writer
        self._deleter = deleter

    async def create(self, resource: Resource, target: Target, body: Any, context: Context) -> Message:
        if body.metadata.name != target.name:
            raise bad_request("name in URL does not match name in Eviction object")
        if body.metadata.namespace not in ("", target.namespace):
            raise other_namespace()
        options = meta_v1_pb2.DeleteOptions()
        options.CopyFrom(body.deleteOptions)
        pod = (await self._reader.get(resource, target.namespace, target.name)).message()
        if needs_budget(pod):
            budgets = self._budgets(target.namespace, pod)
            if len(budgets) > 1:
                raise make(500, "", SEVERAL_BUDGETS, details=False)
            if budgets and not (budgets[0].spec.unhealthyPodEvictionPolicy == "AlwaysAllow" and not is_ready(pod)):
                await self._charge(budgets[0], target, context, bool(options.dryRun))
        await self._deleter.delete(resource, target.namespace, target.name, options, context)
        status = meta_v1_pb2.Status(status="Success", code=201)
        status.metadata.SetInParent()
        return status

    def _budgets(self, namespace: str, pod: Any) -> list[Any]:
        resource = self._catalog.get("policy/v1", "poddisruptionbudgets")
        labels = dict(pod.metadata.labels)
        found = []
        for entry in resource.cache.select(resource.range_prefix(namespace)):
            budget = entry.message()
            if budget.spec.HasField("selector") and selectors.from_message(budget.spec.selector).matches(labels):
                found.append(budget)
        return found

    async def _charge(self, budget: Any, target: Target, context: Context, dry_run: bool) -> None:
        resource = self._catalog.get("policy/v1", "poddisruptionbudgets")
        name = budget.metadata.name

        async def charge(current: Any) -> Any:
            check_budget(current)
            current.status.disruptionsAllowed -= 1
            current.status.disruptedPods[target.name].CopyFrom(times.from_seconds(int(time.time())))
            return current

        changed = Context(context.user, dry_run=context.dry_run or dry_run)
        await self._writer.modify(resource, target.namespace, name, charge, changed, "status")


def needs_budget(pod: Any) -> bool:
    """Pods that do not run, or are going anyway, may be evicted at any time."""
    return not (
        pod.status.phase in ("Succeeded", "Failed", "Pending", "") or pod.metadata.HasField("deletionTimestamp")
    )


def check_budget(budget: Any) -> None:
    """Raises TooManyRequests or Forbidden."""
    status, name = budget.status, budget.metadata.name
    if status.observedGeneration < budget.metadata.generation:
        raise refusal(name, "is still being processed by the server.", retry=10)
    if status.disruptionsAllowed < 0:
        raise make(
            403, "Forbidden", f'poddisruptionbudgets.policy "{name}" is forbidden: pdb disruptions allowed is negative'
        )
    if len(status.disruptedPods) > MAX_DISRUPTED:
        detail = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise make(403, "Forbidden", f'poddisruptionbudgets.policy "{name}" is forbidden: {detail}')
    if status.disruptionsAllowed == 0:
        raise refusal(name, f"needs {status.desiredHealthy} healthy pods and has {status.currentHealthy} currently")


def refusal(name: str, why: str, retry: int = 0) -> StatusError:
    cause = Cause("", "DisruptionBudget", f"The disruption budget {name} {why}")
    return too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", retry, causes=[cause])
