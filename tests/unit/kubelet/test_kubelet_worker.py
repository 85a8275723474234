"""Pod workers over the hollow runtime under virtual time: starts, crashes, probes, termination, recovery."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.kubelet.addresses import AddressPool
from services.kubelet.images import ImageManager
from services.kubelet.observed import Observed
from services.kubelet.pod_actions import NodeFacts, Tools
from services.kubelet.pod_files import ClusterDns
from services.kubelet.pod_manager import PodManager, observed_of
from services.kubelet.pod_worker import PodWorker
from services.kubelet.prober import ProbeCounter
from services.kubelet.references import References
from services.kubelet.runtime.hollow import HollowRuntime
from services.kubelet.runtime.interface import Phase
from services.kubelet.status_manager import StatusManager
from services.kubelet.volumes.manager import VolumeManager
from tillerman.api.codec import from_dict, to_dict
from tillerman.client.clock import FakeClock
from tillerman.pb.k8s import core_v1_pb2 as core


class Api:
    """The API server as far as workers need it: deletions and status patches, noted."""

    def __init__(self) -> None:
        self.deleted: list[tuple[str, int | None]] = []
        self.patches: list[dict[str, Any]] = []

    def resource(self, _: object) -> "Api":
        return self

    async def delete(self, name: str, namespace: str, *, grace_period_seconds: int, uid: str) -> None:
        self.deleted.append((name, grace_period_seconds))

    async def batch(self, operations: list[Any]) -> list[core.Pod]:
        self.patches += [operation.operation for operation in operations]
        return [core.Pod() for _ in operations]


class Threads(ThreadPoolExecutor):
    """The loop's threads; `busy` counts what they have not finished."""

    def __init__(self) -> None:
        super().__init__(max_workers=4)
        self.busy = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.busy += 1
        future = super().submit(*args, **kwargs)
        future.add_done_callback(lambda _: self._finished())
        return future

    def _finished(self) -> None:
        self.busy -= 1


class Node:
    """One node with a hollow runtime; `pods` stands for the informer."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = FakeClock()
        self.threads = Threads()
        self.runtime = HollowRuntime(clock=self.clock)
        self.api = Api()
        client = cast(Any, self.api)
        self.events: list[tuple[str, str]] = []
        references = References(client, clock=self.clock)
        self.statuses = StatusManager(client, clock=self.clock)
        self.tools = Tools(
            runtime=self.runtime,
            images=ImageManager(self.runtime, references),
            volumes=VolumeManager(client, references, pods_dir=tmp_path, clock=self.clock, allocatable={}),
            references=references,
            node=NodeFacts("n1", "192.0.2.1", 1 << 30, {"cpu": 4000, "pods": 110}, ClusterDns((), "x", ""), ""),
            clock=self.clock,
            record=lambda pod, kind, reason, message, path: self.events.append((reason, message)),
            services=list,
        )
        self.tools.node.addresses = AddressPool("10.244.1.0/24")
        informer: Any = SimpleNamespace(synced=asyncio.Event(), list=list, get=lambda key: None)
        informer.synced.set()
        informer.add_handler = self._handlers
        self.add: Callable[[core.Pod], None] = lambda pod: None
        self.update: Callable[[core.Pod, core.Pod], None] = lambda old, new: None
        self.delete: Callable[[core.Pod], None] = lambda pod: None
        self.manager = PodManager(
            tools=self.tools,
            statuses=self.statuses,
            client=client,
            informer=informer,
            node_labels=dict,
            pods_dir_uids=list,
        )
        self._tasks: list[asyncio.Task[None]] = []
        # What the API server has when the kubelet starts.
        self.initial: list[core.Pod] = []

    def _handlers(self, *, on_add: Any, on_update: Any, on_delete: Any) -> None:
        self.add, self.update, self.delete = on_add, on_update, on_delete
        for pod in self.initial:
            on_add(pod)

    async def start(self) -> None:
        asyncio.get_running_loop().set_default_executor(self.threads)
        self._tasks = [asyncio.create_task(self.manager.run()), asyncio.create_task(self.statuses.run())]
        await self.settle()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settle(self, seconds: float = 0.0) -> None:
        """Lets everything happen: until twenty turns have passed in which no thread was at work on files."""
        idle = 0
        while idle < 20:
            await asyncio.sleep(0.001)
            await self.clock.advance(0)
            idle = 0 if self.threads.busy else idle + 1
        if seconds:
            await self.clock.advance(seconds)
            await self.settle()

    def worker(self, uid: str = "u1") -> PodWorker:
        return self.manager.workers[uid]

    def status(self, uid: str = "u1") -> core.PodStatus:
        return self.statuses.last(self.worker(uid).pod)

    def running(self, name: str = "c") -> str:
        """The id of the container that runs."""
        state = self.worker().observed.view(name).latest
        assert state is not None and state.phase is Phase.RUNNING
        return state.id

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events]


def make_pod(**spec: object) -> core.Pod:
    meta = {"name": "web", "namespace": "default", "uid": "u1"}
    full = {"containers": [{"name": "c", "image": "app:1"}], **spec}
    found = from_dict({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": full})
    assert isinstance(found, core.Pod)
    return found


def deleted(pod: core.Pod, grace: int = 30) -> core.Pod:
    copy = core.Pod.FromString(pod.SerializeToString())
    copy.metadata.deletionTimestamp.seconds = 1_700_000_000
    copy.metadata.deletionGracePeriodSeconds = grace
    return copy


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_a_pod_runs_and_says_so(node: Node) -> None:
    node.add(make_pod())
    await node.settle()
    status = node.status()
    assert (status.phase, status.podIP) == ("Running", "10.244.1.2")
    assert status.containerStatuses[0].ready
    assert node.reasons() == ["Pulled", "Created", "Started"]
    assert node.runtime.calls["run_sandbox"] == node.runtime.calls["run_container"] == 1
    assert node.api.patches


async def test_a_crash_restarts_at_once_then_backs_off(node: Node) -> None:
    node.add(make_pod())
    await node.settle()
    node.runtime.finish(node.running(), 1)
    await node.settle()
    assert node.status().containerStatuses[0].restartCount == 1
    node.runtime.finish(node.running(), 1)
    await node.settle()
    waiting = node.status().containerStatuses[0].state.waiting
    assert waiting.reason == "CrashLoopBackOff" and waiting.message.startswith("back-off 10s")
    await node.settle(9)
    assert node.status().containerStatuses[0].restartCount == 1
    await node.settle(1.1)
    assert node.status().containerStatuses[0].restartCount == 2
    assert "BackOff" in node.reasons()


async def test_deletion_is_told_to_the_api_server_when_nothing_is_left(node: Node) -> None:
    node.add(pod := make_pod())
    await node.settle()
    node.update(pod, deleted(pod))
    await node.settle()
    assert node.api.deleted == [("web", 0)]
    assert not node.runtime.containers and not node.runtime.sandboxes and not node.manager.workers
    assert "Killing" in node.reasons() and len(node.tools.node.addresses or ()) == 0


async def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(node: Node) -> None:
    heard: list[str] = []

    async def deaf(container_id: str, signal: str) -> None:
        heard.append(signal)
        if signal == "SIGKILL":
            node.runtime.finish(container_id, 137)

    node.runtime.signal_container = deaf  # type: ignore[method-assign]
    node.add(pod := make_pod())
    await node.settle()
    node.update(pod, deleted(pod, 5))
    await node.settle(4.9)
    assert heard == [""] and not node.api.deleted
    await node.settle(0.2)
    assert heard == ["", "SIGKILL"] and node.api.deleted


async def test_a_pod_deleted_by_force_goes_quickly(node: Node) -> None:
    async def deaf(container_id: str, signal: str) -> None:
        if signal == "SIGKILL":
            node.runtime.finish(container_id, 137)

    node.runtime.signal_container = deaf  # type: ignore[method-assign]
    node.add(pod := make_pod())
    await node.settle()
    node.delete(pod)
    await node.settle(1.1)
    assert not node.manager.workers and not node.api.deleted


async def test_an_image_that_is_not_there(node: Node) -> None:
    node.runtime.missing_images["app:1"] = "manifest unknown"
    node.add(make_pod())
    await node.settle()
    waiting = node.status().containerStatuses[0].state.waiting
    assert (waiting.reason, waiting.message) == ("ErrImagePull", "manifest unknown")
    await node.settle(1.1)
    waiting = node.status().containerStatuses[0].state.waiting
    assert waiting.reason == "ImagePullBackOff" and "manifest unknown" in waiting.message
    del node.runtime.missing_images["app:1"]
    await node.settle(10)
    assert node.status().phase == "Running"
    assert node.reasons()[:3] == ["Pulling", "Failed", "Failed"] and "BackOff" in node.reasons()


async def test_a_lost_sandbox_is_replaced(node: Node) -> None:
    node.add(make_pod())
    await node.settle()
    node.runtime.lose_sandbox(next(iter(node.runtime.sandboxes)))
    await node.settle()
    assert node.status().containerStatuses[0].restartCount == 1
    assert len(node.runtime.sandboxes) == 1 and "SandboxChanged" in node.reasons()


async def test_a_pod_that_does_not_fit_has_failed(node: Node) -> None:
    node.add(make_pod(containers=[{"name": "c", "image": "a:1", "resources": {"requests": {"cpu": "5"}}}]))
    await node.settle()
    assert (node.status().phase, node.status().reason) == ("Failed", "OutOfcpu")
    assert not node.runtime.sandboxes


async def test_an_active_deadline_ends_the_pod(node: Node) -> None:
    node.add(make_pod(activeDeadlineSeconds=5))
    await node.settle()
    await node.settle(5.1)
    assert (node.status().phase, node.status().reason) == ("Failed", "DeadlineExceeded")
    assert not node.runtime.sandboxes


async def test_a_pod_that_runs_to_completion(node: Node) -> None:
    node.add(make_pod(restartPolicy="Never"))
    await node.settle()
    node.runtime.finish(node.running(), 0)
    await node.settle()
    assert node.status().phase == "Succeeded" and not node.runtime.sandboxes
    # Its container stays for its logs.
    assert len(node.runtime.containers) == 1


async def test_a_new_kubelet_takes_over_what_runs(node: Node, tmp_path: Path) -> None:
    node.add(pod := make_pod())
    await node.settle()
    node.runtime.finish(node.running(), 1)
    await node.settle()
    await node.stop()
    second = Node(tmp_path)
    second.runtime = second.tools.runtime = node.runtime
    second.initial = [pod]
    await second.start()
    await second.settle()
    assert second.status().containerStatuses[0].restartCount == 1
    assert node.runtime.calls["run_container"] == 2 and second.status().podIP == "10.244.1.2"
    await second.stop()


async def test_a_new_kubelet_takes_readiness_over(node: Node, tmp_path: Path) -> None:
    probe = {"readinessProbe": {"exec": {"command": ["x"]}, "initialDelaySeconds": 3600}}
    node.add(pod := make_pod(containers=[{"name": "c", "image": "app:1", **probe}]))
    await node.settle()
    assert not node.status().containerStatuses[0].ready
    pod.status.CopyFrom(node.status())
    pod.status.containerStatuses[0].ready = True
    await node.stop()
    second = Node(tmp_path)
    second.runtime = second.tools.runtime = node.runtime
    second.initial = [pod]
    await second.start()
    await second.settle()
    assert second.status().containerStatuses[0].ready
    await second.stop()


async def test_what_belongs_to_no_pod_is_removed(node: Node, tmp_path: Path) -> None:
    node.add(make_pod())
    await node.settle()
    await node.stop()
    second = Node(tmp_path)
    second.runtime = second.tools.runtime = node.runtime
    await second.start()
    await second.settle(1)
    assert not node.runtime.containers and not node.runtime.sandboxes
    await second.stop()


async def test_a_missing_config_map_keeps_the_pod_waiting(node: Node) -> None:
    async def no_config_map(namespace: str, name: str) -> None:
        return None

    node.tools.references.config_maps.get = no_config_map  # type: ignore[method-assign]
    node.tools.references.config_maps.watch = lambda *_: None  # type: ignore[method-assign]
    node.add(make_pod(volumes=[{"name": "v", "configMap": {"name": "cm"}}]))
    await node.settle()
    assert node.status().phase == "Pending"
    assert ("FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "cm" not found') in node.events


async def test_probes_decide_on_readiness_and_life(node: Node) -> None:
    outcomes = {"ready": 1, "alive": 0}

    async def run_exec(container_id: str, command: list[str], *, stdin: bool, tty: bool) -> Any:
        async def nothing() -> AsyncIterator[Any]:
            nothing_at_all: tuple[Any, ...] = ()
            for part in nothing_at_all:
                yield part

        async def code() -> int:
            return outcomes[command[0]]

        async def close() -> None:
            return None

        return SimpleNamespace(output=nothing, exit_code=code, close=close)

    node.runtime.exec = run_exec  # type: ignore[assignment,method-assign]
    probes = {
        "readinessProbe": {"exec": {"command": ["ready"]}, "periodSeconds": 2},
        "livenessProbe": {"exec": {"command": ["alive"]}, "periodSeconds": 5, "failureThreshold": 2},
    }
    node.add(make_pod(containers=[{"name": "c", "image": "app:1", **probes}]))
    await node.settle()
    assert not node.status().containerStatuses[0].ready
    outcomes["ready"] = 0
    await node.settle(2.1)
    assert node.status().containerStatuses[0].ready
    outcomes["ready"] = 1
    await node.settle(6.1)
    assert not node.status().containerStatuses[0].ready
    outcomes["alive"] = 1
    await node.settle(10.1)
    assert node.status().containerStatuses[0].restartCount == 1
    assert "Unhealthy" in node.reasons()
    assert any("failed liveness probe, will be restarted" in message for _, message in node.events)


def test_thresholds_count_streaks() -> None:
    counter = ProbeCounter(2, 3)
    assert [counter.count(ok) for ok in (True, True, False, False, True, False, False, False)] == [
        None,
        True,
        True,
        True,
        True,
        True,
        True,
        False,
    ]


async def test_a_status_is_sent_only_when_it_changed(node: Node) -> None:
    node.add(make_pod())
    await node.settle()
    sent = len(node.api.patches)
    for _ in range(5):
        node.worker().wake()
        await node.settle()
    assert len(node.api.patches) == sent
    assert to_dict(node.status())["phase"] == "Running"


def test_what_is_found_is_ordered_by_attempt() -> None:
    assert observed_of([], []) == Observed()
