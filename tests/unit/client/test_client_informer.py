import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from client_fakes import MemoryResource

from tillerman.client.clock import FakeClock
from tillerman.client.informer import Informer
from tillerman.pb.k8s import core_v1_pb2 as core


class Recorded:
    """Every handler call, in order; and a model of the state that the calls add up to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.state: dict[str, str] = {}

    def attach(self, informer: Informer[core.Pod]) -> "Recorded":
        informer.add_handler(on_add=self.added, on_update=self.updated, on_delete=self.deleted)
        return self

    def added(self, pod: core.Pod) -> None:
        self.calls.append(("add", pod.metadata.name))
        assert pod.metadata.name not in self.state
        self.state[pod.metadata.name] = pod.metadata.resourceVersion

    def updated(self, old: core.Pod, new: core.Pod) -> None:
        self.calls.append(("update", new.metadata.name))
        assert self.state[new.metadata.name] == old.metadata.resourceVersion != new.metadata.resourceVersion
        assert old.metadata.uid == new.metadata.uid
        self.state[new.metadata.name] = new.metadata.resourceVersion

    def deleted(self, pod: core.Pod) -> None:
        self.calls.append(("delete", pod.metadata.name))
        del self.state[pod.metadata.name]


class Setup:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.server: MemoryResource[core.Pod] = MemoryResource(core.Pod)
        self.informer: Informer[core.Pod] = Informer(self.server, clock=self.clock)  # type: ignore[arg-type]
        self.recorded = Recorded().attach(self.informer)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.task = asyncio.ensure_future(self.informer.run())
        await self.clock.settle()


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    setup = Setup()
    yield setup
    if setup.task is not None:
        setup.task.cancel()
        await asyncio.gather(setup.task, return_exceptions=True)


async def test_list_then_watch(setup: Setup) -> None:
    setup.server.put("ns/a")
    await setup.start()
    assert setup.informer.synced.is_set()
    setup.server.put("ns/b")
    setup.server.put("ns/a", app="x")
    await setup.clock.settle()
    setup.server.remove("ns/b")
    await setup.clock.settle()
    assert setup.recorded.calls == [("add", "a"), ("add", "b"), ("update", "a"), ("delete", "b")]
    assert setup.server.lists == 1
    found = setup.informer.get("ns/a")
    assert found is not None and found.metadata.labels["app"] == "x"
    assert [p.metadata.name for p in setup.informer.list("ns")] == ["a"]
    assert setup.informer.list("other") == []
    assert len(setup.informer) == 1


async def test_a_broken_watch_resumes_where_it_was(setup: Setup) -> None:
    setup.server.put("ns/a")
    await setup.start()
    setup.server.away = True
    setup.server.cut()
    await setup.clock.advance(20)
    setup.server.put("ns/b")
    setup.server.remove("ns/a")
    setup.server.away = False
    await setup.clock.advance(10)
    assert setup.recorded.calls == [("add", "a"), ("add", "b"), ("delete", "a")]
    assert setup.server.lists == 1
    assert set(setup.server.watches) == {"11"}


async def test_after_compaction_the_gap_is_told_once_and_nothing_twice(setup: Setup) -> None:
    for name in ("same", "changed", "gone", "replaced"):
        setup.server.put(f"ns/{name}")
    await setup.start()
    setup.recorded.calls.clear()
    setup.server.away = True
    setup.server.cut()
    setup.server.put("ns/changed", n="1")
    setup.server.put("ns/changed", n="2")
    setup.server.remove("ns/gone")
    setup.server.remove("ns/replaced")
    setup.server.put("ns/replaced")
    setup.server.put("ns/new")
    setup.server.put("ns/flash")
    setup.server.remove("ns/flash")
    setup.server.compact()
    setup.server.away = False
    await setup.clock.advance(10)
    assert sorted(setup.recorded.calls) == [
        ("add", "new"),
        ("add", "replaced"),
        ("delete", "gone"),
        ("delete", "replaced"),
        ("update", "changed"),
    ]
    assert setup.server.lists == 2


async def test_whatever_happens_handlers_add_up_to_the_servers_state(setup: Setup) -> None:
    chance = random.Random(7)
    await setup.start()
    for _ in range(400):
        key = f"ns/p{chance.randrange(12)}"
        match chance.randrange(10):
            case 0 if key in setup.server.objects:
                setup.server.remove(key)
            case 1:
                setup.server.cut()
            case 2:
                setup.server.away = not setup.server.away
                setup.server.cut()
            case 3:
                setup.server.cut()
                setup.server.compact()
            case _:
                setup.server.put(key, n=str(chance.random()))
        if chance.random() < 0.3:
            await setup.clock.advance(chance.choice([0.0, 0.05, 3.0]))
    setup.server.away = False
    await setup.clock.advance(30)
    expected = {p.metadata.name: p.metadata.resourceVersion for p in setup.server.objects.values()}
    assert setup.recorded.state == expected
    assert {p.metadata.name: p.metadata.resourceVersion for p in setup.informer.list()} == expected


async def test_it_waits_out_an_outage_at_the_start_without_a_tight_loop(setup: Setup) -> None:
    setup.server.away = True
    await setup.start()
    await setup.clock.advance(60)
    assert not setup.informer.synced.is_set()
    assert 10 < setup.server.lists < 40
    setup.server.away = False
    await setup.clock.advance(6)
    assert setup.informer.synced.is_set()


async def test_indexes_follow_changes(setup: Setup) -> None:
    setup.informer.add_index("app", lambda pod: [pod.metadata.labels["app"]] if "app" in pod.metadata.labels else [])
    setup.server.put("ns/a", app="web")
    setup.server.put("ns/b", app="web")
    setup.server.put("ns/c")
    await setup.start()

    def names(value: str) -> list[str]:
        return [p.metadata.name for p in setup.informer.by_index("app", value)]

    assert names("web") == ["a", "b"]
    setup.server.put("ns/a", app="db")
    setup.server.remove("ns/b")
    await setup.clock.settle()
    assert names("web") == []
    assert names("db") == ["a"]
    setup.informer.add_index("name", lambda pod: [pod.metadata.name])
    assert [p.metadata.name for p in setup.informer.by_index("name", "c")] == ["c"]
    with pytest.raises(KeyError):
        setup.informer.by_index("never-added", "x")


async def test_a_late_handler_hears_of_what_is_there(setup: Setup) -> None:
    setup.server.put("ns/a")
    await setup.start()
    late = Recorded().attach(setup.informer)
    assert late.calls == [("add", "a")]


async def test_a_handler_that_fails_does_not_stop_the_others(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    setup.informer.add_handler(on_add=lambda pod: 1 / 0)
    last = Recorded().attach(setup.informer)
    setup.server.put("ns/a")
    await setup.start()
    assert last.calls == [("add", "a")]
    assert "a handler failed for ns/a" in caplog.text
