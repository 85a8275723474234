"""The write path: what goes out, in which batches, and what each outcome leads to."""

import asyncio
from typing import Any

from scheduling import make_pod

from services.scheduler.template import TemplateCache
from services.scheduler.writer import Writer
from tillerman.api import status
from tillerman.api.status import StatusError
from tillerman.client.clock import FakeClock
from tillerman.pb.k8s import core_v1_pb2 as core


class Batches:
    """Answers from a queue of results; keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []
        self.fail: StatusError | None = None
        self.refuse: set[str] = set()

    async def batch(self, operations: Any) -> list[Any]:
        self.asked.append([op.operation for op in operations])
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        return [
            status.conflict("pods/binding", op.operation.create.target.name)
            if op.operation.create.target.name in self.refuse
            else core.Pod()
            for op in operations
        ]


async def turns() -> None:
    """Lets the writer's tasks do what they can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_bindings_share_a_batch_and_have_their_own_outcomes() -> None:
    batches, outcomes = Batches(), {}
    writer = Writer(batches, FakeClock(), scheduler_name="s")
    batches.refuse = {"p1"}
    for number in range(3):
        info = TemplateCache().info(make_pod(f"p{number}")).on("n1")
        writer.bind(info, lambda error, name=f"p{number}": outcomes.__setitem__(name, error))
    running = asyncio.ensure_future(writer.run())
    await turns()
    assert [len(asked) for asked in batches.asked] == [3]
    assert outcomes["p0"] is None and outcomes["p2"] is None
    assert outcomes["p1"] is not None and outcomes["p1"].code == 409
    target = batches.asked[0][0].create.target
    assert (target.resource, target.name, target.subresource) == ("pods", "p0", "binding")
    running.cancel()


async def test_a_failed_call_fails_every_write_of_it() -> None:
    batches, outcomes = Batches(), []
    batches.fail = status.service_unavailable("away")
    writer = Writer(batches, FakeClock(), scheduler_name="s")
    for number in range(2):
        writer.bind(TemplateCache().info(make_pod(f"p{number}")).on("n1"), outcomes.append)
    running = asyncio.ensure_future(writer.run())
    await turns()
    assert [error.code for error in outcomes] == [503, 503]
    running.cancel()


async def test_conditions_are_not_written_twice_and_never_over_a_newer_pod() -> None:
    batches = Batches()
    writer = Writer(batches, FakeClock(), scheduler_name="s")
    pod = make_pod("p")
    pod.metadata.resourceVersion = "7"
    writer.mark_unschedulable(pod, "no room")
    running = asyncio.ensure_future(writer.run())
    await asyncio.sleep(0)
    told = make_pod("p", change=lambda p: p.status.conditions.add(
        type="PodScheduled", status="False", reason="Unschedulable", message="no room"
    ))  # fmt: skip
    told.status.conditions[0].lastTransitionTime.seconds = 60
    writer.mark_unschedulable(told, "no room")
    writer.mark_unschedulable(pod, "no room")
    writer.mark_unschedulable(told, "still none")
    await turns()
    patches = [operation.patch.patch.decode() for asked in batches.asked for operation in asked]
    assert len(patches) == 2, "a standby writes nothing, and what a pod says already is not said again"
    assert '"resourceVersion":"7"' in patches[0]
    assert '"lastTransitionTime":"1970-01-01T00:01:00Z"' in patches[1]
    running.cancel()
