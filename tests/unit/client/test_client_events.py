import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from client_fakes import outage

from tillerman.api import status
from tillerman.client.batch import BatchOp
from tillerman.client.clock import FakeClock
from tillerman.client.events import EventRecorder
from tillerman.pb.k8s import core_v1_pb2 as core


class Inbox:
    """The API server's part: takes batches, keeps events by name."""

    def __init__(self) -> None:
        self.events: dict[str, core.Event] = {}
        self.batches: list[int] = []
        self.away = 0

    async def batch(self, operations: Sequence[BatchOp]) -> list[Any]:
        if self.away:
            self.away -= 1
            raise outage()
        self.batches.append(len(operations))
        return [self._one(op.operation) for op in operations]

    def _one(self, operation: Any) -> Any:
        if operation.HasField("create"):
            event = core.Event.FromString(operation.create.object.value)
            self.events[event.metadata.name] = event
            return event
        request = operation.patch
        if request.target.name not in self.events:
            return status.not_found("events", request.target.name)
        event = self.events[request.target.name]
        event.count = json.loads(request.patch)["count"]
        return event


def pod(name: str = "web") -> core.Pod:
    made = core.Pod()
    made.metadata.name, made.metadata.namespace, made.metadata.uid = name, "ns", f"uid-{name}"
    return made


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def recorder(inbox: Inbox, clock: FakeClock) -> EventRecorder:
    return EventRecorder(inbox, "kubelet", "node-1", clock)  # type: ignore[arg-type]


async def test_an_event_is_complete(recorder: EventRecorder, inbox: Inbox) -> None:
    recorder.event(pod(), "Normal", "Started", "Started container web", field_path="spec.containers{web}")
    await recorder.flush()
    [event] = inbox.events.values()
    assert event.metadata.namespace == "ns"
    assert event.metadata.name.startswith("web.")
    involved = event.involvedObject
    assert (involved.kind, involved.apiVersion, involved.name, involved.uid) == ("Pod", "v1", "web", "uid-web")
    assert involved.fieldPath == "spec.containers{web}"
    assert (event.reason, event.message, event.type, event.count) == ("Started", "Started container web", "Normal", 1)
    assert (event.source.component, event.source.host) == ("kubelet", "node-1")
    assert event.firstTimestamp.seconds == event.lastTimestamp.seconds == 1_700_000_000


async def test_a_repeated_event_is_counted(recorder: EventRecorder, inbox: Inbox, clock: FakeClock) -> None:
    for _ in range(3):
        recorder.event(pod(), "Warning", "BackOff", "Back-off restarting")
        await clock.advance(10)
        await recorder.flush()
    [event] = inbox.events.values()
    assert event.count == 3


async def test_an_event_that_expired_on_the_server_is_made_anew(recorder: EventRecorder, inbox: Inbox) -> None:
    recorder.event(pod(), "Warning", "BackOff", "again")
    await recorder.flush()
    inbox.events.clear()
    recorder.event(pod(), "Warning", "BackOff", "again")
    await recorder.flush()
    [event] = inbox.events.values()
    assert event.count == 2


async def test_events_go_out_in_batches(recorder: EventRecorder, inbox: Inbox) -> None:
    for number in range(250):
        recorder.event(pod(f"p{number}"), "Normal", "Scheduled", "to node-1")
    await recorder.flush()
    assert inbox.batches == [100, 100, 50]


async def test_floods_are_combined_and_limited(recorder: EventRecorder, inbox: Inbox) -> None:
    for number in range(60):
        recorder.event(pod(), "Warning", "Failed", f"attempt {number}")
    await recorder.flush()
    assert len(inbox.events) == 11
    assert recorder.dropped == 35
    combined = [e for e in inbox.events.values() if e.message.startswith("(combined")]
    assert [e.count for e in combined] == [15]


async def test_an_outage_is_waited_out_and_then_given_up(
    recorder: EventRecorder, inbox: Inbox, clock: FakeClock
) -> None:
    inbox.away = 3
    recorder.event(pod(), "Normal", "A", "a")
    task = asyncio.ensure_future(recorder.flush())
    await clock.advance(5)
    await task
    assert len(inbox.events) == 1
    inbox.away = 1000
    recorder.event(pod(), "Normal", "B", "b")
    task = asyncio.ensure_future(recorder.flush())
    await clock.advance(100)
    await task
    assert recorder.dropped == 1


async def test_recording_never_raises(recorder: EventRecorder, caplog: pytest.LogCaptureFixture) -> None:
    recorder.event(object(), "Normal", "A", "a")  # type: ignore[arg-type]
    assert "could not be recorded" in caplog.text


async def test_run_sends_what_comes(recorder: EventRecorder, inbox: Inbox, clock: FakeClock) -> None:
    task = asyncio.ensure_future(recorder.run())
    recorder.event(pod(), "Normal", "A", "a")
    await clock.settle()
    assert len(inbox.events) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
