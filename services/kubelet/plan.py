"""What to do next for a pod: a pure function from the pod, what is observed and the time to a set of actions.

The worker runs actions side by side, each under its key; while a key is in flight its action is not planned again. The
plan is made anew after every change, so it only ever names the next steps.
"""

from dataclasses import dataclass, field

from services.kubelet.backoff import next_backoff
from services.kubelet.container_hash import container_hash
from services.kubelet.observed import ContainerView, Observed
from services.kubelet.pod_containers import ephemeral_containers, is_ephemeral, is_sidecar
from services.kubelet.resizing import needs_restart, resize_pending
from services.kubelet.runtime.interface import ContainerState, Phase, SandboxState
from tillerman.pb.k8s import core_v1_pb2 as core

# Kubernetes gives a container that is killed at least this long after SIGTERM.
MIN_GRACE_SECONDS = 2
# How often a resize that the node has no room for is looked at again.
_RESIZE_AGAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RunSandbox:
    attempt: int

    @property
    def key(self) -> str:
        return "sandbox"


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    sandbox: SandboxState

    @property
    def key(self) -> str:
        return f"remove-sandbox:{self.sandbox.id}"


@dataclass(frozen=True, slots=True)
class MountVolumes:
    @property
    def key(self) -> str:
        return "volumes"


@dataclass(frozen=True, slots=True)
class EnsureImage:
    """Have the container's image on the node, as its pull policy says."""

    container: str

    @property
    def key(self) -> str:
        return f"image:{self.container}"


@dataclass(frozen=True, slots=True)
class StartContainer:
    container: str
    attempt: int
    backoff_seconds: int

    @property
    def key(self) -> str:
        return f"container:{self.container}"


@dataclass(frozen=True, slots=True)
class ResizeContainer:
    """Give a running container the resources that its spec asks for now."""

    container: ContainerState

    @property
    def key(self) -> str:
        return f"resize:{self.container.id}"


@dataclass(frozen=True, slots=True)
class KillContainer:
    """preStop hook, stop signal, and after the grace SIGKILL."""

    container: ContainerState
    grace_seconds: float
    message: str
    reason: str = "Killing"

    @property
    def key(self) -> str:
        return f"kill:{self.container.id}"


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Forget an attempt that nobody asks for any more."""

    container: ContainerState

    @property
    def key(self) -> str:
        return f"remove:{self.container.id}"


@dataclass(frozen=True, slots=True)
class TearDown:
    """Remove every container, the sandbox, the address and the volumes."""

    @property
    def key(self) -> str:
        return "teardown"


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Tell the API server that the pod has ended: delete it for good."""

    @property
    def key(self) -> str:
        return "delete-pod"


Action = (
    RunSandbox
    | RemoveSandbox
    | MountVolumes
    | EnsureImage
    | StartContainer
    | ResizeContainer
    | KillContainer
    | RemoveContainer
    | TearDown
    | DeletePod
)


@dataclass(slots=True)
class Plan:
    actions: list[Action] = field(default_factory=list)
    # When to plan again even if nothing happens (epoch seconds).
    wake_at: float | None = None
    # In words, for the Kubelet service's Pods call.
    activity: str = ""
    # Nothing is left to do, ever: the worker ends.
    finished: bool = False

    def wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def plan(pod: core.Pod, observed: Observed, now: float) -> Plan:
    """The next actions, without those in flight."""
    result = _plan(pod, observed, now)
    result.actions = [action for action in result.actions if action.key not in observed.inflight]
    return result


def grace_period(pod: core.Pod) -> float:
    if pod.metadata.HasField("deletionGracePeriodSeconds"):
        return float(pod.metadata.deletionGracePeriodSeconds)
    if pod.spec.HasField("terminationGracePeriodSeconds"):
        return float(pod.spec.terminationGracePeriodSeconds)
    return 30.0


def should_restart(pod: core.Pod, container: core.Container, state: ContainerState) -> bool:
    """Whether a container that ended has to run again."""
    if is_ephemeral(pod, container.name):
        return False
    policy = pod.spec.restartPolicy or "Always"
    if is_sidecar(container) or policy == "Always":
        return True
    return policy == "OnFailure" and state.exit_code != 0


def pod_is_over(pod: core.Pod, observed: Observed) -> bool:
    """Every container has ended for good, or an init container failed for good, or the pod was rejected."""
    if observed.rejection is not None:
        return True
    if (pod.spec.restartPolicy or "Always") == "Never":
        for container in pod.spec.initContainers:
            state = observed.view(container.name).latest
            failed = state is not None and state.phase is Phase.EXITED and state.exit_code != 0
            if failed and not is_sidecar(container) and not _main_ever_started(pod, observed):
                return True
    states = [observed.view(container.name).latest for container in pod.spec.containers]
    return bool(states) and all(
        state is not None and state.phase is Phase.EXITED and not should_restart(pod, container, state)
        for container, state in zip(pod.spec.containers, states, strict=True)
    )


def _plan(pod: core.Pod, observed: Observed, now: float) -> Plan:
    if observed.gone or pod.metadata.HasField("deletionTimestamp"):
        return _terminate(pod, observed, now)
    if pod_is_over(pod, observed):
        return _wind_up(pod, observed)
    result = Plan(wake_at=deadline(pod, observed))
    for old in observed.old_sandboxes:
        result.actions.append(RemoveSandbox(old))
    if observed.sandbox is None or not observed.sandbox.running:
        return _renew_sandbox(pod, observed, now, result)
    return _run_containers(pod, observed, now, result)


def _terminate(pod: core.Pod, observed: Observed, now: float) -> Plan:
    result = Plan(activity="terminating")
    if observed.torn_down:
        if observed.gone:
            result.finished = True
        else:
            result.actions.append(DeletePod())
            result.activity = "telling the API server that the pod has ended"
        return result
    grace = 1.0 if observed.gone and not pod.metadata.HasField("deletionTimestamp") else grace_period(pod)
    # deletionTimestamp is when the grace ends; sidecars get what the others have left of it.
    left = pod.metadata.deletionTimestamp.seconds - now
    if _kill_all(pod, observed, grace, result, sidecar_grace=min(grace, max(left, MIN_GRACE_SECONDS))):
        return result
    # What is being started must first be there to be removed.
    if not any(key.startswith(("container:", "sandbox", "volumes", "kill:")) for key in observed.inflight):
        result.actions.append(TearDown())
    return result


def _wind_up(pod: core.Pod, observed: Observed) -> Plan:
    """The pod is over but not deleted: containers stay for their logs, the sandbox and what still runs go."""
    result = Plan(activity="ended")
    grace = grace_period(pod)
    if _kill_all(pod, observed, grace, result, sidecar_grace=grace):
        return result
    sandboxes = [*observed.old_sandboxes, *([observed.sandbox] if observed.sandbox else [])]
    result.actions.extend(RemoveSandbox(sandbox) for sandbox in sandboxes)
    return result


def _kill_all(pod: core.Pod, observed: Observed, grace: float, result: Plan, *, sidecar_grace: float) -> bool:
    """Main containers first, then sidecars, last started first. False when nothing runs any more."""
    sidecars = [c.name for c in pod.spec.initContainers if is_sidecar(c)]
    running = {name: view.latest for name, view in observed.containers.items() if view.running}
    first = [state for name, state in running.items() if name not in sidecars]
    if not first:
        first = [running[name] for name in reversed(sidecars) if name in running][:1]
        grace = sidecar_grace
    for state in first:
        if state is not None:
            result.actions.append(KillContainer(state, grace, f"Stopping container {state.name}"))
    return bool(first)


def deadline(pod: core.Pod, observed: Observed) -> float | None:
    """When activeDeadlineSeconds ends (epoch seconds)."""
    if not pod.spec.HasField("activeDeadlineSeconds") or not observed.started_at:
        return None
    return observed.started_at + pod.spec.activeDeadlineSeconds


def _renew_sandbox(pod: core.Pod, observed: Observed, now: float, result: Plan) -> Plan:
    """The pod's first sandbox, or a new one in place of one that was lost (and with it the whole pod again)."""
    running = [view.latest for view in observed.containers.values() if view.running and view.latest]
    if running:
        result.activity = "stopping containers of a lost sandbox"
        for state in running:
            message = f"Stopping container {state.name}"
            result.actions.append(KillContainer(state, grace_period(pod), message))
        return result
    if not observed.network_ready:
        result.activity = "waiting for the node's podCIDR"
        return result
    result.activity = "creating sandbox"
    _prepare(pod, observed, now, result, first_only=False)
    trouble = observed.sandbox_trouble
    if trouble is not None and now < trouble.retry_at:
        result.wake(trouble.retry_at)
    else:
        result.actions.append(RunSandbox(observed.next_sandbox_attempt))
    return result


def _prepare(pod: core.Pod, observed: Observed, now: float, result: Plan, *, first_only: bool) -> None:
    """Volumes, and the images of what is about to start."""
    if not observed.volumes_ready:
        trouble = observed.volume_trouble
        if trouble is not None and now < trouble.retry_at:
            result.wake(trouble.retry_at)
        else:
            result.actions.append(MountVolumes())
    containers = list(pod.spec.initContainers[:1]) if pod.spec.initContainers else list(pod.spec.containers)
    if not first_only:
        for container in containers:
            _ensure_image(container, observed, now, result)


def _ensure_image(container: core.Container, observed: Observed, now: float, result: Plan) -> bool:
    """True when the image is here."""
    if container.name in observed.image_ids:
        return True
    trouble = observed.image_trouble.get(container.name)
    if trouble is not None and now < trouble.retry_at:
        result.wake(trouble.retry_at)
        result.activity = f"waiting for image {container.image}"
    else:
        result.actions.append(EnsureImage(container.name))
        result.activity = f"waiting for image {container.image}"
    return False


def _run_containers(pod: core.Pod, observed: Observed, now: float, result: Plan) -> Plan:
    _prepare(pod, observed, now, result, first_only=True)
    _forget_old_attempts(observed, result)
    result.activity = "running"
    for container in ephemeral_containers(pod):
        # They run once, whether or not the pod has come through its init containers.
        if observed.view(container.name).latest is None:
            _converge(pod, container, observed, now, result)
    initialized = _main_ever_started(pod, observed)
    if not _run_init_containers(pod, observed, now, result, initialized=initialized):
        result.activity = result.activity if result.activity != "running" else "running init containers"
        return result
    for container in pod.spec.containers:
        _converge(pod, container, observed, now, result)
    return result


def _main_ever_started(pod: core.Pod, observed: Observed) -> bool:
    """In the present sandbox; before that, init containers have to run (again)."""
    if observed.sandbox is None:
        return any(observed.view(container.name).latest is not None for container in pod.spec.containers)
    return any(
        state.sandbox_attempt == observed.sandbox.attempt
        for container in pod.spec.containers
        for state in observed.view(container.name).attempts
    )


def _run_init_containers(pod: core.Pod, observed: Observed, now: float, result: Plan, *, initialized: bool) -> bool:
    """True when every one is done (sidecars: started)."""
    for container in pod.spec.initContainers:
        view = observed.view(container.name)
        if is_sidecar(container):
            _converge(pod, container, observed, now, result)
            if not initialized and not (view.running and view.started and _current(view, observed)):
                return False
            continue
        if initialized or (_current(view, observed) and view.exited and view.attempts[0].exit_code == 0):
            continue
        _converge(pod, container, observed, now, result)
        return False
    return True


def _current(view: ContainerView, observed: Observed) -> bool:
    """The newest attempt belongs to the present sandbox."""
    return (
        view.latest is not None
        and observed.sandbox is not None
        and view.latest.sandbox_attempt == observed.sandbox.attempt
    )


def _converge(pod: core.Pod, container: core.Container, observed: Observed, now: float, result: Plan) -> None:
    """Has one container run, if it should."""
    view = observed.view(container.name)
    state = view.latest
    if state is not None and state.phase is Phase.RUNNING:
        if view.must_die:
            grace = grace_period(pod)
            for probe in (container.livenessProbe, container.startupProbe):
                if probe.HasField("terminationGracePeriodSeconds"):
                    grace = float(probe.terminationGracePeriodSeconds)
                    break
            result.actions.append(KillContainer(state, grace, view.must_die))
        elif state.hash and state.hash != container_hash(container):
            message = f"Container {container.name} definition changed, will be restarted"
            result.actions.append(KillContainer(state, grace_period(pod), message))
        elif resize_pending(container, view):
            _resize(pod, container, view, state, observed, now, result)
        return
    attempt, backoff = 0, 0
    if state is not None:
        if state.phase is Phase.EXITED and _current(view, observed) and not should_restart(pod, container, state):
            return
        attempt = state.attempt + 1
        if state.phase is Phase.EXITED and _current(view, observed):
            ready_at, backoff = next_backoff(state)
            if now < ready_at:
                result.wake(ready_at)
                result.activity = f"backing off before restarting {container.name}"
                return
    trouble = view.trouble
    if trouble is not None and now < trouble.retry_at:
        result.wake(trouble.retry_at)
        return
    if _ensure_image(container, observed, now, result) and observed.volumes_ready:
        result.actions.append(StartContainer(container.name, attempt, backoff))


def _resize(
    pod: core.Pod,
    container: core.Container,
    view: ContainerView,
    state: ContainerState,
    observed: Observed,
    now: float,
    result: Plan,
) -> None:
    if observed.resize_refusal is not None:
        result.wake(now + _RESIZE_AGAIN_SECONDS)
    elif view.resize_trouble is not None and now < view.resize_trouble.retry_at:
        result.wake(view.resize_trouble.retry_at)
    elif view.applied is not None and needs_restart(container, view.applied):
        message = f"Container {container.name} resize requires restart"
        result.actions.append(KillContainer(state, grace_period(pod), message))
    else:
        result.actions.append(ResizeContainer(state))


def _forget_old_attempts(observed: Observed, result: Plan) -> None:
    """The newest attempt and the one before it stay (for `logs --previous`)."""
    for view in observed.containers.values():
        result.actions.extend(RemoveContainer(state) for state in view.attempts[2:])
