"""The controllers endpointslice and endpoints: both follow Services and pods, each writes its own kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import Counter

from services.controller.endpoints.backends import address_types, backends, is_selected
from services.controller.endpoints.legacy import plan_endpoints
from services.controller.endpoints.slice_plan import LAST_CHANGE, MANAGED_BY, MANAGER, SERVICE_NAME, plan_slices
from services.controller.framework import Controller, ControllerContext, in_namespace, index_by_namespace
from services.controller.outcomes import namespace_terminating, unless_gone
from services.controller.overlay import Overlay
from tillerman.api.meta import key_of
from tillerman.api.status import StatusError, is_already_exists, is_not_found
from tillerman.api.times import from_seconds, rfc3339
from tillerman.client.batch import BatchOp
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery

ZONE = "topology.kubernetes.io/zone"
SERVICE_INDEX = "service"

CHANGES = Counter(
    "endpoint_slice_controller_changes", "Writes of EndpointSlices by operation.", ["operation"]
)  # fmt: skip


class ServiceFollower(Controller):
    """Queues a Service when it, or a pod it selects, changes in a way that its backends show."""

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._services = self.informer(core.Service)
        self._pods = self.informer(core.Pod)
        index_by_namespace(self._services)
        index_by_namespace(self._pods)
        self._services.add_handler(
            on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new), on_delete=self.enqueue
        )
        self._pods.add_handler(on_add=self._pod_changed, on_update=self._pod_updated, on_delete=self._pod_changed)

    def known_keys(self) -> list[str]:
        return [key_of(service) for service in self._services.list()]

    def _pod_changed(self, pod: core.Pod) -> None:
        self._queue_selecting(pod.metadata.namespace, pod.metadata.labels)

    def _pod_updated(self, old: core.Pod, new: core.Pod) -> None:
        relabelled = old.metadata.labels != new.metadata.labels
        if not relabelled and _visible(old) == _visible(new):
            return
        self._queue_selecting(new.metadata.namespace, new.metadata.labels)
        if relabelled:
            self._queue_selecting(old.metadata.namespace, old.metadata.labels)

    def _queue_selecting(self, namespace: str, labels: Any) -> None:
        for service in in_namespace(self._services, namespace):
            if is_selected(service) and all(labels.get(k) == v for k, v in service.spec.selector.items()):
                self.enqueue(service)

    def _selected_pods(self, service: core.Service) -> list[core.Pod]:
        selector = service.spec.selector.items()
        return [
            pod
            for pod in in_namespace(self._pods, service.metadata.namespace)
            if all(pod.metadata.labels.get(key) == value for key, value in selector)
        ]


def _visible(pod: core.Pod) -> tuple[Any, ...]:
    """What of a pod shows in endpoints."""
    ready = next((condition.status for condition in pod.status.conditions if condition.type == "Ready"), "")
    return (
        ready,
        pod.status.podIP,
        pod.status.phase,
        pod.spec.nodeName,
        pod.metadata.HasField("deletionTimestamp"),
    )


class EndpointSliceController(ServiceFollower):
    name = "endpointslice"
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder("endpoint-slice-controller")
        self._slices = self.informer(discovery.EndpointSlice)
        self._nodes = self.informer(core.Node)
        self._written: Overlay[discovery.EndpointSlice] = Overlay()
        self._slices.add_index(SERVICE_INDEX, _managed_service)
        self._slices.add_handler(
            on_add=self._slice_changed,
            on_update=lambda _, new: self._slice_changed(new),
            on_delete=self._slice_deleted,
        )

    def _slice_changed(self, endpoint_slice: discovery.EndpointSlice) -> None:
        self._written.seen(endpoint_slice)
        for key in _managed_service(endpoint_slice):
            self.queue.add(key)

    def _slice_deleted(self, endpoint_slice: discovery.EndpointSlice) -> None:
        self._written.forget(endpoint_slice)
        for key in _managed_service(endpoint_slice):
            self.queue.add(key)

    def _zone_of(self, node: str) -> str:
        known = self._nodes.get(node)
        return known.metadata.labels.get(ZONE, "") if known is not None else ""

    async def reconcile(self, key: str) -> float | None:
        service = self._services.get(key)
        if service is None or not is_selected(service) or service.metadata.HasField("deletionTimestamp"):
            # The slices of a deleted Service are collected through their owner reference.
            return None
        pods = self._selected_pods(service)
        existing = self._written.merge(
            self._slices.by_index(SERVICE_INDEX, key), extra=lambda s: key in _managed_service(s)
        )
        for address_type in address_types(service):
            desired = backends(service, pods, address_type, self._zone_of)
            present = [s for s in existing if s.addressType == address_type]
            await self._carry_out(service, plan_slices(service, desired, present, address_type))
        return None

    async def _carry_out(self, service: core.Service, plan: Any) -> None:
        if plan.empty:
            return
        stamp = rfc3339(from_seconds(self.clock.time()))
        for endpoint_slice in [*plan.create, *plan.update]:
            endpoint_slice.metadata.annotations[LAST_CHANGE] = stamp
        operations = [BatchOp.create(endpoint_slice) for endpoint_slice in plan.create]
        operations += [BatchOp.update(endpoint_slice) for endpoint_slice in plan.update]
        operations += [
            BatchOp.delete(discovery.EndpointSlice, s.metadata.name, s.metadata.namespace, uid=s.metadata.uid)
            for s in plan.delete
        ]
        verbs = ["create"] * len(plan.create) + ["update"] * len(plan.update) + ["delete"] * len(plan.delete)
        failure: StatusError | None = None
        for verb, outcome in zip(verbs, await self.client.batch(operations), strict=True):
            if isinstance(outcome, StatusError):
                if not (verb == "delete" and is_not_found(outcome)):
                    failure = failure or outcome
                continue
            CHANGES.labels(verb).inc()
            if isinstance(outcome, discovery.EndpointSlice) and verb != "delete":
                self._written.wrote(outcome)
        if failure is not None:
            if not namespace_terminating(failure):
                self._recorder.event(
                    service,
                    "Warning",
                    "FailedToUpdateEndpointSlices",
                    f"Error updating Endpoint Slices for Service {key_of(service)}: {failure.message}",
                )
            raise failure


def _managed_service(endpoint_slice: discovery.EndpointSlice) -> Iterable[str]:
    labels = endpoint_slice.metadata.labels
    if labels.get(MANAGED_BY) != MANAGER or SERVICE_NAME not in labels:
        return ()
    return (f"{endpoint_slice.metadata.namespace}/{labels[SERVICE_NAME]}",)


class EndpointsController(ServiceFollower):
    name = "endpoints"
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._endpoints = self.informer(core.Endpoints)
        self._endpoints.add_handler(on_delete=self.enqueue)

    async def reconcile(self, key: str) -> float | None:
        service = self._services.get(key)
        client = self.client.resource(core.Endpoints)
        existing = self._endpoints.get(key)
        if service is None:
            if existing is not None and existing.metadata.labels.get("endpoints.kubernetes.io/managed-by"):
                await unless_gone(client.delete(existing.metadata.name, existing.metadata.namespace))
            return None
        if not is_selected(service):
            return None
        wanted = plan_endpoints(service, self._selected_pods(service), existing, address_types(service)[0])
        if existing is not None and wanted == existing:
            return None
        wanted.metadata.annotations[LAST_CHANGE] = rfc3339(from_seconds(self.clock.time()))
        if existing is not None:
            await client.update(wanted)
            return None
        try:
            await client.create(wanted)
        except StatusError as error:
            if is_already_exists(error):
                return 0.1
            raise
        return None
