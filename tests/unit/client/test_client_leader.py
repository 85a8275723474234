import asyncio
from collections.abc import AsyncIterator

import pytest
from client_fakes import MemoryResource

from tillerman.client.clock import FakeClock
from tillerman.client.leader import LeaderElector, LeadershipLost
from tillerman.pb.k8s import coordination_v1_pb2 as coordination


class Candidates:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.server: MemoryResource[coordination.Lease] = MemoryResource(coordination.Lease, "leases")
        self.working: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def enter(self, name: str, server: MemoryResource[coordination.Lease] | None = None) -> LeaderElector:
        elector = LeaderElector(
            None, "boss", identity=name, clock=self.clock, leases=server or self.server  # type: ignore[arg-type]
        )  # fmt: skip

        async def work() -> None:
            self.working.append(name)
            assert len(self.working) == 1, self.working
            try:
                await self.clock.sleep(1e9)
            finally:
                self.working.remove(name)

        self.tasks[name] = asyncio.ensure_future(elector.run(work))
        return elector

    async def leave(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)

    @property
    def lease(self) -> coordination.Lease:
        return self.server.objects["kube-system/boss"]


@pytest.fixture
async def candidates() -> AsyncIterator[Candidates]:
    made = Candidates()
    yield made
    for name in made.tasks:
        await made.leave(name)


async def test_one_leads_and_another_takes_over_at_once_when_it_leaves(candidates: Candidates) -> None:
    first = candidates.enter("a")
    await candidates.clock.advance(0.1)
    second = candidates.enter("b")
    await candidates.clock.advance(60)
    assert candidates.working == ["a"]
    assert (first.is_leader, second.is_leader, second.leader) == (True, False, "a")
    await candidates.leave("a")
    assert candidates.lease.spec.holderIdentity == ""
    await candidates.clock.advance(2.5)
    assert candidates.working == ["b"]
    assert candidates.lease.spec.leaseTransitions >= 1


async def test_a_silent_leader_is_followed_only_after_its_lease(candidates: Candidates) -> None:
    candidates.enter("a")
    await candidates.clock.advance(5)
    task = candidates.tasks.pop("a")
    lease = candidates.lease
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    # As if it had been killed: the Lease still names it.
    candidates.server.objects["kube-system/boss"] = lease
    candidates.enter("b")
    await candidates.clock.advance(14)
    assert candidates.working == []
    await candidates.clock.advance(4)
    assert candidates.working == ["b"]


async def test_a_leader_that_cannot_renew_stops_before_another_may_start(candidates: Candidates) -> None:
    candidates.enter("a")
    await candidates.clock.advance(5)
    candidates.server.away = True
    await candidates.clock.advance(8.5)
    assert candidates.working == ["a"]
    await candidates.clock.advance(0.6)
    assert candidates.working == []
    with pytest.raises(LeadershipLost, match="not renewed for"):
        await candidates.tasks["a"]


async def test_a_leader_whose_lease_is_taken_stops(candidates: Candidates) -> None:
    candidates.enter("a")
    await candidates.clock.advance(5)
    stolen = coordination.Lease()
    stolen.CopyFrom(candidates.lease)
    stolen.spec.holderIdentity = "thief"
    await candidates.server.update(stolen)
    await candidates.clock.advance(3)
    assert candidates.working == []
    with pytest.raises(LeadershipLost, match="taken by thief"):
        await candidates.tasks["a"]


async def test_it_waits_for_the_api_server(candidates: Candidates) -> None:
    candidates.server.away = True
    candidates.enter("a")
    await candidates.clock.advance(30)
    assert candidates.working == []
    candidates.server.away = False
    await candidates.clock.advance(3)
    assert candidates.working == ["a"]


async def test_work_that_fails_ends_the_election_and_gives_the_lease_back(candidates: Candidates) -> None:
    elector = LeaderElector(
        None, "boss", identity="a", clock=candidates.clock, leases=candidates.server  # type: ignore[arg-type]
    )  # fmt: skip

    async def work() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await elector.run(work)
    assert candidates.lease.spec.holderIdentity == ""


def test_durations_must_make_sense() -> None:
    with pytest.raises(ValueError, match="must hold"):
        LeaderElector(None, "x", lease_seconds=5, renew=5, retry=1)  # type: ignore[arg-type]
