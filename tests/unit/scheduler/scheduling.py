"""A scheduler with recorded writes and events, under virtual time."""

import random
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from services.scheduler.framework import Profile
from services.scheduler.observer import Observer
from services.scheduler.queue import SchedulingQueue
from services.scheduler.scheduler import Scheduler
from services.scheduler.snapshot import Snapshot
from services.scheduler.template import PodInfo, TemplateCache
from tillerman.api.status import StatusError
from tillerman.client.clock import FakeClock
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import policy_v1_pb2 as policy

GIB = 1024**3


def make_node(
    name: str,
    *,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: str = "110",
    labels: dict[str, str] | None = None,
    taints: tuple[tuple[str, str, str], ...] = (),
    unschedulable: bool = False,
    **resources: str,
) -> core.Node:
    node = core.Node()
    node.metadata.name = name
    node.metadata.labels["kubernetes.io/hostname"] = name
    node.metadata.labels.update(labels or {})
    for resource, amount in {"cpu": cpu, "memory": memory, "pods": pods, **resources}.items():
        node.status.allocatable[resource].string = amount
    for key, value, effect in taints:
        node.spec.taints.add(key=key, value=value, effect=effect)
    if unschedulable:
        node.spec.unschedulable = True
    return node


def make_pod(
    name: str,
    *,
    cpu: str = "",
    memory: str = "",
    labels: dict[str, str] | None = None,
    namespace: str = "default",
    owner: str = "",
    priority: int = 0,
    node: str = "",
    host_port: int = 0,
    image: str = "app:1",
    uid: str = "",
    change: Callable[[core.Pod], Any] | None = None,
    **resources: str,
) -> core.Pod:
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace, pod.metadata.uid = name, namespace, uid or f"uid-{name}"
    pod.metadata.labels.update(labels or {})
    pod.spec.schedulerName = "default-scheduler"
    pod.spec.priority = priority
    pod.spec.nodeName = node
    if owner:
        pod.metadata.ownerReferences.add(kind="ReplicaSet", name=owner, uid=owner, controller=True)
    container = pod.spec.containers.add(name="app", image=image)
    for resource, amount in {"cpu": cpu, "memory": memory, **resources}.items():
        if amount:
            container.resources.requests[resource].string = amount
    if host_port:
        container.ports.add(containerPort=host_port, hostPort=host_port, protocol="TCP")
    if change is not None:
        change(pod)
    return pod


class RecordedWrites:
    def __init__(self) -> None:
        self.bindings: list[tuple[PodInfo, Callable[[StatusError | None], None]]] = []
        self.unschedulable: list[tuple[str, str, str, str]] = []
        self.evicted: list[str] = []

    def bind(self, info: PodInfo, outcome: Callable[[StatusError | None], None]) -> None:
        self.bindings.append((info, outcome))

    def mark_unschedulable(self, pod: core.Pod, message: str, *, reason: str = "Unschedulable", node: str = "") -> None:
        self.unschedulable.append((pod.metadata.name, message, reason, node))

    def evict(self, victim: PodInfo, why: str) -> None:
        self.evicted.append(victim.pod.metadata.name)

    @property
    def placements(self) -> dict[str, str]:
        return {info.pod.metadata.name: info.node for info, _ in self.bindings}


class RecordedEvents:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def event(self, obj: Message, type: str, reason: str, message: str) -> None:
        assert isinstance(obj, core.Pod)
        self.events.append((obj.metadata.name, reason, message))


class Bench:
    """Everything together."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.profile = Profile.default(rng=random.Random(1))
        self.snapshot = Snapshot()
        self.templates = TemplateCache()
        self.queue = SchedulingQueue(self.clock, self.profile.may_help)
        self.writes = RecordedWrites()
        self.events = RecordedEvents()
        self.budgets: list[policy.PodDisruptionBudget] = []
        self.scheduler = Scheduler(
            name="default-scheduler",
            profile=self.profile,
            snapshot=self.snapshot,
            queue=self.queue,
            writer=self.writes,
            recorder=self.events,
            clock=self.clock,
            budgets=lambda: self.budgets,
        )
        self.observer = Observer(self.scheduler, self.templates)

    def nodes(self, *nodes: core.Node) -> None:
        for node in nodes:
            self.observer.node_set(node)

    def pods(self, *pods: core.Pod) -> None:
        for pod in pods:
            self.observer.pod_set(pod)

    def schedule(self, *pods: core.Pod) -> dict[str, str]:
        """Where pods go, by name; those that go nowhere are left out."""
        self.pods(*pods)
        while self.queue.count("active"):
            self.scheduler.cycle()
        return self.writes.placements

    async def later(self) -> dict[str, str]:
        """As `schedule`, once the pods that an event may have helped are due."""
        await self.clock.advance(0.06)
        while self.scheduler.cycle():
            pass
        return self.writes.placements

    def message(self, name: str) -> str:
        queued = self.queue.get(f"default/{name}")
        assert queued is not None
        return queued.message
