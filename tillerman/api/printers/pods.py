"""Pods: readiness, the one word for their state, restarts."""

from typing import Any

from tillerman.api import times
from tillerman.api.meta import get_condition
from tillerman.api.pods import is_restartable_init, is_terminal
from tillerman.api.printers.ages import age, human_duration
from tillerman.api.printers.labels import NONE
from tillerman.pb.k8s import core_v1_pb2 as core


class _Tally:
    def __init__(self) -> None:
        self.ready = 0
        self.restarts = 0
        self.last_restart = 0.0

    def count(self, status: core.ContainerStatus) -> None:
        self.restarts += status.restartCount
        ended = status.lastState.terminated
        if ended.HasField("finishedAt") and not times.is_zero(ended.finishedAt):
            self.last_restart = max(self.last_restart, times.to_seconds(ended.finishedAt))


def pod(obj: core.Pod, now: float) -> list[Any]:
    state, tally = _state(obj)
    sidecars = sum(map(is_restartable_init, obj.spec.initContainers))
    restarts: str | int = tally.restarts
    if tally.restarts and tally.last_restart:
        restarts = f"{tally.restarts} ({human_duration(now - tally.last_restart)} ago)"
    return [
        obj.metadata.name,
        f"{tally.ready}/{len(obj.spec.containers) + sidecars}",
        state,
        restarts,
        age(obj.metadata.creationTimestamp, now),
        obj.status.podIP or NONE,
        obj.spec.nodeName or NONE,
        obj.status.nominatedNodeName or NONE,
        _gates(obj),
    ]


def state_of(obj: core.Pod) -> str:
    """The word of the STATUS column: Running, CrashLoopBackOff, Init:0/2, Terminating…"""
    return _state(obj)[0]


def _state(obj: core.Pod) -> tuple[str, _Tally]:
    status = obj.status
    state = status.reason or status.phase
    scheduled = get_condition(status.conditions, "PodScheduled")
    if scheduled is not None and scheduled.reason == "SchedulingGated":
        state = "SchedulingGated"
    tally = _Tally()
    initializing = _initializing(obj, tally)
    initialized = get_condition(status.conditions, "Initialized")
    if not initializing or (initialized is not None and initialized.status == "True"):
        state = _running(obj, initializing or state, tally)
    else:
        state = initializing
    if obj.metadata.HasField("deletionTimestamp"):
        if status.reason == "NodeLost":
            state = "Unknown"
        elif not is_terminal(obj):
            state = "Terminating"
    return state, tally


def _initializing(obj: core.Pod, tally: _Tally) -> str:
    """The state while init containers run, "" after them."""
    sidecars = {c.name for c in obj.spec.initContainers if is_restartable_init(c)}
    for i, status in enumerate(obj.status.initContainerStatuses):
        tally.count(status)
        ended = status.state.terminated
        if status.state.HasField("terminated") and ended.exitCode == 0:
            continue
        if status.name in sidecars and status.started:
            tally.ready += status.ready
            continue
        if status.state.HasField("terminated"):
            return f"Init:{_ending(ended)}"
        waiting = status.state.waiting.reason
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{i}/{len(obj.spec.initContainers)}"
    return ""


def _ending(ended: core.ContainerStateTerminated) -> str:
    return ended.reason or (f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exitCode}")


def _running(obj: core.Pod, state: str, tally: _Tally) -> str:
    """The state by the main containers; restarts of init containers that are over no longer count."""
    sidecars = {c.name for c in obj.spec.initContainers if is_restartable_init(c)}
    tally.restarts = sum(s.restartCount for s in obj.status.initContainerStatuses if s.name in sidecars)
    running = False
    for status in reversed(obj.status.containerStatuses):
        tally.count(status)
        if status.state.waiting.reason:
            state = status.state.waiting.reason
        elif status.state.HasField("terminated"):
            state = _ending(status.state.terminated)
        elif status.ready and status.state.HasField("running"):
            running = True
            tally.ready += 1
    if state == "Completed" and running:
        ready = get_condition(obj.status.conditions, "Ready")
        return "Running" if ready is not None and ready.status == "True" else "NotReady"
    return state


def _gates(obj: core.Pod) -> str:
    gates = obj.spec.readinessGates
    if not gates:
        return NONE
    met = 0
    for gate in gates:
        condition = get_condition(obj.status.conditions, gate.conditionType)
        met += condition is not None and condition.status == "True"
    return f"{met}/{len(gates)}"


PRINTERS = {"Pod": pod}
