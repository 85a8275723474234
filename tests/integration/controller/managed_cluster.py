"""The manager over a real apiserver and etcd, and stand-ins for scheduler and kubelets."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog

from services.controller.manager import Manager
from services.controller.options import ControllerManagerOptions
from services.controller.registry import available, load
from tillerman.api.status import StatusError
from tillerman.api.times import now
from tillerman.client import Client
from tillerman.client.clock import RealClock
from tillerman.client.informer import InformerFactory
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import coordination_v1_pb2 as coordination
from tillerman.pb.k8s import core_v1_pb2 as core


class FakeNodes:
    """Places every pod, runs it at once, and ends it when it is deleted. `hold` keeps new pods from getting ready."""

    def __init__(self, client: Client, names: list[str]) -> None:
        self.client = client
        self.names = names
        self.hold = False
        self.silent: set[str] = set()
        self.started = 0
        self._turn = 0
        self._factory = InformerFactory(client)
        self.pods = self._factory.informer(core.Pod)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        nodes = self.client.resource(core.Node)
        for name in self.names:
            node = core.Node()
            node.metadata.name = name
            node.status.conditions.add(type="Ready", status="True", lastHeartbeatTime=now())
            node.status.addresses.add(type="InternalIP", address="127.0.0.1")
            with contextlib.suppress(StatusError):
                created = await nodes.create(node)
                node.metadata.resourceVersion = created.metadata.resourceVersion
                node.spec.CopyFrom(created.spec)
                await nodes.update_status(node)
        self.pods.add_handler(on_add=self._seen, on_update=lambda _, pod: self._seen(pod))
        async with asyncio.TaskGroup() as group:
            await self._factory.start(group)
            group.create_task(self._beat())

    def _seen(self, pod: core.Pod) -> None:
        task = asyncio.get_running_loop().create_task(self._step(pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _step(self, pod: core.Pod) -> None:
        pods = self.client.resource(core.Pod)
        with contextlib.suppress(StatusError):
            if pod.metadata.HasField("deletionTimestamp"):
                if pod.spec.nodeName not in self.silent:
                    meta = pod.metadata
                    await pods.delete(meta.name, meta.namespace, grace_period_seconds=0, uid=meta.uid)
            elif not pod.spec.nodeName:
                self._turn += 1
                choices = [name for name in self.names if name not in self.silent]
                binding = core.Binding()
                binding.metadata.name, binding.metadata.namespace = pod.metadata.name, pod.metadata.namespace
                binding.target.kind, binding.target.name = "Node", choices[self._turn % len(choices)]
                await pods.subresource_create(pod.metadata.name, pod.metadata.namespace, "binding", binding)
            elif pod.status.phase in ("", "Pending") and not self.hold and pod.spec.nodeName in self.names:
                self.started += 1
                await pods.update_status(running(pod, self.started))

    async def _beat(self) -> None:
        leases = self.client.resource(coordination.Lease)
        while True:
            for name in [name for name in self.names if name not in self.silent]:
                lease = coordination.Lease()
                lease.metadata.name, lease.metadata.namespace = name, "kube-node-lease"
                lease.spec.holderIdentity = name
                moment = now()
                lease.spec.renewTime.seconds, lease.spec.renewTime.nanos = moment.seconds, moment.nanos
                try:
                    lease.metadata.resourceVersion = (
                        await leases.get(name, "kube-node-lease")
                    ).metadata.resourceVersion
                    await leases.update(lease)
                except StatusError:
                    lease.metadata.ClearField("resourceVersion")
                    with contextlib.suppress(StatusError):
                        await leases.create(lease)
            await asyncio.sleep(1.0)


def running(pod: core.Pod, number: int) -> core.Pod:
    changed = core.Pod()
    changed.CopyFrom(pod)
    changed.status.phase = "Running"
    changed.status.podIP = f"10.244.{number // 250}.{number % 250 + 1}"
    changed.status.podIPs.add(ip=changed.status.podIP)
    changed.status.startTime.CopyFrom(now())
    changed.status.conditions.add(type="Ready", status="True", lastTransitionTime=now())
    return changed


class Cluster:
    """What a test needs: a namespace of its own, the client, the nodes."""

    def __init__(self, client: Client, nodes: FakeNodes, manager: Manager, namespace: str) -> None:
        self.client = client
        self.nodes = nodes
        self.manager = manager
        self.namespace = namespace

    async def pods(self, **labels: str) -> list[core.Pod]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = await self.client.resource(core.Pod).list(self.namespace, label_selector=selector)
        return [pod for pod in found.items if not pod.metadata.HasField("deletionTimestamp")]

    async def deployment(self, name: str) -> apps.Deployment:
        return await self.client.resource(apps.Deployment).get(name, self.namespace)

    async def until(self, check: Callable[[], Awaitable[Any]], seconds: float = 15.0) -> Any:
        """The first truthy result; an error of the API counts as not yet."""
        result: Any = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with contextlib.suppress(StatusError):
                        result = await check()
                        if result:
                            return result
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"did not come true within {seconds} s; last was {result!r}") from None


def options(**changed: Any) -> ControllerManagerOptions:
    return ControllerManagerOptions(insecure=True, **changed)


@contextlib.asynccontextmanager
async def managing(client: Client, chosen: ControllerManagerOptions) -> AsyncIterator[Manager]:
    """A leading manager; it is cancelled at the end, as a killed process would be."""
    manager = Manager(
        client=client,
        clock=RealClock(),
        options=chosen,
        log=structlog.get_logger(),
        classes={name: load(reference) for name, reference in available().items()},
        identity=f"test-{uuid.uuid4().hex[:6]}",
    )

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            await manager.start(group)

    task = asyncio.create_task(run())
    try:
        yield manager
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
