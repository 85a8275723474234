"""PodWorker: one task per pod. It plans, starts the actions (each a task), and plans again whenever something changed.

Nothing else writes the pod's Observed but the worker and the actions and probers it started, all in one event loop.
The worker ends when the pod is gone from the node and from the API server, or when it is cancelled at shutdown (then
everything that runs keeps running).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from services.kubelet import metrics
from services.kubelet.backoff import next_backoff
from services.kubelet.observed import Observed, Rejection
from services.kubelet.plan import (
    Action,
    DeletePod,
    EnsureImage,
    KillContainer,
    MountVolumes,
    Plan,
    RemoveContainer,
    RemoveSandbox,
    ResizeContainer,
    RunSandbox,
    StartContainer,
    TearDown,
    deadline,
    plan,
    pod_is_over,
    should_restart,
)
from services.kubelet.pod_actions import PodActions, Tools
from services.kubelet.pod_containers import all_containers
from services.kubelet.pod_status import pod_status
from services.kubelet.probe_actions import ProbeOutcome, run_probe
from services.kubelet.prober import ContainerProber
from services.kubelet.resizing import resize_pending
from services.kubelet.runtime.interface import ContainerState, EventKind, Phase, RuntimeEvent
from services.kubelet.status_manager import StatusManager
from tillerman.api.status import StatusError, is_conflict, is_not_found
from tillerman.client.client import Client
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
_UNEXPECTED_RETRY_SECONDS = 1.0
_FINALIZER_SECONDS = 5.0


class PodWorker:
    def __init__(
        self,
        pod: core.Pod,
        observed: Observed,
        *,
        tools: Tools,
        statuses: StatusManager,
        client: Client,
        admit: Callable[[core.Pod], Rejection | None],
        refuse_resize: Callable[[core.Pod], Rejection | None],
    ) -> None:
        self.pod = pod
        self.observed = observed
        self.activity = "starting"
        self.deleted_at_server = False
        self._tools = tools
        self._statuses = statuses
        self._client = client
        self._admit = admit
        self._refuse_resize = refuse_resize
        self._actions = PodActions(observed, tools, pod=lambda: self.pod, changed=self.wake)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._probers: dict[str, ContainerProber] = {}
        self._seen_at = time.monotonic()
        self._was_running = False
        self.phase = pod.status.phase or "Pending"
        self._admitted = bool(observed.containers) or observed.sandbox is not None

    def wake(self) -> None:
        self._wake.set()

    def update(self, pod: core.Pod) -> None:
        """The pod as the API server has it now."""
        for old, new in zip(all_containers(self.pod), all_containers(pod), strict=False):
            if old.image != new.image:
                self.observed.image_ids.pop(new.name, None)
                self.observed.image_trouble.pop(new.name, None)
        self.pod = pod
        self._tools.volumes.update(pod)
        if pod.metadata.HasField("deletionGracePeriodSeconds") and pod.metadata.deletionGracePeriodSeconds == 0:
            self._actions.killer.hurry.set()
        self.wake()

    def gone(self) -> None:
        """The pod is no more in the API server."""
        self.observed.gone = True
        if not self.deleted_at_server:
            self._actions.killer.hurry.set()
        self.wake()

    async def runtime_event(self, event: RuntimeEvent) -> None:
        """Something of this pod ended or was removed."""
        observed = self.observed
        if event.kind is EventKind.SANDBOX_EXITED:
            if observed.sandbox is not None and observed.sandbox.id == event.id and observed.sandbox.running:
                observed.sandbox = replace(observed.sandbox, running=False)
        elif event.kind is EventKind.CONTAINER_EXITED:
            await self._container_ended(event)
        elif event.kind is EventKind.CONTAINER_REMOVED:
            for view in observed.containers.values():
                for state in view.attempts:
                    if state.id == event.id and state.phase is Phase.RUNNING:
                        await self._container_ended(event)
        self.wake()

    async def _container_ended(self, event: RuntimeEvent) -> None:
        for name, view in self.observed.containers.items():
            for index, state in enumerate(view.attempts):
                if state.id != event.id or state.phase is Phase.EXITED:
                    continue
                removed = event.kind is EventKind.CONTAINER_REMOVED
                ended = replace(
                    state,
                    phase=Phase.EXITED,
                    exit_code=137 if removed else event.exit_code,
                    finished_at=event.finished_at or self._tools.clock.time(),
                    reason="Error" if removed else event.reason,
                    message=event.message,
                )
                message = await self._actions.termination_message(ended)
                view.attempts[index] = replace(ended, message=message)
                view.started = view.ready = False
                view.must_die = ""
                prober = self._probers.pop(name, None)
                if prober is not None:
                    await prober.stop()
                self._actions.killer.ended(event.id)
                self._report_back_off(view.attempts[index])
                return

    def _report_back_off(self, ended: ContainerState) -> None:
        container = next((c for c in all_containers(self.pod) if c.name == ended.name), None)
        leaving = self.observed.gone or self.pod.metadata.HasField("deletionTimestamp")
        if container is None or leaving or not should_restart(self.pod, container, ended):
            return
        if next_backoff(ended)[0] > self._tools.clock.time():
            pod = f"{self.pod.metadata.name}_{self.pod.metadata.namespace}({self.pod.metadata.uid})"
            words = f"Back-off restarting failed container {ended.name} in pod {pod}"
            self._actions.event("Warning", "BackOff", words, ended.name)

    async def run(self) -> None:
        """To the pod's end."""
        try:
            self._begin()
            while True:
                started = time.perf_counter()
                if self._turn():
                    return
                metrics.POD_WORKER.labels("sync").observe(time.perf_counter() - started)
                await self._wake.wait()
                self._wake.clear()
        finally:
            await self._stop()

    def _begin(self) -> None:
        observed, clock = self.observed, self._tools.clock
        metrics.POD_WORKER_START.observe(time.monotonic() - self._seen_at)
        if self.pod.status.HasField("startTime"):
            observed.started_at = float(self.pod.status.startTime.seconds)
        else:
            observed.started_at = clock.time()
        self._adopt_resources()
        if self.pod.status.phase == "Failed" and not self._admitted:
            # Rejected, or evicted, by an earlier kubelet.
            observed.rejection = Rejection(self.pod.status.reason, self.pod.status.message)
        elif not self._admitted and not self.pod.metadata.HasField("deletionTimestamp") and not observed.gone:
            observed.rejection = self._admit(self.pod)
            if observed.rejection is not None:
                self._actions.event("Warning", observed.rejection.reason, observed.rejection.message)

    def _turn(self) -> bool:
        """One round; True when the worker is done."""
        observed, now = self.observed, self._tools.clock.time()
        observed.network_ready = self._tools.node.addresses is not None or self.pod.spec.hostNetwork
        self._check_deadline(now)
        self._check_resize()
        self._start_probers(now)
        planned = plan(self.pod, observed, now)
        self.activity = planned.activity
        if planned.finished:
            return True
        if not observed.gone:
            self._report_status(now)
        for action in planned.actions:
            self._start(action)
        self._schedule(planned, now)
        return False

    def _check_resize(self) -> None:
        """Whether the node has room for what running containers are to have now."""
        observed = self.observed
        pending = any(resize_pending(c, observed.view(c.name)) for c in all_containers(self.pod))
        observed.resize_refusal = self._refuse_resize(self.pod) if pending else None

    def _adopt_resources(self) -> None:
        """What containers that an earlier kubelet started have: as it said, or else as they are to have."""
        for container in all_containers(self.pod):
            view = self.observed.view(container.name)
            if view.latest is None or not view.running:
                continue
            known = self._known_status(view.latest)
            said = known.resources if known is not None and known.HasField("resources") else container.resources
            view.applied = core.ResourceRequirements()
            view.applied.CopyFrom(said)

    def _check_deadline(self, now: float) -> None:
        end = deadline(self.pod, self.observed)
        if end is None or now < end or self.observed.rejection is not None or pod_is_over(self.pod, self.observed):
            return
        words = "Pod was active on the node longer than the specified deadline"
        self.observed.rejection = Rejection("DeadlineExceeded", words)
        self._actions.event("Normal", "DeadlineExceeded", words)

    def _schedule(self, planned: Plan, now: float) -> None:
        if planned.wake_at is not None:
            self._tools.clock.call_later(max(planned.wake_at - now, 0.0) + 0.001, self.wake)

    def _report_status(self, now: float) -> None:
        status = pod_status(
            self.pod,
            self.observed,
            now,
            previous=self._statuses.last(self.pod),
            runtime_name=self._tools.runtime.name,
            host_ip=self._tools.node.ip,
        )
        if status.phase == "Running" and not self._was_running:
            self._was_running = True
            if not self._admitted:
                metrics.POD_START.observe(time.monotonic() - self._seen_at)
        self.phase = status.phase
        self._statuses.set(self.pod, status)

    def _start_probers(self, now: float) -> None:
        """For containers that run and have none: newly started, or found running by a new kubelet."""
        for container in all_containers(self.pod):
            view = self.observed.view(container.name)
            state = view.latest
            if state is None or state.phase is not Phase.RUNNING or container.name in self._probers:
                continue

            async def run(handler: core.ProbeHandler, timeout: float, c: core.Container = container) -> ProbeOutcome:
                latest, sandbox = self.observed.view(c.name).latest, self.observed.sandbox
                if latest is None:
                    return ProbeOutcome(False, "the container is gone")
                return await run_probe(
                    handler,
                    runtime=self._tools.runtime,
                    container=c,
                    container_id=latest.id,
                    pod_ip=(sandbox.ip if sandbox else "") or self._tools.node.ip,
                    timeout=timeout,
                )

            prober = ContainerProber(
                self.pod,
                container,
                view,
                run_probe=run,
                report=self._actions.reporter(container.name),
                changed=self.wake,
                clock=self._tools.clock,
                age=max(now - state.started_at, 0.0),
                known=self._known_status(state),
            )
            self._probers[container.name] = prober
            prober.start()

    def _known_status(self, state: ContainerState) -> core.ContainerStatus | None:
        """What was said last of this very container."""
        status = self._statuses.last(self.pod)
        container_id = f"{self._tools.runtime.name}://{state.id}"
        known = (s for s in [*status.initContainerStatuses, *status.containerStatuses] if s.containerID == container_id)
        return next(known, None)

    def _start(self, action: Action) -> None:
        self.observed.inflight.add(action.key)
        task = asyncio.create_task(self._carry_out(action), name=f"{self.pod.metadata.name} {action.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, action: Action) -> None:
        try:
            await self._do(action)
        except Exception:
            log.exception("action_failed", pod=self.pod.metadata.name, action=action.key)
            await self._tools.clock.sleep(_UNEXPECTED_RETRY_SECONDS)
        finally:
            self.observed.inflight.discard(action.key)
            self.wake()

    async def _do(self, action: Action) -> None:
        actions = self._actions
        match action:
            case RunSandbox():
                await actions.run_sandbox(action)
            case RemoveSandbox():
                await actions.remove_sandbox(action)
            case MountVolumes():
                await actions.mount_volumes(action)
            case EnsureImage():
                await actions.ensure_image(action)
            case StartContainer():
                await actions.start_container(action)
            case ResizeContainer():
                await actions.resize_container(action)
            case KillContainer():
                await self._stop_prober(action.container.name)
                await actions.kill_container(action)
            case RemoveContainer():
                await actions.remove_container(action)
            case TearDown():
                await actions.tear_down(action)
            case DeletePod():
                await self._delete_pod()

    async def _stop_prober(self, name: str) -> None:
        """Liveness must not restart what is being stopped; readiness of a pod that goes away is not asked any more."""
        prober = self._probers.get(name)
        if prober is not None:
            await prober.stop()
        if self.pod.metadata.HasField("deletionTimestamp") and self.pod.spec.containers:
            self.observed.view(name).ready = False

    async def _delete_pod(self) -> None:
        """The last word to the API server: first the final status, then the deletion with grace 0."""
        await self._statuses.settled(self.pod.metadata.uid)
        if self.observed.gone:
            return
        meta = self.pod.metadata
        self.deleted_at_server = True
        try:
            await self._client.resource(core.Pod).delete(
                meta.name, meta.namespace, grace_period_seconds=0, uid=meta.uid
            )
        except StatusError as error:
            if not is_not_found(error) and not is_conflict(error):
                self.deleted_at_server = False
                log.warning("pod_delete_failed", pod=meta.name, error=str(error))
                await self._tools.clock.sleep(_UNEXPECTED_RETRY_SECONDS)
                return
            self.observed.gone = True
            return
        if meta.finalizers:
            # They hold the object; its watch event will say when it is gone.
            await self._tools.clock.sleep(_FINALIZER_SECONDS)
        else:
            self.observed.gone = True

    async def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for prober in self._probers.values():
            await prober.stop()
        self._probers.clear()
