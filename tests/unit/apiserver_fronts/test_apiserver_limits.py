"""Who is served, who waits and who is refused."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from services.apiserver.fronts.limits import LOOP_TURNS, OFTEN, PRESENT_SECONDS, Limit
from services.apiserver.registry.context import User
from tillerman.api.status import StatusError

HEAVY, LIGHT = User("heavy"), User("light")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Crowd:
    """Requests that are served until they are told to end; ``served``: who got a turn, in order."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.served: list[tuple[str, int]] = []
        self._ends: dict[tuple[str, int], asyncio.Event] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}

    async def come(self, user: User, *numbers: int) -> None:
        for number in numbers:
            self._tasks[user.name, number] = asyncio.create_task(self._request(user, number))
        await self._settle()

    async def _request(self, user: User, number: int) -> None:
        async with self._limit.place(user):
            self.served.append((user.name, number))
            self._ends[user.name, number] = end = asyncio.Event()
            await end.wait()

    async def end(self, user: User, *numbers: int) -> None:
        for number in numbers:
            self._ends[user.name, number].set()
        await self._settle()

    async def cancel(self, user: User, number: int) -> None:
        self._tasks[user.name, number].cancel()
        await self._settle()

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_user_alone_has_three_quarters_of_the_places() -> None:
    limit = Limit(8, share=2, monotonic=Clock())
    crowd = Crowd(limit)
    await crowd.come(HEAVY, *range(6))
    assert len(crowd.served) == 6
    with pytest.raises(StatusError) as refused:
        limit.place(HEAVY)
    assert (refused.value.code, refused.value.retry_after_seconds) == (429, 1)
    await crowd.come(LIGHT, 0)
    assert crowd.served[-1] == ("light", 0)
    await crowd.close()


async def test_beside_another_a_user_has_its_share_and_waits_behind_itself() -> None:
    crowd = Crowd(Limit(100, share=2, monotonic=Clock()))
    await crowd.come(LIGHT, 0)
    await crowd.come(HEAVY, *range(5))
    assert [n for name, n in crowd.served if name == "heavy"] == [0, 1]
    await crowd.come(LIGHT, 1)
    assert crowd.served[-1] == ("light", 1)
    await crowd.end(HEAVY, 1)
    assert crowd.served[-1] == ("heavy", 2)
    await crowd.close()


async def test_a_flood_that_was_there_first_is_let_run_out_before_more_of_it_is_served() -> None:
    crowd = Crowd(Limit(100, share=2, monotonic=Clock()))
    await crowd.come(HEAVY, *range(6))
    await crowd.come(LIGHT, 0)
    await crowd.come(HEAVY, 6, 7)
    assert len(crowd.served) == 7
    await crowd.end(HEAVY, 0, 1, 2, 3)
    assert len(crowd.served) == 7
    await crowd.end(HEAVY, 4)
    assert crowd.served[-1] == ("heavy", 6)
    await crowd.close()


async def test_who_is_alone_again_has_all_the_places() -> None:
    clock = Clock()
    crowd = Crowd(Limit(100, share=2, monotonic=clock))
    await crowd.come(LIGHT, 0)
    await crowd.come(HEAVY, *range(6))
    await crowd.end(LIGHT, 0)
    await crowd.end(HEAVY, 0)
    assert len([n for name, n in crowd.served if name == "heavy"]) == 3
    clock.now += PRESENT_SECONDS + 0.1
    await crowd.end(HEAVY, 1)
    assert len([n for name, n in crowd.served if name == "heavy"]) == 6
    await crowd.close()


async def test_a_caller_that_goes_away_while_it_waits_leaves_nothing_behind() -> None:
    limit = Limit(8, share=1, monotonic=Clock())
    crowd = Crowd(limit)
    await crowd.come(LIGHT, 0)
    await crowd.come(HEAVY, 0, 1, 2)
    await crowd.cancel(HEAVY, 1)
    await crowd.end(HEAVY, 0)
    assert crowd.served[-1] == ("heavy", 2)
    await crowd.end(HEAVY, 2)
    await crowd.end(LIGHT, 0)
    # All places are free again: as many as one user may have are let in.
    await crowd.come(HEAVY, *range(10, 16))
    limit.place(LIGHT)
    with pytest.raises(StatusError):
        limit.place(HEAVY)
    await crowd.close()


async def passed(limit: Limit, user: User, count: int) -> None:
    """Requests that are over at once, one after the other."""
    for _ in range(count):
        async with limit.place(user):
            pass


async def test_who_asks_often_beside_another_lets_the_loop_turn_in_between() -> None:
    limit = Limit(100, share=16, monotonic=Clock())
    await passed(limit, HEAVY, 1)
    await passed(limit, LIGHT, 1)
    await passed(limit, HEAVY, OFTEN - 1)
    served: list[tuple[str, int]] = []
    turn = 0

    async def ask(user: User) -> None:
        async with limit.place(user):
            served.append((user.name, turn))

    tasks = [asyncio.create_task(ask(HEAVY)) for _ in range(3)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turn += 1
        if turn == 2:
            tasks.append(asyncio.create_task(ask(LIGHT)))
    at = [number for name, number in served if name == "heavy"]
    assert [later - earlier >= LOOP_TURNS - 1 for earlier, later in itertools.pairwise(at)] == [True, True]
    assert served[1][0] == "light" and served[1][1] < LOOP_TURNS


async def test_who_asks_often_and_is_alone_is_served_at_once() -> None:
    limit = Limit(100, share=16, monotonic=Clock())
    await asyncio.wait_for(passed(limit, HEAVY, 3 * OFTEN), 5)
    future = limit.enter(HEAVY.name)
    assert future is None
