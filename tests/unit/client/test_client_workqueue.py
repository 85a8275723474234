import asyncio

import pytest

from tillerman.client.clock import FakeClock
from tillerman.client.workqueue import ExponentialBackoff, QueueShutDown, WorkQueue, run_workers


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def make_queue(clock: FakeClock, **settings: float) -> WorkQueue:
    return WorkQueue("test", clock=clock, backoff=ExponentialBackoff(**settings) if settings else None)


async def test_a_waiting_key_is_kept_once_and_order_holds(clock: FakeClock) -> None:
    queue = make_queue(clock)
    for key in ("a", "b", "a", "c", "b"):
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]
    assert len(queue) == 0


async def test_a_key_in_work_is_handed_out_again_only_when_done(clock: FakeClock) -> None:
    queue = make_queue(clock)
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.idle


async def test_delayed_keys_come_when_due_and_the_earliest_time_counts(clock: FakeClock) -> None:
    queue = make_queue(clock)
    queue.add_after("late", 10)
    queue.add_after("late", 2)
    queue.add_after("late", 5)
    queue.add_after("now", 0)
    assert [i.state for i in queue.snapshot()] == ["active", "delayed"]
    await clock.advance(1.9)
    assert len(queue) == 1
    await clock.advance(0.2)
    assert len(queue) == 2
    await clock.advance(20)
    assert len(queue) == 2


async def test_failures_back_off_and_forget_starts_over(clock: FakeClock) -> None:
    queue = make_queue(clock, base=1, maximum=5)
    waits = []
    for _ in range(5):
        began = clock.monotonic()
        queue.add_rate_limited("a")
        waiting = asyncio.ensure_future(queue.get())
        while not waiting.done():
            await clock.advance(0.5)
        waits.append(clock.monotonic() - began)
        queue.done(await waiting)
    assert waits == [1, 2, 4, 5, 5]
    assert queue.retries("a") == 5
    queue.forget("a")
    assert queue.retries("a") == 0


async def test_a_cancelled_getter_loses_no_key(clock: FakeClock) -> None:
    queue = make_queue(clock)
    first, second = (asyncio.ensure_future(queue.get()) for _ in range(2))
    await clock.settle()
    queue.add("a")
    first.cancel()
    await clock.settle()
    assert first.cancelled()
    assert second.result() == "a"


async def test_shut_down_hands_out_what_waits_then_ends(clock: FakeClock) -> None:
    queue = make_queue(clock)
    queue.add("a")
    queue.add_after("b", 5)
    queue.shut_down()
    queue.add("c")
    assert await queue.get() == "a"
    queue.done("a")
    with pytest.raises(QueueShutDown):
        await queue.get()
    assert clock.pending_timers == 0


async def test_workers_run_keys_at_once_but_each_key_serially(clock: FakeClock) -> None:
    queue = make_queue(clock)
    running: set[str] = set()
    most = 0
    seen: list[str] = []

    async def reconcile(key: str) -> float | None:
        nonlocal most
        assert key not in running
        running.add(key)
        most = max(most, len(running))
        await clock.sleep(1)
        running.discard(key)
        seen.append(key)
        return None

    workers = asyncio.ensure_future(run_workers(queue, reconcile, workers=3))
    for _ in range(4):
        for key in "abcde":
            queue.add(key)
        await clock.advance(0.5)
    await clock.advance(20)
    assert most == 3
    assert set(seen) == set("abcde")
    queue.shut_down()
    await workers


async def test_errors_are_retried_and_a_result_asks_for_a_later_run(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(clock, base=1, maximum=60)
    runs: list[float] = []

    async def reconcile(key: str) -> float | None:
        runs.append(clock.monotonic())
        if len(runs) < 4:
            raise RuntimeError("not yet")
        return 100.0

    workers = asyncio.ensure_future(run_workers(queue, reconcile, workers=1))
    queue.add("a")
    await clock.advance(150)
    assert runs == [0, 1, 3, 7, 107]
    assert queue.retries("a") == 0
    assert "reconcile of test a failed (attempt 3)" in caplog.text
    workers.cancel()
    await asyncio.gather(workers, return_exceptions=True)


async def test_metrics_carry_the_queue_name(clock: FakeClock) -> None:
    from prometheus_client import REGISTRY

    queue = WorkQueue("metrics-test", clock=clock)
    queue.add("a")
    queue.add("b")
    labels = {"name": "metrics-test"}
    assert REGISTRY.get_sample_value("workqueue_depth", labels) == 2
    key = await queue.get()
    await clock.advance(3)
    assert REGISTRY.get_sample_value("workqueue_unfinished_work_seconds", labels) == 3
    queue.done(key)
    queue.add_rate_limited(key)
    assert REGISTRY.get_sample_value("workqueue_work_duration_seconds_sum", labels) == 3
    assert REGISTRY.get_sample_value("workqueue_adds_total", labels) == 2
    assert REGISTRY.get_sample_value("workqueue_retries_total", labels) == 1
