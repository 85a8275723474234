"""The pod's status as the API server should see it: a pure function of the pod, what is observed and the time."""

from collections.abc import Iterable

from services.kubelet.backoff import next_backoff
from services.kubelet.observed import CONTAINER_CREATING, CRASH_LOOP, POD_INITIALIZING, ContainerView, Observed
from services.kubelet.plan import pod_is_over, should_restart
from services.kubelet.pod_containers import all_containers, ephemeral_containers, is_ephemeral, is_sidecar
from services.kubelet.resizing import resize_pending
from services.kubelet.runtime.interface import ContainerState, Phase
from tillerman.api.pods import qos_class
from tillerman.api.times import from_seconds
from tillerman.pb.k8s import core_v1_pb2 as core

# Condition types that are the kubelet's to say; others are carried over as they are.
OWN_CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
)


def pod_status(
    pod: core.Pod, observed: Observed, now: float, *, previous: core.PodStatus, runtime_name: str, host_ip: str
) -> core.PodStatus:
    """previous: what was said last. runtime_name prefixes container ids ("docker"). Conditions keep their transition
    time while they hold."""
    old = previous
    status = core.PodStatus()
    over = pod_is_over(pod, observed)
    status.initContainerStatuses.extend(
        _container_status(pod, c, observed, now, runtime_name, init=True, over=over) for c in pod.spec.initContainers
    )
    status.containerStatuses.extend(
        _container_status(pod, c, observed, now, runtime_name, init=False, over=over) for c in pod.spec.containers
    )
    status.ephemeralContainerStatuses.extend(
        _container_status(pod, c, observed, now, runtime_name, init=False, over=over) for c in ephemeral_containers(pod)
    )
    status.phase = _phase(pod, observed, old, over=over)
    if observed.rejection is not None:
        status.reason, status.message = observed.rejection.reason, observed.rejection.message
    status.qosClass = old.qosClass or qos_class(pod)
    if host_ip and (observed.sandbox is not None or not observed.rejection):
        status.hostIP = host_ip
        status.hostIPs.add().ip = host_ip
    ip = _pod_ip(pod, observed, host_ip)
    if ip:
        status.podIP = ip
        status.podIPs.add().ip = ip
    if observed.started_at:
        status.startTime.CopyFrom(from_seconds(int(observed.started_at)))
    if old.nominatedNodeName:
        status.nominatedNodeName = old.nominatedNodeName
    _conditions(pod, observed, status, old, now)
    return status


def _pod_ip(pod: core.Pod, observed: Observed, host_ip: str) -> str:
    if observed.sandbox is not None:
        return host_ip if pod.spec.hostNetwork else observed.sandbox.ip
    return pod.status.podIP if observed.containers else ""


def _phase(pod: core.Pod, observed: Observed, old: core.PodStatus, *, over: bool) -> str:
    if observed.rejection is not None:
        return "Failed"
    mains = [observed.view(container.name) for container in pod.spec.containers]
    if over:
        good = all(view.latest is not None and view.latest.exit_code == 0 for view in mains)
        return "Succeeded" if good else "Failed"
    if old.phase in ("Succeeded", "Failed"):
        # A pod never comes back from its end.
        return old.phase
    return "Running" if mains and all(view.attempts for view in mains) else "Pending"


def _container_status(
    pod: core.Pod,
    container: core.Container,
    observed: Observed,
    now: float,
    runtime_name: str,
    *,
    init: bool,
    over: bool,
) -> core.ContainerStatus:
    view = observed.view(container.name)
    status = core.ContainerStatus(name=container.name, image=container.image, imageID="", restartCount=0, ready=False)
    state = view.latest
    sidecar, ephemeral = init and is_sidecar(container), is_ephemeral(pod, container.name)
    if state is not None:
        status.restartCount = state.attempt
        status.imageID = state.image_id
        status.containerID = f"{runtime_name}://{state.id}"
    previous: ContainerState | None = view.attempts[1] if len(view.attempts) > 1 else None
    if state is not None and state.phase is Phase.RUNNING:
        status.state.running.startedAt.CopyFrom(from_seconds(int(state.started_at)))
        if view.applied is not None:
            status.resources.CopyFrom(view.applied)
            for name, amount in view.applied.requests.items():
                status.allocatedResources[name].CopyFrom(amount)
        if not ephemeral:
            status.started = view.started
            status.ready = (view.ready and view.started) if not init or sidecar else False
    else:
        if not ephemeral:
            status.started = False
        waiting = _waiting(pod, container, observed, view, now, init=init, over=over)
        if waiting is None and state is not None and state.phase is Phase.EXITED:
            _terminated(status.state, state, runtime_name)
            status.ready = init and not sidecar and state.exit_code == 0
        else:
            reason, message = waiting or (CONTAINER_CREATING, "")
            status.state.waiting.reason = reason
            if message:
                status.state.waiting.message = message
            if state is not None and state.phase is Phase.EXITED:
                previous = state
    if previous is not None and previous.phase is Phase.EXITED:
        _terminated(status.lastState, previous, runtime_name)
    return status


def _terminated(target: core.ContainerState, state: ContainerState, runtime_name: str) -> None:
    ended = target.terminated
    ended.exitCode = state.exit_code
    ended.reason = state.reason
    if state.message:
        ended.message = state.message
    ended.startedAt.CopyFrom(from_seconds(int(state.started_at)))
    ended.finishedAt.CopyFrom(from_seconds(int(state.finished_at)))
    ended.containerID = f"{runtime_name}://{state.id}"


def _waiting(
    pod: core.Pod,
    container: core.Container,
    observed: Observed,
    view: ContainerView,
    now: float,
    *,
    init: bool,
    over: bool,
) -> tuple[str, str] | None:
    """(reason, message) of a container that does not run but will; None when its end is final."""
    state = view.latest
    ended = state is not None and state.phase is Phase.EXITED
    if ended and state is not None:
        final = over or observed.gone or pod.metadata.HasField("deletionTimestamp")
        if final or not should_restart(pod, container, state):
            return None
    if over or observed.rejection is not None:
        return ("ContainerCreating", "") if not init else (POD_INITIALIZING, "")
    trouble = view.trouble or observed.image_trouble.get(container.name)
    if trouble is not None:
        return trouble.reason, trouble.message
    if ended and state is not None:
        ready_at, _ = next_backoff(state)
        if now < ready_at:
            message = (
                f"back-off {_spell(state.backoff_seconds)} restarting failed container={container.name} "
                f"pod={pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"
            )
            return CRASH_LOOP, message
        return None
    if is_ephemeral(pod, container.name):
        return CONTAINER_CREATING, ""
    waits_for_init = bool(pod.spec.initContainers) and (
        init or not all(_init_done(c, observed) for c in pod.spec.initContainers)
    )
    if waits_for_init and observed.sandbox is not None:
        return POD_INITIALIZING, ""
    return (POD_INITIALIZING if pod.spec.initContainers else CONTAINER_CREATING), ""


def _spell(seconds: int) -> str:
    """As Go prints a duration: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _init_done(container: core.Container, observed: Observed) -> bool:
    view = observed.view(container.name)
    if is_sidecar(container):
        return view.started
    return view.exited and view.attempts[0].exit_code == 0


def _conditions(pod: core.Pod, observed: Observed, status: core.PodStatus, old: core.PodStatus, now: float) -> None:
    over = status.phase in ("Succeeded", "Failed")
    completed = "PodCompleted" if status.phase == "Succeeded" else "PodFailed"
    sandbox_ready = observed.sandbox is not None and observed.sandbox.running and not observed.torn_down
    waiting_init = [c.name for c in pod.spec.initContainers if not _init_done(c, observed)]
    started_once = any(observed.view(c.name).attempts for c in pod.spec.containers)
    initialized = started_once or not waiting_init
    unready = [s.name for s in status.containerStatuses if not s.ready]
    ready = not over and not unready and initialized
    gates = {c.type: c.status for c in pod.status.conditions}
    closed = [g.conditionType for g in pod.spec.readinessGates if gates.get(g.conditionType) != "True"]

    said: list[tuple[str, bool, str, str]] = [("PodReadyToStartContainers", sandbox_ready, "", "")]
    if initialized:
        said.append(("Initialized", True, "PodCompleted" if status.phase == "Succeeded" else "", ""))
    else:
        words = f"containers with incomplete status: [{' '.join(waiting_init)}]"
        said.append(("Initialized", False, "ContainersNotInitialized", words))
    words = f"containers with unready status: [{' '.join(unready)}]"
    if over:
        said += [("Ready", False, completed, ""), ("ContainersReady", False, completed, "")]
    else:
        if not ready:
            said.append(("Ready", False, "ContainersNotReady", words))
        elif closed:
            missing = "\n".join(f'corresponding condition of pod readiness gate "{g}" does not exist.' for g in closed)
            said.append(("Ready", False, "ReadinessGatesNotReady", missing))
        else:
            said.append(("Ready", True, "", ""))
        said.append(("ContainersReady", ready, "" if ready else "ContainersNotReady", "" if ready else words))
    said.append(("PodScheduled", True, "", ""))
    said += _resizing(pod, observed)
    status.conditions.extend(_merged(old.conditions, said, now))
    status.conditions.extend(c for c in pod.status.conditions if c.type not in OWN_CONDITIONS)


def _resizing(pod: core.Pod, observed: Observed) -> list[tuple[str, bool, str, str]]:
    """Conditions that only a pod has whose containers are to get other resources."""
    pending = [c for c in all_containers(pod) if resize_pending(c, observed.view(c.name))]
    if not pending:
        return []
    refusal = observed.resize_refusal
    if refusal is not None:
        return [("PodResizePending", True, refusal.reason, refusal.message)]
    troubles = [trouble for c in pending if (trouble := observed.view(c.name).resize_trouble) is not None]
    return [
        ("PodResizeInProgress", True, troubles[0].reason if troubles else "", "; ".join(t.message for t in troubles))
    ]


def _merged(
    old: Iterable[core.PodCondition], said: list[tuple[str, bool, str, str]], now: float
) -> list[core.PodCondition]:
    before = {condition.type: condition for condition in old}
    result = []
    for type_, value, reason, message in said:
        condition = core.PodCondition(type=type_, status="True" if value else "False")
        if reason:
            condition.reason = reason
        if message:
            condition.message = message
        last = before.get(type_)
        if last is not None and last.status == condition.status and last.HasField("lastTransitionTime"):
            condition.lastTransitionTime.CopyFrom(last.lastTransitionTime)
        else:
            condition.lastTransitionTime.CopyFrom(from_seconds(int(now)))
        result.append(condition)
    return result
