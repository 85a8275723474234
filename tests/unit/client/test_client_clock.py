import asyncio

from tillerman.client.clock import FakeClock


async def test_sleepers_wake_in_order_and_see_their_own_time() -> None:
    clock = FakeClock(start=1000)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *spans: float) -> None:
        for span in spans:
            await clock.sleep(span)
            woken.append((name, clock.time()))

    tasks = [asyncio.ensure_future(sleeper("a", 1, 1, 1)), asyncio.ensure_future(sleeper("b", 1.5))]
    await clock.advance(2.5)
    assert woken == [("a", 1001), ("b", 1001.5), ("a", 1002)]
    assert clock.time() == 1002.5
    await clock.advance(1)
    await asyncio.gather(*tasks)


async def test_a_cancelled_sleeper_leaves_no_timer() -> None:
    clock = FakeClock()
    task = asyncio.ensure_future(clock.sleep(10))
    await clock.settle()
    assert clock.pending_timers == 1
    task.cancel()
    await clock.settle()
    assert clock.pending_timers == 0
