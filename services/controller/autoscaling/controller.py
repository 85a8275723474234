"""The HorizontalPodAutoscaler controller: every sync period, asks, computes, rescales, and says what it did and why."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from services.controller.autoscaling.behavior import Decision, History, Rules, decide, down_rules, up_rules
from services.controller.autoscaling.metrics import Judged, judge, wanted_of
from services.controller.autoscaling.replicas import Caution, MetricsError
from services.controller.autoscaling.stats import KubeletStats
from services.controller.framework import Controller, ControllerContext, in_namespace, index_by_namespace
from tillerman.api.meta import get_condition, key_of
from tillerman.api.selectors import parse_label_selector
from tillerman.api.status import StatusError
from tillerman.api.times import from_seconds
from tillerman.client.resource import ResourceClient
from tillerman.pb.k8s import autoscaling_v1_pb2 as autoscaling_v1
from tillerman.pb.k8s import autoscaling_v2_pb2 as autoscaling
from tillerman.pb.k8s import core_v1_pb2 as core

RECONCILES = Counter(
    "horizontal_pod_autoscaler_controller_reconciliations", "Decisions by action and error.", ["action", "error"]
)
DURATION = Histogram("horizontal_pod_autoscaler_controller_reconciliation_duration_seconds", "Seconds per decision.")
COMPUTATIONS = Counter(
    "horizontal_pod_autoscaler_controller_metric_computation", "Metrics judged, by type and error.", ["type", "error"]
)
DESIRED = Gauge(
    "horizontal_pod_autoscaler_controller_desired_replicas", "Replicas last asked for.", ["namespace", "name"]
)
OBJECTS = Gauge("horizontal_pod_autoscaler_controller_num_horizontal_pod_autoscalers", "Autoscalers followed.")


class Target(NamedTuple):
    """A workload and its scale subresource."""

    client: ResourceClient[dict[str, Any]]
    scale: autoscaling_v1.Scale
    label: str


class HorizontalPodAutoscalerController(Controller):
    name = "horizontalpodautoscaling"
    workers: ClassVar[int] = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        options = self.options
        self._recorder = context.recorder("horizontal-pod-autoscaler")
        self._autoscalers = self.informer(autoscaling.HorizontalPodAutoscaler)
        self._pods = self.informer(core.Pod)
        index_by_namespace(self._pods)
        nodes = self.informer(core.Node)
        self._stats = KubeletStats(nodes=nodes, options=options, clock=context.clock, log=context.log)
        self._histories: dict[str, History] = {}
        self._caution = Caution(
            options.horizontal_pod_autoscaler_cpu_initialization_period,
            options.horizontal_pod_autoscaler_initial_readiness_delay,
        )
        self._autoscalers.add_handler(on_add=self.enqueue, on_update=self._updated, on_delete=self._deleted)
        OBJECTS.set_function(lambda: len(self._autoscalers))

    def known_keys(self) -> list[str]:
        return [key_of(autoscaler) for autoscaler in self._autoscalers.list()]

    def background(self) -> list[Callable[[], Awaitable[None]]]:
        return [self._close_at_end]

    async def _close_at_end(self) -> None:
        try:
            while True:
                await self.clock.sleep(3600.0)
        finally:
            await self._stats.close()

    def _updated(self, old: autoscaling.HorizontalPodAutoscaler, new: autoscaling.HorizontalPodAutoscaler) -> None:
        if old.spec != new.spec:
            self.enqueue(new)

    def _deleted(self, autoscaler: autoscaling.HorizontalPodAutoscaler) -> None:
        self._histories.pop(key_of(autoscaler), None)
        DESIRED.remove(autoscaler.metadata.namespace, autoscaler.metadata.name)

    async def reconcile(self, key: str) -> float | None:
        cached = self._autoscalers.get(key)
        if cached is None or cached.metadata.HasField("deletionTimestamp"):
            return None
        autoscaler = autoscaling.HorizontalPodAutoscaler()
        autoscaler.CopyFrom(cached)
        began = time.perf_counter()
        action, error = "none", "none"
        try:
            action = await self._autoscale(key, autoscaler)
        except MetricsError as failure:
            error = "spec"
            self._recorder.event(autoscaler, "Warning", "FailedComputeMetricsReplicas", str(failure))
        except StatusError as failure:
            error = "internal"
            self.log.warning("autoscaler not followed", autoscaler=key, error=failure.message)
        await self._write_status(cached, autoscaler)
        DURATION.observe(time.perf_counter() - began)
        RECONCILES.labels(action, error).inc()
        return self.options.horizontal_pod_autoscaler_sync_period

    async def _autoscale(self, key: str, autoscaler: autoscaling.HorizontalPodAutoscaler) -> str:
        """One decision; fills in the status. Returns "scale_up", "scale_down" or "none"."""
        target = await self._target(autoscaler)
        spec, now = autoscaler.spec, self.clock.time()
        current = target.scale.spec.replicas
        minimum = spec.minReplicas if spec.HasField("minReplicas") else 1
        history = self._histories.setdefault(key, History([(now, current)]))
        autoscaler.status.currentReplicas = target.scale.status.replicas
        reason = ""
        if current == 0 and minimum != 0:
            message = "scaling is disabled since the replica count of the target is zero"
            self._condition(autoscaler, "ScalingActive", "False", "ScalingDisabled", message)
            autoscaler.status.desiredReplicas = 0
            return "none"
        if current > spec.maxReplicas:
            desired, reason = spec.maxReplicas, "Current number of replicas above Spec.MaxReplicas"
        elif current < minimum:
            desired, reason = minimum, "Current number of replicas below Spec.MinReplicas"
        else:
            tolerance = self.options.horizontal_pod_autoscaler_tolerance
            down_window = self.options.horizontal_pod_autoscaler_downscale_stabilization
            up, down = up_rules(spec, tolerance), down_rules(spec, down_window, tolerance)
            judged, best = await self._judge(autoscaler, target, current, up, down)
            del autoscaler.status.currentMetrics[:]
            autoscaler.status.currentMetrics.extend(one.status for one in judged)
            proposed = best.proposal.replicas
            decision = decide(
                current,
                proposed,
                minimum=minimum,
                maximum=spec.maxReplicas,
                up=up,
                down=down,
                history=history,
                now=now,
            )
            self._tell(autoscaler, decision)
            desired = decision.replicas
            reason = f"{best.title} above target" if proposed > current else "All metrics below target"
        autoscaler.status.desiredReplicas = desired
        DESIRED.labels(autoscaler.metadata.namespace, autoscaler.metadata.name).set(desired)
        if desired == current:
            return "none"
        await self._rescale(autoscaler, target, desired, reason)
        history.rescaled(now, current, desired)
        return "scale_up" if desired > current else "scale_down"

    async def _target(self, autoscaler: autoscaling.HorizontalPodAutoscaler) -> Target:
        reference = autoscaler.spec.scaleTargetRef
        namespace = autoscaler.metadata.namespace
        label = f"{reference.kind}/{namespace}/{reference.name}"
        try:
            resource = await self._resource_of(reference.apiVersion, reference.kind)
            scale = await resource.subresource_get(reference.name, namespace, "scale")
        except (StatusError, LookupError) as error:
            text = error.message if isinstance(error, StatusError) else str(error)
            message = f"the HPA controller was unable to get the target's current scale: {text}"
            self._condition(autoscaler, "AbleToScale", "False", "FailedGetScale", message)
            self._recorder.event(autoscaler, "Warning", "FailedGetScale", text)
            raise MetricsError(text) from error
        assert isinstance(scale, autoscaling_v1.Scale)
        message = "the HPA controller was able to get the target's current scale"
        self._condition(autoscaler, "AbleToScale", "True", "SucceededGetScale", message)
        return Target(resource, scale, label)

    async def _resource_of(self, api_version: str, kind: str) -> ResourceClient[dict[str, Any]]:
        """Raises LookupError when no such kind is served."""
        from tillerman.api.scheme import SCHEME

        try:
            return self.client.dynamic(api_version, SCHEME.by_kind(api_version, kind).resource, True)
        except LookupError:
            for found in await self.client.discover():
                if (found.api_version, found.kind) == (api_version, kind):
                    return self.client.dynamic(api_version, found.resource, found.namespaced)
            raise LookupError(f'no matches for kind "{kind}" in version "{api_version}"') from None

    async def _judge(
        self,
        autoscaler: autoscaling.HorizontalPodAutoscaler,
        target: Target,
        current: int,
        up: Rules,
        down: Rules,
    ) -> tuple[list[Judged], Judged]:
        """Every metric that can be judged, and the one that asks for most. Raises MetricsError when none leads on."""
        if not target.scale.status.selector:
            message = "the HPA target's scale is missing a selector"
            self._condition(autoscaler, "ScalingActive", "False", "InvalidSelector", message)
            raise MetricsError("selector is required")
        selector = parse_label_selector(target.scale.status.selector)
        pods = [
            pod
            for pod in in_namespace(self._pods, autoscaler.metadata.namespace)
            if selector.matches(pod.metadata.labels)
        ]
        judged: list[Judged] = []
        failure: tuple[str, str] | None = None
        for spec in autoscaler.spec.metrics:
            try:
                judged.append(await self._judge_one(spec, pods, current, min(up.tolerance, down.tolerance)))
                COMPUTATIONS.labels(spec.type, "none").inc()
            except MetricsError as error:
                COMPUTATIONS.labels(spec.type, "internal").inc()
                reason = "FailedGetResourceMetric" if spec.type == "Resource" else f"FailedGet{spec.type}Metric"
                failure = failure or (reason, f"failed to get {_metric_name(spec)}: {error}")
        best = max(judged, key=lambda one: one.proposal.replicas, default=None)
        if best is None or (failure is not None and best.proposal.replicas < current):
            reason, text = failure or ("InvalidMetricSourceType", "the HPA has no metrics")
            message = f"the HPA was unable to compute the replica count: {text}"
            self._condition(autoscaler, "ScalingActive", "False", reason, message)
            self._recorder.event(autoscaler, "Warning", reason, text)
            raise MetricsError(f"invalid metrics (of {len(autoscaler.spec.metrics)}), first error is: {text}")
        message = f"the HPA was able to successfully calculate a replica count from {best.title}"
        self._condition(autoscaler, "ScalingActive", "True", "ValidMetricFound", message)
        return judged, best

    async def _judge_one(
        self, spec: autoscaling.MetricSpec, pods: Sequence[core.Pod], current: int, tolerance: float
    ) -> Judged:
        wanted = wanted_of(spec)
        samples = await self._stats.usage(pods, wanted.resource, wanted.container)
        return judge(
            wanted,
            pods=pods,
            samples=samples,
            current=current,
            tolerance=tolerance,
            caution=self._caution,
            now=self.clock.time(),
        )

    async def _rescale(
        self, autoscaler: autoscaling.HorizontalPodAutoscaler, target: Target, desired: int, reason: str
    ) -> None:
        wanted = autoscaling_v1.Scale()
        wanted.CopyFrom(target.scale)
        wanted.spec.replicas = desired
        name, namespace = autoscaler.spec.scaleTargetRef.name, autoscaler.metadata.namespace
        try:
            await target.client.subresource_update(name, namespace, "scale", wanted)
        except StatusError as error:
            message = f"the HPA controller was unable to update the target scale: {error.message}"
            self._condition(autoscaler, "AbleToScale", "False", "FailedUpdateScale", message)
            text = f"New size: {desired}; reason: {reason}; error: {error.message}"
            self._recorder.event(autoscaler, "Warning", "FailedRescale", text)
            raise
        message = f"the HPA controller was able to update the target scale to {desired}"
        self._condition(autoscaler, "AbleToScale", "True", "SucceededRescale", message)
        self._recorder.event(autoscaler, "Normal", "SuccessfulRescale", f"New size: {desired}; reason: {reason}")
        autoscaler.status.lastScaleTime.CopyFrom(from_seconds(self.clock.time()))
        self.log.info("rescaled", target=target.label, replicas=desired, reason=reason)

    def _tell(self, autoscaler: autoscaling.HorizontalPodAutoscaler, decision: Decision) -> None:
        self._condition(autoscaler, "AbleToScale", "True", *decision.able)
        self._condition(autoscaler, "ScalingLimited", "True" if decision.is_limited else "False", *decision.limited)

    def _condition(
        self, autoscaler: autoscaling.HorizontalPodAutoscaler, type: str, status: str, reason: str, message: str
    ) -> None:
        known = get_condition(autoscaler.status.conditions, type)
        if known is None:
            known = autoscaler.status.conditions.add(type=type)
        if known.status != status:
            known.lastTransitionTime.CopyFrom(from_seconds(self.clock.time()))
        known.status, known.reason, known.message = status, reason, message

    async def _write_status(
        self, cached: autoscaling.HorizontalPodAutoscaler, autoscaler: autoscaling.HorizontalPodAutoscaler
    ) -> None:
        autoscaler.status.observedGeneration = autoscaler.metadata.generation
        if autoscaler.status != cached.status:
            await self.client.resource(autoscaling.HorizontalPodAutoscaler).update_status(autoscaler)


def _metric_name(spec: autoscaling.MetricSpec) -> str:
    if spec.type == "Resource":
        return f"{spec.resource.name} utilization"
    if spec.type == "ContainerResource":
        return f"{spec.containerResource.name} container metric value"
    return f"{spec.type.lower()} metric value"
