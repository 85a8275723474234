"""Pods scheduled per second on 5,000 nodes: the algorithm (queue, filters, scores, assume), without the API server.

The floor is the least that a scheduler looking at every node could do in plain Python: per pod, one pass over the nodes
that compares free CPU and memory and keeps the emptiest. Kubernetes' own scheduler, with its API server, places about
250 pods a second here; the bar is 2,500.
"""

import random
import time
from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from services.scheduler.framework import Profile
from services.scheduler.observer import Observer
from services.scheduler.queue import SchedulingQueue
from services.scheduler.scheduler import Scheduler
from services.scheduler.snapshot import Snapshot
from services.scheduler.template import PodInfo, TemplateCache
from tillerman.api.status import StatusError
from tillerman.client.clock import RealClock
from tillerman.pb.k8s import core_v1_pb2 as core

NODES = 5000
BAR = 2500.0


class _Binds:
    """Every bind succeeds, at the end of the cycle."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[StatusError | None], None]] = []
        self.bound = 0

    def bind(self, info: PodInfo, outcome: Callable[[StatusError | None], None]) -> None:
        self.waiting.append(outcome)

    def mark_unschedulable(self, pod: core.Pod, message: str, *, reason: str = "", node: str = "") -> None:
        raise AssertionError(message)

    def evict(self, victim: PodInfo, why: str) -> None:
        raise AssertionError(why)

    def settle(self) -> None:
        for outcome in self.waiting:
            outcome(None)
        self.bound += len(self.waiting)
        self.waiting.clear()


class _Silent:
    def event(self, obj: Message, type: str, reason: str, message: str) -> None: ...


def node(number: int) -> core.Node:
    made = core.Node()
    made.metadata.name = f"node-{number:05}"
    made.metadata.labels["kubernetes.io/hostname"] = made.metadata.name
    made.metadata.labels["topology.kubernetes.io/zone"] = f"zone-{number % 3}"
    for resource, amount in (("cpu", "32"), ("memory", "64Gi"), ("pods", "110")):
        made.status.allocatable[resource].string = amount
    return made


def pods(count: int, *, owners: int, change: Callable[[core.Pod], object] | None = None) -> list[core.Pod]:
    """Pods of so many ReplicaSets, in turn."""
    made = []
    for number in range(count):
        owner = f"rs-{number % owners}"
        pod = core.Pod()
        pod.metadata.name, pod.metadata.namespace, pod.metadata.uid = f"pod-{number}", "default", f"uid-{number}"
        pod.metadata.labels["app"] = owner
        pod.metadata.ownerReferences.add(
            apiVersion="apps/v1", kind="ReplicaSet", name=owner, uid=owner, controller=True
        )
        container = pod.spec.containers.add(name="app", image="app:1")
        container.resources.requests["cpu"].string = "100m"
        container.resources.requests["memory"].string = "64Mi"
        if change is not None:
            change(pod)
        made.append(pod)
    return made


def rate(nodes: Sequence[core.Node], waiting: Sequence[core.Pod]) -> float:
    """Pods per second, from the event that a pod is there to the assumed placement."""
    clock, profile, binds = RealClock(), Profile.default(rng=random.Random(1)), _Binds()
    queue = SchedulingQueue(clock, profile.may_help)
    scheduler = Scheduler(
        name="default-scheduler",
        profile=profile,
        snapshot=Snapshot(),
        queue=queue,
        writer=binds,
        recorder=_Silent(),
        clock=clock,
        budgets=list,
    )
    observer = Observer(scheduler, TemplateCache())
    for each in nodes:
        observer.node_set(each)
    began = time.perf_counter()
    for pod in waiting:
        observer.pod_set(pod)
    while scheduler.cycle():
        binds.settle()
    seconds = time.perf_counter() - began
    assert binds.bound == len(waiting), f"{binds.bound} of {len(waiting)} pods were placed"
    return len(waiting) / seconds


def floor(count: int, pods: int) -> float:
    """Pods per second of the plain loop over all nodes."""
    free = [[32_000, 64 * 1024**3] for _ in range(count)]
    began = time.perf_counter()
    for _ in range(pods):
        best, most = None, -1.0
        for state in free:
            if state[0] >= 100 and state[1] >= 64 * 1024**2:
                score = state[0] / 32_000 + state[1] / (64 * 1024**3)
                if score > most:
                    best, most = state, score
        assert best is not None
        best[0] -= 100
        best[1] -= 64 * 1024**2
    return pods / (time.perf_counter() - began)


def _zone_spread(pod: core.Pod) -> None:
    constraint = pod.spec.topologySpreadConstraints.add(
        maxSkew=1, topologyKey="topology.kubernetes.io/zone", whenUnsatisfiable="DoNotSchedule"
    )
    constraint.labelSelector.matchLabels["app"] = pod.metadata.labels["app"]


def _anti_affinity(pod: core.Pod) -> None:
    required = pod.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution
    term = required.add(topologyKey="kubernetes.io/hostname")
    term.labelSelector.matchLabels["app"] = pod.metadata.labels["app"]


def main() -> None:
    nodes = [node(number) for number in range(NODES)]
    plain = floor(NODES, 200)
    print(f"{'plain loop over all nodes (the floor)':45} {plain:8.0f} pods/s")
    for name, waiting in (
        ("10 ReplicaSets, 10,000 pods", pods(10_000, owners=10)),
        ("1,000 ReplicaSets, 10,000 pods", pods(10_000, owners=1000)),
        ("hard spreading over zones, 5,000 pods", pods(5000, owners=10, change=_zone_spread)),
        ("anti-affinity per host, 2,000 pods", pods(2000, owners=10, change=_anti_affinity)),
    ):
        found = rate(nodes, waiting)
        verdict = "" if found >= BAR else f"   below the bar of {BAR:.0f}"
        print(f"{name:45} {found:8.0f} pods/s   {found / plain:6.1f} x the floor{verdict}")


if __name__ == "__main__":
    main()
