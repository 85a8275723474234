"""The plan of a pod: which actions follow from what is observed."""

from dataclasses import replace

import pytest

from services.kubelet.backoff import next_backoff
from services.kubelet.container_hash import container_hash
from services.kubelet.observed import Observed, Rejection, Trouble
from services.kubelet.plan import (
    DeletePod,
    EnsureImage,
    KillContainer,
    MountVolumes,
    RemoveContainer,
    RemoveSandbox,
    ResizeContainer,
    RunSandbox,
    StartContainer,
    TearDown,
    deadline,
    plan,
)
from services.kubelet.pod_status import pod_status
from services.kubelet.resizing import refuse_resize
from services.kubelet.runtime.interface import ContainerState, Phase, PodIdentity, SandboxState
from tillerman.pb.k8s import core_v1_pb2 as core

NOW = 1_700_000_000.0
IDENTITY = PodIdentity("default", "web", "u1")


def pod(
    *containers: str, init: tuple[str, ...] = (), sidecars: tuple[str, ...] = (), policy: str = "Always"
) -> core.Pod:
    result = core.Pod()
    result.metadata.name, result.metadata.namespace, result.metadata.uid = "web", "default", "u1"
    result.spec.restartPolicy = policy
    for name in init:
        container = result.spec.initContainers.add(name=name, image="app:1")
        if name in sidecars:
            container.restartPolicy = "Always"
    for name in containers:
        result.spec.containers.add(name=name, image="app:1")
    return result


def sandbox(attempt: int = 0, *, running: bool = True) -> SandboxState:
    return SandboxState(f"s{attempt}", IDENTITY, attempt, running, "10.244.1.2", NOW)


def container(name: str, phase: Phase = Phase.RUNNING, **fields: object) -> ContainerState:
    attempt = fields.get("attempt", 0)
    base = ContainerState(
        id=f"{name}-{attempt}",
        pod=IDENTITY,
        name=name,
        attempt=0,
        sandbox_attempt=0,
        phase=phase,
        image="app:1",
        image_id="i",
        hash=container_hash(core.Container(name=name, image="app:1")),
        backoff_seconds=0,
        created_at=NOW - 5,
        started_at=NOW - 5,
        finished_at=NOW if phase is Phase.EXITED else 0.0,
        reason="" if phase is not Phase.EXITED else ("Error" if fields.get("exit_code") else "Completed"),
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def ready(*states: ContainerState, images: tuple[str, ...] = ("web", "side", "init", "init2")) -> Observed:
    observed = Observed(sandbox=sandbox(), volumes_ready=True, started_at=NOW - 10)
    observed.image_ids = dict.fromkeys(images, "i")
    for state in states:
        observed.view(state.name).attempts.append(state)
    return observed


def test_a_new_pod_gets_sandbox_volumes_and_image_at_once() -> None:
    planned = plan(pod("web"), Observed(), NOW)
    assert set(planned.actions) == {RunSandbox(0), MountVolumes(), EnsureImage("web")}


def test_what_is_in_flight_is_not_planned_again() -> None:
    observed = Observed(inflight={"sandbox", "volumes"})
    assert plan(pod("web"), observed, NOW).actions == [EnsureImage("web")]


def test_without_addresses_nothing_starts() -> None:
    planned = plan(pod("web"), Observed(network_ready=False), NOW)
    assert planned.actions == [] and "podCIDR" in planned.activity


def test_containers_start_side_by_side() -> None:
    planned = plan(pod("web", "side"), ready(), NOW)
    assert planned.actions == [StartContainer("web", 0, 0), StartContainer("side", 0, 0)]


def test_a_container_waits_for_its_volumes() -> None:
    observed = ready()
    observed.volumes_ready = False
    assert plan(pod("web"), observed, NOW).actions == [MountVolumes()]
    observed.volume_trouble = Trouble("", 'configmap "x" not found', NOW + 3)
    planned = plan(pod("web"), observed, NOW)
    assert planned.actions == [] and planned.wake_at == NOW + 3


def test_a_failed_pull_waits_and_is_tried_again() -> None:
    observed = ready(images=())
    observed.image_trouble["web"] = Trouble("ErrImagePull", "no", NOW + 10)
    planned = plan(pod("web"), observed, NOW)
    assert planned.actions == [] and planned.wake_at == NOW + 10
    assert plan(pod("web"), observed, NOW + 10).actions == [EnsureImage("web")]


def test_init_containers_run_one_after_another() -> None:
    spec = pod("web", init=("init", "init2"))
    assert plan(spec, ready(), NOW).actions == [StartContainer("init", 0, 0)]
    assert plan(spec, ready(container("init")), NOW).actions == []
    done = container("init", Phase.EXITED)
    assert plan(spec, ready(done), NOW).actions == [StartContainer("init2", 0, 0)]
    both = ready(done, container("init2", Phase.EXITED))
    assert plan(spec, both, NOW).actions == [StartContainer("web", 0, 0)]


def resized(cpu: str = "200m", memory: str = "64Mi", restart: str = "") -> tuple[core.Pod, Observed]:
    """A pod whose container runs with 100m and 64Mi, and is to have others now."""
    spec = pod("web")
    spec.spec.containers[0].resources.limits["cpu"].string = cpu
    spec.spec.containers[0].resources.limits["memory"].string = memory
    if restart:
        spec.spec.containers[0].resizePolicy.add(resourceName=restart, restartPolicy="RestartContainer")
    observed = ready(container("web"))
    applied = observed.view("web").applied = core.ResourceRequirements()
    applied.limits["cpu"].string, applied.limits["memory"].string = "100m", "64Mi"
    return spec, observed


def resize_conditions(spec: core.Pod, observed: Observed) -> dict[str, str]:
    status = pod_status(spec, observed, NOW, previous=core.PodStatus(), runtime_name="docker", host_ip="")
    return {c.type: c.reason for c in status.conditions if c.type.startswith("PodResize")}


def test_a_resize_is_done_in_place() -> None:
    spec, observed = resized()
    assert plan(spec, observed, NOW).actions == [ResizeContainer(container("web"))]
    assert resize_conditions(spec, observed) == {"PodResizeInProgress": ""}
    observed.view("web").applied = spec.spec.containers[0].resources
    assert plan(spec, observed, NOW).actions == [] and resize_conditions(spec, observed) == {}


def test_a_resize_that_wants_a_restart_gets_one() -> None:
    spec, observed = resized(memory="96Mi", restart="memory")
    (kill,) = plan(spec, observed, NOW).actions
    assert isinstance(kill, KillContainer) and kill.message == "Container web resize requires restart"
    spec, observed = resized(restart="memory")
    assert plan(spec, observed, NOW).actions == [ResizeContainer(container("web"))]


def test_a_resize_without_room_waits_and_says_so() -> None:
    spec, observed = resized()
    observed.resize_refusal = Rejection("Deferred", "no room")
    planned = plan(spec, observed, NOW)
    assert planned.actions == [] and planned.wake_at == NOW + 10
    assert resize_conditions(spec, observed) == {"PodResizePending": "Deferred"}


def test_a_resize_that_failed_is_tried_again() -> None:
    spec, observed = resized()
    observed.view("web").resize_trouble = Trouble("Error", "too little", NOW + 2)
    planned = plan(spec, observed, NOW)
    assert planned.actions == [] and planned.wake_at == NOW + 2
    assert resize_conditions(spec, observed) == {"PodResizeInProgress": "Error"}
    assert plan(spec, observed, NOW + 2).actions == [ResizeContainer(container("web"))]


def test_who_has_no_room_for_a_resize() -> None:
    spec, _ = resized()
    other, _ = resized()
    spec.spec.containers[0].resources.requests["cpu"].string = "1500m"
    other.spec.containers[0].resources.requests["cpu"].string = "800m"
    room = {"cpu": 2000, "memory": 1 << 30}
    assert refuse_resize(spec, others=[], allocatable=room) is None
    deferred = refuse_resize(spec, others=[other], allocatable=room)
    assert deferred is not None and (deferred.reason, "used: 800" in deferred.message) == ("Deferred", True)
    never = refuse_resize(spec, others=[], allocatable=room | {"cpu": 1000})
    assert never is not None and never.reason == "Infeasible"


def with_debugger(spec: core.Pod, target: str = "") -> core.Pod:
    ephemeral = spec.spec.ephemeralContainers.add(targetContainerName=target)
    ephemeral.ephemeralContainerCommon.name, ephemeral.ephemeralContainerCommon.image = "debug", "tools:1"
    return spec


def test_an_ephemeral_container_starts_once_whatever_the_others_do() -> None:
    spec = with_debugger(pod("web", init=("init",)))
    observed = ready(container("init"), images=("web", "init", "debug"))
    assert plan(spec, observed, NOW).actions == [StartContainer("debug", 0, 0)]
    observed.view("debug").attempts.append(container("debug", Phase.EXITED, exit_code=3))
    assert plan(spec, observed, NOW + 1000).actions == []


def test_an_ephemeral_container_is_in_the_status_but_makes_no_pod() -> None:
    spec = with_debugger(pod("web"))
    observed = ready(container("web"), container("debug", Phase.EXITED, exit_code=3))
    status = pod_status(spec, observed, NOW, previous=core.PodStatus(), runtime_name="docker", host_ip="")
    assert status.phase == "Running"
    assert [c.name for c in status.containerStatuses] == ["web"]
    (debug,) = status.ephemeralContainerStatuses
    assert (debug.name, debug.state.terminated.exitCode, debug.restartCount) == ("debug", 3, 0)


def test_a_sidecar_has_to_be_started_before_what_follows_and_is_restarted() -> None:
    spec = pod("web", init=("side", "init"), sidecars=("side",), policy="Never")
    observed = ready(container("side"))
    assert plan(spec, observed, NOW).actions == []
    observed.view("side").started = True
    assert plan(spec, observed, NOW).actions == [StartContainer("init", 0, 0)]
    running = ready(container("side", Phase.EXITED, exit_code=0), container("init", Phase.EXITED), container("web"))
    assert plan(spec, running, NOW).actions == [StartContainer("side", 1, 10)]


@pytest.mark.parametrize(
    ("policy", "code", "restarts"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policies(policy: str, code: int, restarts: bool) -> None:
    observed = ready(container("web", Phase.EXITED, exit_code=code))
    actions = plan(pod("web", policy=policy), observed, NOW).actions
    assert (StartContainer("web", 1, 10) in actions) is restarts
    assert (RemoveSandbox(sandbox()) in actions) is not restarts


def test_crash_back_off_doubles_from_the_second_crash() -> None:
    state = container("web", Phase.EXITED, exit_code=1)
    delays = []
    for _ in range(8):
        at, carried = next_backoff(state)
        delays.append(int(at - state.finished_at))
        state = replace(state, backoff_seconds=carried)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]
    long_lived = replace(state, started_at=NOW - 700, finished_at=NOW)
    assert next_backoff(long_lived) == (NOW, 10)


def test_a_container_in_back_off_waits() -> None:
    observed = ready(container("web", Phase.EXITED, exit_code=1, attempt=1, backoff_seconds=10))
    planned = plan(pod("web"), observed, NOW + 1)
    assert planned.actions == [] and planned.wake_at == NOW + 10
    assert plan(pod("web"), observed, NOW + 10).actions == [StartContainer("web", 2, 20)]


def test_a_changed_container_is_killed_to_be_restarted() -> None:
    changed = pod("web")
    changed.spec.containers[0].image = "app:2"
    (kill,) = plan(changed, ready(container("web")), NOW).actions
    assert isinstance(kill, KillContainer) and "definition changed" in kill.message


def test_a_failed_liveness_probe_kills() -> None:
    observed = ready(container("web"))
    observed.view("web").must_die = "Container web failed liveness probe, will be restarted"
    (kill,) = plan(pod("web"), observed, NOW).actions
    assert isinstance(kill, KillContainer) and kill.grace_seconds == 30


def test_a_lost_sandbox_takes_the_whole_pod_with_it() -> None:
    observed = ready(container("web"))
    observed.sandbox = sandbox(running=False)
    (kill,) = plan(pod("web"), observed, NOW).actions
    assert isinstance(kill, KillContainer)
    observed.view("web").attempts[0] = container("web", Phase.EXITED, exit_code=137)
    assert RunSandbox(1) in plan(pod("web"), observed, NOW).actions
    observed.sandbox = sandbox(1)
    # Not a crash: the new sandbox starts it without back-off.
    assert plan(pod("web"), observed, NOW).actions == [StartContainer("web", 1, 0)]


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    spec = pod("web", init=("init",))
    observed = ready(container("init", Phase.EXITED), container("web", Phase.EXITED, exit_code=137))
    observed.sandbox = sandbox(1)
    assert plan(spec, observed, NOW).actions == [StartContainer("init", 1, 0)]


def test_deletion_kills_then_tears_down_then_tells_the_api_server() -> None:
    spec = pod("web", "side")
    spec.metadata.deletionTimestamp.seconds = int(NOW)
    spec.metadata.deletionGracePeriodSeconds = 7
    observed = ready(container("web"), container("side"))
    kills = plan(spec, observed, NOW).actions
    assert all(isinstance(k, KillContainer) and k.grace_seconds == 7 for k in kills) and len(kills) == 2
    for name in ("web", "side"):
        observed.view(name).attempts[0] = container(name, Phase.EXITED)
    assert plan(spec, observed, NOW).actions == [TearDown()]
    observed.torn_down = True
    assert plan(spec, observed, NOW).actions == [DeletePod()]
    observed.gone = True
    assert plan(spec, observed, NOW).finished


def test_sidecars_are_stopped_last() -> None:
    spec = pod("web", init=("side",), sidecars=("side",))
    spec.metadata.deletionTimestamp.seconds = int(NOW)
    observed = ready(container("side"), container("web"))
    (kill,) = plan(spec, observed, NOW).actions
    assert isinstance(kill, KillContainer) and kill.container.name == "web"
    observed.view("web").attempts[0] = container("web", Phase.EXITED)
    spec.metadata.deletionTimestamp.seconds = int(NOW) + 4
    (kill,) = plan(spec, observed, NOW).actions
    assert isinstance(kill, KillContainer) and kill.container.name == "side" and kill.grace_seconds == 4


def test_nothing_is_torn_down_while_something_is_being_started() -> None:
    spec = pod("web")
    spec.metadata.deletionTimestamp.seconds = int(NOW)
    observed = ready()
    observed.inflight = {"container:web"}
    assert plan(spec, observed, NOW).actions == []


def test_old_attempts_are_removed_but_for_the_one_before() -> None:
    attempts = [container("web", attempt=2), *(container("web", Phase.EXITED, attempt=n) for n in (1, 0))]
    assert plan(pod("web"), ready(*attempts), NOW).actions == [RemoveContainer(attempts[2])]


def test_a_deadline_is_when_the_pod_started_plus_its_seconds() -> None:
    spec = pod("web")
    assert deadline(spec, ready()) is None
    spec.spec.activeDeadlineSeconds = 30
    assert deadline(spec, ready()) == NOW + 20
    assert plan(spec, ready(container("web")), NOW).wake_at == NOW + 20


def status(spec: core.Pod, observed: Observed, now: float = NOW) -> core.PodStatus:
    return pod_status(spec, observed, now, previous=spec.status, runtime_name="docker", host_ip="192.0.2.1")


def conditions(spec: core.PodStatus) -> dict[str, str]:
    return {c.type: c.status for c in spec.conditions}


def test_status_of_a_pod_that_waits() -> None:
    observed = Observed(started_at=NOW)
    found = status(pod("web"), observed)
    assert found.phase == "Pending" and found.qosClass == "BestEffort" and found.hostIP == "192.0.2.1"
    assert found.containerStatuses[0].state.waiting.reason == "ContainerCreating"
    assert conditions(found) == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    words = next(c.message for c in found.conditions if c.type == "Ready")
    assert words == "containers with unready status: [web]"


def test_status_of_a_running_pod() -> None:
    observed = ready(container("web"))
    observed.view("web").started = observed.view("web").ready = True
    found = status(pod("web"), observed)
    assert (found.phase, found.podIP, found.podIPs[0].ip) == ("Running", "10.244.1.2", "10.244.1.2")
    one = found.containerStatuses[0]
    assert one.ready and one.started and one.containerID == "docker://web-0"
    assert one.state.running.startedAt.seconds == int(NOW - 5)
    assert set(conditions(found).values()) == {"True"}


def test_status_in_crash_loop() -> None:
    state = container("web", Phase.EXITED, exit_code=3, attempt=3, backoff_seconds=80)
    found = status(pod("web"), ready(state)).containerStatuses[0]
    assert found.state.waiting.reason == "CrashLoopBackOff"
    assert found.state.waiting.message == "back-off 1m20s restarting failed container=web pod=web_default(u1)"
    assert found.lastState.terminated.exitCode == 3 and found.restartCount == 3


def test_status_of_the_image_that_cannot_be_had() -> None:
    observed = ready(images=())
    observed.image_trouble["web"] = Trouble("ImagePullBackOff", 'Back-off pulling image "app:1"', NOW + 10)
    waiting = status(pod("web"), observed).containerStatuses[0].state.waiting
    assert (waiting.reason, waiting.message) == ("ImagePullBackOff", 'Back-off pulling image "app:1"')


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (2, "Failed")])
def test_status_of_a_pod_that_ended(code: int, phase: str) -> None:
    found = status(pod("web", policy="Never"), ready(container("web", Phase.EXITED, exit_code=code)))
    assert found.phase == phase
    assert found.containerStatuses[0].state.terminated.exitCode == code
    assert conditions(found)["Ready"] == "False"


def test_a_failed_init_container_fails_a_pod_that_never_restarts() -> None:
    spec = pod("web", init=("init",), policy="Never")
    found = status(spec, ready(container("init", Phase.EXITED, exit_code=1)))
    assert found.phase == "Failed" and found.initContainerStatuses[0].state.terminated.exitCode == 1


def test_a_pod_with_init_containers_is_initialized_after_them() -> None:
    spec = pod("web", init=("init",))
    before = status(spec, ready(container("init")))
    assert conditions(before)["Initialized"] == "False"
    assert before.containerStatuses[0].state.waiting.reason == "PodInitializing"
    after = status(spec, ready(container("init", Phase.EXITED), container("web")))
    assert conditions(after)["Initialized"] == "True" and after.initContainerStatuses[0].ready


def test_a_rejected_pod_has_failed() -> None:
    observed = Observed(rejection=Rejection("OutOfcpu", "too much"), started_at=NOW)
    found = status(pod("web"), observed)
    assert (found.phase, found.reason, found.message) == ("Failed", "OutOfcpu", "too much")


def test_conditions_keep_their_transition_time() -> None:
    observed = ready(container("web"))
    spec = pod("web")
    spec.status.CopyFrom(status(spec, observed))
    later = status(spec, observed, NOW + 100)
    assert {c.lastTransitionTime.seconds for c in later.conditions} == {int(NOW)}
    gate = spec.status.conditions.add(type="example.com/gate", status="True")
    assert gate in status(spec, observed).conditions
