"""Carries out a pod's actions: each method does one, changes Observed accordingly and reports events.

Called by the pod worker, each as a task of its own. Failures become trouble with a time to try again; only cancellation
and what nobody foresaw escapes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.kubelet import metrics
from services.kubelet.addresses import AddressesExhausted, AddressPool
from services.kubelet.backoff import doubled
from services.kubelet.container_spec import ConfigError, PodPaths, container_spec, pod_identity, resources_of
from services.kubelet.env import EnvError, EnvSources, build_env, referenced, service_variables
from services.kubelet.images import ImageManager, ImageProblem, default_policy
from services.kubelet.killing import ContainerKiller, until_done
from services.kubelet.lifecycle import HookFailed, run_hook
from services.kubelet.observed import Observed, Trouble
from services.kubelet.plan import (
    EnsureImage,
    KillContainer,
    MountVolumes,
    RemoveContainer,
    RemoveSandbox,
    ResizeContainer,
    RunSandbox,
    StartContainer,
    TearDown,
    grace_period,
)
from services.kubelet.pod_containers import all_containers, is_ephemeral, target_of
from services.kubelet.pod_files import ClusterDns, etc_hosts, hostname_of, resolv_conf
from services.kubelet.references import References
from services.kubelet.runtime.interface import (
    ContainerState,
    LogOptions,
    Phase,
    Runtime,
    RuntimeFailure,
    SandboxSpec,
)
from services.kubelet.volumes.manager import VolumeManager
from services.kubelet.volumes.payload import VolumeError
from tillerman.api.status import StatusError
from tillerman.client.clock import Clock
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
_RETRY_SECONDS = 2.0
_MESSAGE_BYTES = 4096
_FALLBACK_BYTES = 2048
_METRIC_KINDS = {
    "initContainers": "init_container",
    "containers": "container",
    "ephemeralContainers": "ephemeral_container",
}


@dataclass(slots=True)
class NodeFacts:
    """What of the node pods need to know. addresses: None until the node has a podCIDR."""

    name: str
    ip: str
    memory: int
    allocatable: Mapping[str, int]
    dns: ClusterDns
    etc_hosts: str
    addresses: AddressPool | None = None


@dataclass(slots=True)
class Tools:
    """What every pod worker of the node shares."""

    runtime: Runtime
    images: ImageManager
    volumes: VolumeManager
    references: References
    node: NodeFacts
    clock: Clock
    # (object, event type, reason, message, field path)
    record: Callable[[core.Pod, str, str, str, str], None]
    services: Callable[[], Iterable[core.Service]]


class PodActions:
    def __init__(
        self, observed: Observed, tools: Tools, *, pod: Callable[[], core.Pod], changed: Callable[[], None]
    ) -> None:
        """changed: called when something changed outside of an action."""
        self._observed = observed
        self._tools = tools
        self._get_pod = pod
        self._changed = changed
        self.killer = ContainerKiller(observed, tools.runtime, tools.clock, hook_failed=self._pre_stop_failed)

    @property
    def pod(self) -> core.Pod:
        return self._get_pod()

    def event(self, kind: str, reason: str, message: str, container: str = "") -> None:
        path = ""
        if container:
            path = f"spec.{_list_of(self.pod, container)}{{{container}}}"
        self._tools.record(self.pod, kind, reason, message, path)

    def reporter(self, container: str) -> Callable[[str, str, str], None]:
        """For (event type, reason, message) of one container."""
        return lambda kind, reason, message: self.event(kind, reason, message, container)

    async def run_sandbox(self, action: RunSandbox) -> None:
        observed, pod, node = self._observed, self.pod, self._tools.node
        old, ip = observed.sandbox, None
        if old is not None:
            self.event("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            observed.old_sandboxes.append(old)
            observed.sandbox = None
        try:
            if not pod.spec.hostNetwork:
                if node.addresses is None:
                    observed.network_ready = False
                    return
                ip = node.addresses.take()
            spec = SandboxSpec(
                pod=pod_identity(pod),
                attempt=action.attempt,
                hostname=hostname_of(pod, node.name),
                ip=ip,
                host_network=pod.spec.hostNetwork,
                host_pid=pod.spec.hostPID,
                host_ipc=pod.spec.hostIPC,
                share_processes=pod.spec.shareProcessNamespace,
                sysctls={s.name: s.value for s in pod.spec.securityContext.sysctls},
                grace_seconds=int(grace_period(pod)),
                directory=str(self._tools.volumes.pod_dir(pod.metadata.uid)),
            )
            self._write_files(pod, ip or node.ip)
            observed.sandbox = await self._tools.runtime.run_sandbox(spec)
            observed.sandbox_trouble = None
            metrics.STARTED_PODS.inc()
        except (RuntimeFailure, AddressesExhausted, OSError) as error:
            if ip is not None and node.addresses is not None:
                node.addresses.release(ip)
            metrics.STARTED_PODS_ERRORS.inc()
            self.event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            observed.sandbox_trouble = self._trouble("", str(error), observed.sandbox_trouble, first=1.0, limit=30.0)

    def _write_files(self, pod: core.Pod, ip: str) -> None:
        node = self._tools.node
        folder = self._tools.volumes.pod_dir(pod.metadata.uid)
        folder.mkdir(parents=True, exist_ok=True)
        hostname = hostname_of(pod, node.name)
        hosts = etc_hosts(pod, ip=ip, hostname=hostname, domain=node.dns.domain, host_file=node.etc_hosts)
        (folder / "etc-hosts").write_text(hosts)
        (folder / "resolv.conf").write_text(resolv_conf(pod, node.dns))

    async def remove_sandbox(self, action: RemoveSandbox) -> None:
        observed, sandbox = self._observed, action.sandbox
        await until_done(self._tools.clock, "remove sandbox", lambda: self._tools.runtime.remove_sandbox(sandbox.id))
        if self._tools.node.addresses is not None:
            self._tools.node.addresses.release(sandbox.ip)
        if observed.sandbox is not None and observed.sandbox.id == sandbox.id:
            observed.sandbox = None
        observed.old_sandboxes = [s for s in observed.old_sandboxes if s.id != sandbox.id]

    async def mount_volumes(self, _: MountVolumes) -> None:
        observed = self._observed
        try:
            await self._tools.volumes.mount(self.pod)
            observed.volumes_ready, observed.volume_trouble = True, None
        except VolumeError as error:
            self.event("Warning", "FailedMount", str(error))
            observed.volume_trouble = self._trouble("", str(error), observed.volume_trouble, first=0.5, limit=122.0)

    async def ensure_image(self, action: EnsureImage) -> None:
        observed, pod, name = self._observed, self.pod, action.container
        container = self._container(name)
        old = observed.image_trouble.get(name)
        try:
            image = await self._tools.images.ensure(pod, container, self.reporter(name))
        except ImageProblem as problem:
            trouble = self._trouble(problem.reason, problem.message, old)
            observed.image_trouble[name] = trouble
            if problem.reason == "ErrImagePull":
                # First the error, a moment later that it will be tried again, as Kubernetes shows it.
                self._tools.clock.call_later(1.0, lambda: self._back_off_pull(container, trouble))
            return
        observed.image_trouble.pop(name, None)
        observed.image_ids[name] = image.id

    def _back_off_pull(self, container: core.Container, trouble: Trouble) -> None:
        if self._observed.image_trouble.get(container.name) is not trouble:
            return
        trouble.message = f'Back-off pulling image "{container.image}": ErrImagePull: {trouble.message}'
        trouble.reason = "ImagePullBackOff"
        self.event("Normal", "BackOff", f'Back-off pulling image "{container.image}"', container.name)
        self.event("Warning", "Failed", "Error: ImagePullBackOff", container.name)
        self._changed()

    async def start_container(self, action: StartContainer) -> None:
        observed, pod, tools = self._observed, self.pod, self._tools
        container, view, sandbox = self._container(action.container), observed.view(action.container), observed.sandbox
        if sandbox is None:
            return
        try:
            image = await tools.runtime.image(container.image)
            if image is None:
                observed.image_ids.pop(container.name, None)
                return
            env = await self._environment(pod, container, sandbox.ip)
            paths = self._container_files(pod, container.name, action.attempt)
            spec = container_spec(
                pod,
                container,
                sandbox=sandbox,
                target_id=self._target_id(container.name),
                attempt=action.attempt,
                backoff_seconds=action.backoff_seconds,
                image=image,
                env=env,
                paths=paths,
                volume_path=lambda volume: tools.volumes.path_of(pod, volume),
                node_memory=tools.node.memory,
            )
        except (ConfigError, EnvError, OSError, RuntimeFailure, StatusError) as error:
            self.event("Warning", "Failed", f"Error: {error}", container.name)
            view.trouble = self._trouble("CreateContainerConfigError", str(error), view.trouble, first=2.0, limit=30.0)
            return
        kind = _METRIC_KINDS[_list_of(pod, container.name)]
        try:
            state = await tools.runtime.run_container(sandbox, spec)
        except RuntimeFailure as error:
            metrics.STARTED_CONTAINERS_ERRORS.labels(kind, "CreateContainerError").inc()
            self.event("Warning", "Failed", f"Error: {error}", container.name)
            view.trouble = self._trouble("CreateContainerError", str(error), view.trouble)
            return
        view.trouble, view.must_die = None, ""
        view.started = view.ready = False
        view.attempts.insert(0, state)
        view.applied, view.resize_trouble = core.ResourceRequirements(), None
        view.applied.CopyFrom(container.resources)
        self.event("Normal", "Created", f"Created container: {container.name}", container.name)
        if state.phase is Phase.EXITED:
            metrics.STARTED_CONTAINERS_ERRORS.labels(kind, state.reason).inc()
            self.event("Warning", "Failed", f"Error: failed to start container: {state.message}", container.name)
            return
        metrics.STARTED_CONTAINERS.labels(kind).inc()
        if action.attempt > 0:
            metrics.RESTARTED_CONTAINERS.inc()
        self.event("Normal", "Started", f"Started container {container.name}", container.name)
        if (container.imagePullPolicy or default_policy(container.image)) == "Always":
            observed.image_ids.pop(container.name, None)
        if container.lifecycle.HasField("postStart"):
            await self._post_start(container, state)

    async def resize_container(self, action: ResizeContainer) -> None:
        container, view = self._container(action.container.name), self._observed.view(action.container.name)
        wanted = core.ResourceRequirements()
        wanted.CopyFrom(container.resources)
        resources = resources_of(self.pod, container, self._tools.node.memory)
        try:
            await self._tools.runtime.update_resources(action.container.id, resources)
        except RuntimeFailure as error:
            view.resize_trouble = self._trouble("Error", str(error), view.resize_trouble, first=2.0, limit=60.0)
            return
        view.applied, view.resize_trouble = wanted, None

    def _target_id(self, name: str) -> str:
        """The running container whose processes an ephemeral container sees. Raises ConfigError."""
        target = target_of(self.pod, name)
        if not target:
            return ""
        view = self._observed.view(target)
        if view.latest is None or not view.running:
            raise ConfigError(f'unable to find target container "{target}"')
        return view.latest.id

    async def _post_start(self, container: core.Container, state: ContainerState) -> None:
        try:
            await self._hook(container.lifecycle.postStart, container, state)
        except HookFailed as error:
            self.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {error}", container.name)
            view = self._observed.view(container.name)
            if view.latest is not None and view.latest.id == state.id:
                view.must_die = "FailedPostStartHook"

    async def _hook(self, handler: core.LifecycleHandler, container: core.Container, state: ContainerState) -> None:
        await run_hook(
            handler,
            runtime=self._tools.runtime,
            container=container,
            container_id=state.id,
            pod_ip=self._pod_ip(),
        )

    def _pod_ip(self) -> str:
        sandbox = self._observed.sandbox
        return (sandbox.ip if sandbox else "") or self._tools.node.ip

    async def _environment(self, pod: core.Pod, container: core.Container, ip: str) -> dict[str, str]:
        """Raises EnvError and StatusError."""
        references, namespace, node = self._tools.references, pod.metadata.namespace, self._tools.node
        config_maps, secrets = referenced(container)
        sources = EnvSources(
            config_maps={name: await references.config_maps.get(namespace, name) for name in config_maps},
            secrets={name: await references.secrets.get(namespace, name) for name in secrets},
            services=service_variables(self._tools.services(), pod),
            pod_ip=ip or node.ip,
            host_ip=node.ip,
            node_name=node.name,
            allocatable=node.allocatable,
        )
        return build_env(pod, container, sources)

    def _container_files(self, pod: core.Pod, name: str, attempt: int) -> PodPaths:
        folder = self._tools.volumes.pod_dir(pod.metadata.uid)
        message_file = folder / "containers" / name / f"{attempt}.message"
        message_file.parent.mkdir(parents=True, exist_ok=True)
        message_file.touch()
        message_file.chmod(0o666)
        hosts, resolv = folder / "etc-hosts", folder / "resolv.conf"
        if not hosts.exists() or not resolv.exists():
            self._write_files(pod, self._pod_ip())
        return PodPaths(hosts, resolv, message_file)

    async def kill_container(self, action: KillContainer) -> None:
        """preStop, stop signal, grace, SIGKILL; returns when the container has ended."""
        self.event("Normal", action.reason, action.message, action.container.name)
        container = next((c for c in all_containers(self.pod) if c.name == action.container.name), None)
        hook = None
        if container is not None and container.lifecycle.HasField("preStop"):
            hook = self._pre_stop(container, action.container)
        await self.killer.kill(action.container, action.grace_seconds, hook)

    def _pre_stop(self, container: core.Container, state: ContainerState) -> Callable[[], Awaitable[None]]:
        return lambda: self._hook(container.lifecycle.preStop, container, state)

    def _pre_stop_failed(self, name: str, error: BaseException) -> None:
        self.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {error}", name)

    async def remove_container(self, action: RemoveContainer) -> None:
        state = action.container
        await until_done(self._tools.clock, "remove container", lambda: self._tools.runtime.remove_container(state.id))
        view = self._observed.view(state.name)
        view.attempts = [attempt for attempt in view.attempts if attempt.id != state.id]

    async def tear_down(self, _: TearDown) -> None:
        observed, runtime = self._observed, self._tools.runtime
        removals: list[Awaitable[None]] = []
        for view in observed.containers.values():
            removals += [
                until_done(self._tools.clock, "remove container", lambda id=state.id: runtime.remove_container(id))  # type: ignore[misc]
                for state in view.attempts
            ]
        await asyncio.gather(*removals)
        sandboxes = [*observed.old_sandboxes, *([observed.sandbox] if observed.sandbox else [])]
        await asyncio.gather(*(self.remove_sandbox(RemoveSandbox(sandbox)) for sandbox in sandboxes))
        await self._tools.volumes.unmount(self.pod.metadata.uid)
        observed.torn_down = True

    async def termination_message(self, state: ContainerState) -> str:
        """What the container wrote for its status, or the end of its log when it asks for that and failed."""
        container = next((c for c in all_containers(self.pod) if c.name == state.name), None)
        text = ""
        if state.message_file:
            try:
                data = await asyncio.to_thread(_head, Path(state.message_file), _MESSAGE_BYTES)
                text = data.decode(errors="replace")
            except OSError:
                text = ""
        wants_log = container is not None and container.terminationMessagePolicy == "FallbackToLogsOnError"
        if text or not wants_log or state.exit_code == 0:
            return text or state.message
        data = b""
        try:
            async for chunk in self._tools.runtime.logs(state.id, LogOptions(tail_lines=80)):
                data = (data + chunk)[-_FALLBACK_BYTES:]
        except RuntimeFailure:
            return state.message
        return data.decode(errors="replace") or state.message

    def _trouble(
        self, reason: str, message: str, old: Trouble | None, *, first: float = 10.0, limit: float = 300.0
    ) -> Trouble:
        delay = doubled(old.delay if old is not None else 0.0, first=first, limit=limit)
        return Trouble(reason, message, self._tools.clock.time() + delay, delay)

    def _container(self, name: str) -> core.Container:
        return next(c for c in all_containers(self.pod) if c.name == name)


def _list_of(pod: core.Pod, container: str) -> str:
    """The list of the pod's spec that the container is in."""
    if is_ephemeral(pod, container):
        return "ephemeralContainers"
    return "initContainers" if any(c.name == container for c in pod.spec.initContainers) else "containers"


def _head(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit)
