"""The scheduler over a real apiserver and etcd: pods are created, and get their nodes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from services.scheduler.framework import Profile
from services.scheduler.observer import Observer
from services.scheduler.queue import SchedulingQueue
from services.scheduler.scheduler import Scheduler
from services.scheduler.snapshot import Snapshot
from services.scheduler.template import TemplateCache
from services.scheduler.writer import Writer
from tillerman.client import Client
from tillerman.client.batch import BatchOp
from tillerman.client.clock import RealClock
from tillerman.client.events import EventRecorder
from tillerman.client.informer import InformerFactory
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import policy_v1_pb2 as policy


@contextlib.asynccontextmanager
async def scheduling(client: Client, name: str) -> AsyncIterator[Scheduler]:
    """A scheduler of its own name, put together as the service does, until the block ends."""
    clock, profile = RealClock(), Profile.default()
    informers = InformerFactory(client, clock=clock)
    budgets = informers.informer(policy.PodDisruptionBudget)
    recorder = EventRecorder(client, name, clock=clock)
    writer = Writer(client, clock, scheduler_name=name)
    scheduler = Scheduler(
        name=name,
        profile=profile,
        snapshot=Snapshot(),
        queue=SchedulingQueue(clock, profile.may_help),
        writer=writer,
        recorder=recorder,
        clock=clock,
        budgets=budgets.list,
    )
    Observer(scheduler, TemplateCache(), writer).watch(informers)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run()) for run in (recorder.run, writer.run)]
        informing = asyncio.TaskGroup()

        async def inform() -> None:
            async with informing:
                await informers.start(informing)

        tasks.append(group.create_task(inform()))
        await eventually(lambda: _true(informers.synced))
        tasks.append(group.create_task(scheduler.run()))
        yield scheduler
        await recorder.flush()
        for task in tasks:
            task.cancel()


def node(name: str, cpu: str = "4") -> core.Node:
    made = core.Node()
    made.metadata.name = name
    made.metadata.labels["kubernetes.io/hostname"] = name
    made.metadata.labels["pool"] = name.split("-")[0]
    for resource, amount in (("cpu", cpu), ("memory", "8Gi"), ("pods", "500")):
        made.status.capacity[resource].string = amount
        made.status.allocatable[resource].string = amount
    return made


def pod(name: str, scheduler: str, *, pool: str, cpu: str = "10m") -> core.Pod:
    made = core.Pod()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.spec.schedulerName = scheduler
    made.spec.nodeSelector["pool"] = pool
    container = made.spec.containers.add(name="app", image="app:1")
    container.resources.requests["cpu"].string = cpu
    return made


async def make_nodes(client: Client, *nodes: core.Node) -> None:
    for each in nodes:
        await client.resource(core.Node).create(each)
        await client.resource(core.Node).patch(
            each.metadata.name,
            None,
            {"spec": {"taints": None}},
        )
        status = {"status": {"allocatable": {k: q.string for k, q in each.status.allocatable.items()}}}
        await client.resource(core.Node).patch(each.metadata.name, None, status, subresource="status")


async def eventually(check: Callable[[], Any], seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = await check()
        if found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.002)


async def _true(value: bool) -> bool:
    return value


async def nodes_of(client: Client, prefix: str) -> dict[str, str]:
    pods = (await client.resource(core.Pod).list("default")).items
    return {p.metadata.name: p.spec.nodeName for p in pods if p.metadata.name.startswith(prefix)}


async def test_pods_are_bound_within_moments(client: Client) -> None:
    await make_nodes(client, node("a-1"), node("a-2"))
    pods = client.resource(core.Pod)
    async with scheduling(client, "first"):
        began = time.monotonic()
        await client.batch([BatchOp.create(pod(f"quick-{i}", "first", pool="a")) for i in range(10)])

        async def bound() -> bool:
            return all((await nodes_of(client, "quick-")).values())

        assert await eventually(bound)
        seconds = time.monotonic() - began
        placed = await nodes_of(client, "quick-")
        assert set(placed.values()) == {"a-1", "a-2"}
        assert seconds < 1.0
        first = await pods.get("quick-0", "default")
        condition = next(c for c in first.status.conditions if c.type == "PodScheduled")
        assert condition.status == "True"

    async def told() -> list[str]:
        events = (await client.resource(core.Event).list("default")).items
        return [e.message for e in events if e.reason == "Scheduled" and e.involvedObject.name == "quick-0"]

    assert await eventually(told) == [f"Successfully assigned default/quick-0 to {placed['quick-0']}"]


async def test_why_a_pod_waits_and_how_it_goes_on(client: Client) -> None:
    await make_nodes(client, node("b-1", cpu="1"))
    pods = client.resource(core.Pod)
    async with scheduling(client, "second"):
        await pods.create(pod("big", "second", pool="b", cpu="2"))

        async def condition() -> core.PodCondition | None:
            conditions = (await pods.get("big", "default")).status.conditions
            return next((c for c in conditions if c.type == "PodScheduled"), None)

        found = await eventually(condition)
        assert (found.status, found.reason) == ("False", "Unschedulable")
        assert "1 Insufficient cpu" in found.message

        async def told() -> bool:
            events = (await client.resource(core.Event).list("default")).items
            return any(e.reason == "FailedScheduling" and e.involvedObject.name == "big" for e in events)

        assert await eventually(told)
        await make_nodes(client, node("b-2", cpu="4"))

        async def bound() -> bool:
            return (await nodes_of(client, "big"))["big"] == "b-2"

        assert await eventually(bound)
        conditions = (await pods.get("big", "default")).status.conditions
        assert [c.status for c in conditions if c.type == "PodScheduled"] == ["True"]


@pytest.mark.parametrize("kills", [4])
async def test_a_scheduler_that_dies_loses_nothing(client: Client, kills: int) -> None:
    """Cancelled in the middle of binding, again and again; every pod ends up on one node, none overcommitted."""
    await make_nodes(client, *[node(f"c-{i}", cpu="1") for i in range(5)])
    pods = client.resource(core.Pod)
    await client.batch([BatchOp.create(pod(f"many-{i}", "third", pool="c", cpu="50m")) for i in range(100)])
    for _ in range(kills):
        with contextlib.suppress(asyncio.CancelledError):
            async with scheduling(client, "third") as scheduler:
                await eventually(lambda s=scheduler: _true(bool(s.assumed)), seconds=0.5)
    async with scheduling(client, "third"):

        async def bound() -> bool:
            return all((await nodes_of(client, "many-")).values())

        assert await eventually(bound)
    placed = await nodes_of(client, "many-")
    assert len(placed) == 100
    per_node = {name: sum(node == name for node in placed.values()) for name in set(placed.values())}
    assert per_node == {f"c-{i}": 20 for i in range(5)}
    assert (await pods.get("many-0", "default")).spec.nodeName


async def test_preemption_makes_room(client: Client) -> None:
    await make_nodes(client, node("d-1", cpu="1"))
    pods = client.resource(core.Pod)
    async with scheduling(client, "fourth"):
        low = pod("low", "fourth", pool="d", cpu="1")
        low.spec.terminationGracePeriodSeconds = 0
        await pods.create(low)

        async def low_bound() -> bool:
            return bool((await nodes_of(client, "low"))["low"])

        assert await eventually(low_bound)
        high = pod("high", "fourth", pool="d", cpu="1")
        high.spec.priorityClassName = "system-cluster-critical"
        await pods.create(high)

        async def nominated_or_bound() -> bool:
            found = await pods.get("high", "default")
            return bool(found.status.nominatedNodeName or found.spec.nodeName)

        assert await eventually(nominated_or_bound)

        async def leaving() -> bool:
            listed = [p for p in (await pods.list("default")).items if p.metadata.name == "low"]
            return not listed or listed[0].metadata.HasField("deletionTimestamp")

        assert await eventually(leaving)
        # There is no kubelet here: what it would do at the end.
        with contextlib.suppress(Exception):
            await pods.delete("low", "default", grace_period_seconds=0)

        async def high_bound() -> bool:
            return (await nodes_of(client, "high"))["high"] == "d-1"

        assert await eventually(high_bound)
