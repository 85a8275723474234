"""PodManager: the pods of this node and their workers.

It follows the API server's pods (an informer on spec.nodeName) and the runtime's events, keeps one worker per pod uid,
gives a new kubelet's workers what still runs from before, and removes what belongs to no pod any more.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import structlog

from services.kubelet import metrics
from services.kubelet.admission import admit
from services.kubelet.observed import Observed, Rejection
from services.kubelet.pod_actions import Tools
from services.kubelet.pod_worker import PodWorker
from services.kubelet.resizing import refuse_resize
from services.kubelet.runtime.interface import (
    ContainerState,
    EventKind,
    Inventory,
    Phase,
    RuntimeEvent,
    RuntimeFailure,
    SandboxState,
)
from services.kubelet.status_manager import StatusManager
from services.kubelet.volumes.manager import remove_tree
from tillerman.client.client import Client
from tillerman.client.informer import Informer
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
# Exits come as events; this only catches what should not happen.
_SAFETY_RELIST_SECONDS = 300.0
_ORPHAN_GRACE_LIMIT = 30.0


class PodManager:
    def __init__(
        self,
        *,
        tools: Tools,
        statuses: StatusManager,
        client: Client,
        informer: Informer[core.Pod],
        node_labels: Callable[[], Mapping[str, str]],
        pods_dir_uids: Callable[[], Iterable[str]],
    ) -> None:
        self._tools = tools
        self._statuses = statuses
        self._client = client
        self._informer = informer
        self._node_labels = node_labels
        self._pods_dir_uids = pods_dir_uids
        self.workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._orphans: dict[str, asyncio.Task[None]] = {}
        self._found: dict[str, Observed] = {}
        # Told when a pod has left the node.
        self.on_pod_gone: Callable[[core.Pod], None] = lambda _: None

    def pods(self) -> Iterable[tuple[core.Pod, Observed]]:
        return [(worker.pod, worker.observed) for worker in self.workers.values()]

    def worker_of(self, namespace: str, name: str) -> PodWorker | None:
        """The newest one of that name."""
        named = [
            w for w in self.workers.values() if (w.pod.metadata.namespace, w.pod.metadata.name) == (namespace, name)
        ]
        alive = [w for w in named if not w.observed.gone]
        return next(reversed(alive or named), None)

    async def run(self) -> None:
        """Until cancelled. Needs the runtime started; waits for the informer's first list."""
        try:
            await self._informer.synced.wait()
            inventory = await self._inventory()
            self._recover(inventory)
            # Handlers that are added late are told of what is there at once.
            self._informer.add_handler(on_add=self._added, on_update=self._updated, on_delete=self._deleted)
            for uid in list(self._found):
                self._remove_orphan(uid)
            await self._clean_directories()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_runtime(), name="runtime-events")
                group.create_task(self._relist_safely(), name="safety-relist")
        finally:
            await self.close()

    async def close(self) -> None:
        """Stops the workers; pods keep running."""
        tasks = [*self._tasks.values(), *self._orphans.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def network_changed(self) -> None:
        """The node got its podCIDR: addresses of what runs are taken already."""
        pool = self._tools.node.addresses
        if pool is not None:
            for sandbox in self._sandboxes():
                if sandbox.ip:
                    pool.reserve(sandbox.ip)
        for worker in self.workers.values():
            worker.wake()

    def _sandboxes(self) -> Iterable[SandboxState]:
        for observed in [*(w.observed for w in self.workers.values()), *self._found.values()]:
            if observed.sandbox is not None:
                yield observed.sandbox
            yield from observed.old_sandboxes

    async def _inventory(self) -> Inventory:
        while True:
            try:
                return await self._tools.runtime.inventory()
            except RuntimeFailure as error:
                log.warning("runtime_inventory_failed", error=str(error))
                await self._tools.clock.sleep(1.0)

    def _recover(self, inventory: Inventory) -> None:
        """What runs on this node, by pod."""
        sandboxes: dict[str, list[SandboxState]] = defaultdict(list)
        containers: dict[str, list[ContainerState]] = defaultdict(list)
        for sandbox in inventory.sandboxes:
            sandboxes[sandbox.pod.uid].append(sandbox)
        for container in inventory.containers:
            containers[container.pod.uid].append(container)
        for uid in {*sandboxes, *containers}:
            self._found[uid] = observed_of(sandboxes[uid], containers[uid])
        self.network_changed()

    def _added(self, pod: core.Pod) -> None:
        uid = pod.metadata.uid
        if uid in self.workers:
            self._updated(pod, pod)
            return
        observed = self._found.pop(uid, None) or Observed()
        over = pod.status.phase in ("Succeeded", "Failed") and not pod.metadata.HasField("deletionTimestamp")
        if over and not observed.containers and observed.sandbox is None:
            # Nothing of it is left here.
            return
        worker = PodWorker(
            pod,
            observed,
            tools=self._tools,
            statuses=self._statuses,
            client=self._client,
            admit=self._admit,
            refuse_resize=self._refuse_resize,
        )
        self.workers[uid] = worker
        metrics.DESIRED_PODS.set(len(self.workers))
        task = asyncio.create_task(
            self._run_worker(uid, worker), name=f"pod {pod.metadata.namespace}/{pod.metadata.name}"
        )
        self._tasks[uid] = task

    async def _run_worker(self, uid: str, worker: PodWorker) -> None:
        try:
            await worker.run()
        except asyncio.CancelledError:
            raise
        except Exception:
            # One pod's defect must not end the others; what runs is taken over by a new worker.
            log.exception("pod_worker_failed", pod=worker.pod.metadata.name)
            await self._tools.clock.sleep(5.0)
            self._forget(uid)
            pod = self._informer.get(f"{worker.pod.metadata.namespace}/{worker.pod.metadata.name}")
            inventory = await self._inventory()
            self._recover(_only(inventory, uid))
            if pod is not None and pod.metadata.uid == uid:
                self._added(pod)
            elif uid in self._found:
                self._remove_orphan(uid)
            return
        self._forget(uid)

    def _forget(self, uid: str) -> None:
        worker = self.workers.pop(uid, None)
        if worker is not None:
            self.on_pod_gone(worker.pod)
        self._tasks.pop(uid, None)
        self._statuses.forget(uid)
        metrics.DESIRED_PODS.set(len(self.workers))
        self._count()

    def _updated(self, old: core.Pod, new: core.Pod) -> None:
        if old.metadata.uid != new.metadata.uid:
            self._deleted(old)
            self._added(new)
            return
        worker = self.workers.get(new.metadata.uid)
        if worker is None:
            if new.metadata.HasField("deletionTimestamp"):
                self._added(new)
            return
        worker.update(new)
        self._statuses.correct(new)

    def _deleted(self, pod: core.Pod) -> None:
        worker = self.workers.get(pod.metadata.uid)
        if worker is not None:
            worker.gone()

    def _others(self, pod: core.Pod) -> list[core.Pod]:
        """The other pods of the node that have not ended."""
        return [
            worker.pod
            for uid, worker in self.workers.items()
            if uid != pod.metadata.uid
            and worker.observed.rejection is None
            and worker.pod.status.phase not in ("Succeeded", "Failed")
        ]

    def _refuse_resize(self, pod: core.Pod) -> Rejection | None:
        return refuse_resize(pod, others=self._others(pod), allocatable=self._tools.node.allocatable)

    def _admit(self, pod: core.Pod) -> Rejection | None:
        node = self._tools.node
        return admit(
            pod,
            active=self._others(pod),
            allocatable=node.allocatable,
            node_labels=self._node_labels(),
            node_name=node.name,
        )

    async def _follow_runtime(self) -> None:
        async for event in self._tools.runtime.events():
            if event.kind is EventKind.RESYNC:
                await self._resync()
                continue
            worker = self.workers.get(event.pod_uid)
            if worker is not None:
                await worker.runtime_event(event)
            self._count()

    async def _relist_safely(self) -> None:
        while True:
            await self._tools.clock.sleep(_SAFETY_RELIST_SECONDS)
            await self._resync()

    async def _resync(self) -> None:
        """Compares what is thought to run with what does, and tells the workers of the difference."""
        known = {
            state.id: worker
            for worker in self.workers.values()
            for view in worker.observed.containers.values()
            for state in view.attempts
            if state.phase is Phase.RUNNING
        }
        known_sandboxes = {
            worker.observed.sandbox.id: worker
            for worker in self.workers.values()
            if worker.observed.sandbox is not None and worker.observed.sandbox.running
        }
        inventory = await self._inventory()
        states = {state.id: state for state in inventory.containers}
        running_sandboxes = {sandbox.id for sandbox in inventory.sandboxes if sandbox.running}
        for container_id, worker in known.items():
            state = states.get(container_id)
            uid = worker.pod.metadata.uid
            if state is None:
                await worker.runtime_event(RuntimeEvent(EventKind.CONTAINER_REMOVED, uid, container_id))
            elif state.phase is Phase.EXITED:
                await worker.runtime_event(
                    RuntimeEvent(
                        EventKind.CONTAINER_EXITED,
                        uid,
                        container_id,
                        exit_code=state.exit_code,
                        finished_at=state.finished_at,
                        reason=state.reason,
                        message=state.message,
                    )
                )
        for sandbox_id, worker in known_sandboxes.items():
            if sandbox_id not in running_sandboxes:
                await worker.runtime_event(RuntimeEvent(EventKind.SANDBOX_EXITED, worker.pod.metadata.uid, sandbox_id))
        uids = {sandbox.pod.uid for sandbox in inventory.sandboxes} | {state.pod.uid for state in inventory.containers}
        for uid in uids:
            if uid not in self.workers and uid not in self._orphans and not self._known_to_server(uid):
                self._recover(_only(inventory, uid))
                self._remove_orphan(uid)
        self._count()

    def _known_to_server(self, uid: str) -> bool:
        return any(pod.metadata.uid == uid for pod in self._informer.list())

    def _count(self) -> None:
        running = sum(w.observed.sandbox is not None and w.observed.sandbox.running for w in self.workers.values())
        metrics.RUNNING_PODS.set(running)
        phases = {"running": 0, "exited": 0, "created": 0}
        for worker in self.workers.values():
            for view in worker.observed.containers.values():
                for state in view.attempts:
                    phases[state.phase.value] += 1
        for phase, number in phases.items():
            metrics.RUNNING_CONTAINERS.labels(phase).set(number)

    def _remove_orphan(self, uid: str) -> None:
        """Of a pod that the API server does not have (any more): stopped gently, then removed."""
        observed = self._found.pop(uid, None)
        if observed is None or uid in self._orphans:
            return
        task = asyncio.create_task(self._clean_up(uid, observed), name=f"orphan {uid}")
        self._orphans[uid] = task
        task.add_done_callback(lambda _: self._orphans.pop(uid, None))

    async def _clean_up(self, uid: str, observed: Observed) -> None:
        runtime, clock = self._tools.runtime, self._tools.clock
        states = [state for view in observed.containers.values() for state in view.attempts]
        sandboxes = [*observed.old_sandboxes, *([observed.sandbox] if observed.sandbox else [])]
        log.info("removing_orphan", uid=uid, containers=len(states))
        grace = min(max((s.grace_seconds for s in sandboxes), default=1), _ORPHAN_GRACE_LIMIT)
        try:
            running = [state.id for state in states if state.phase is Phase.RUNNING]
            for container_id in running:
                await runtime.signal_container(container_id, "")
            deadline = clock.monotonic() + grace
            while running and clock.monotonic() < deadline:
                await clock.sleep(0.25)
                alive = {c.id for c in (await runtime.inventory()).containers if c.phase is Phase.RUNNING}
                running = [container_id for container_id in running if container_id in alive]
            for state in states:
                await runtime.remove_container(state.id)
            for sandbox in sandboxes:
                await runtime.remove_sandbox(sandbox.id)
                if self._tools.node.addresses is not None:
                    self._tools.node.addresses.release(sandbox.ip)
            await self._tools.volumes.unmount(uid)
        except RuntimeFailure as error:
            # The safety relist finds it again.
            log.warning("orphan_not_removed", uid=uid, error=str(error))

    async def _clean_directories(self) -> None:
        """Directories of pods that are neither known nor running."""
        for uid in list(self._pods_dir_uids()):
            if uid not in self.workers and uid not in self._orphans and not self._known_to_server(uid):
                await asyncio.to_thread(remove_tree, self._tools.volumes.pod_dir(uid))


def observed_of(sandboxes: list[SandboxState], containers: list[ContainerState]) -> Observed:
    """What a new kubelet finds of one pod."""
    observed = Observed()
    ordered = sorted(sandboxes, key=lambda sandbox: sandbox.attempt)
    if ordered:
        observed.sandbox, observed.old_sandboxes = ordered[-1], ordered[:-1]
    for state in sorted(containers, key=lambda container: -container.attempt):
        observed.view(state.name).attempts.append(state)
    return observed


def _only(inventory: Inventory, uid: str) -> Inventory:
    return Inventory(
        tuple(sandbox for sandbox in inventory.sandboxes if sandbox.pod.uid == uid),
        tuple(state for state in inventory.containers if state.pod.uid == uid),
    )
