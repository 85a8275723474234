"""When watchers are woken."""

import asyncio

from services.apiserver.cache.delivery import LONGEST_REST, SLICE, Delivery
from services.apiserver.cache.entry import ProtoFramer
from services.apiserver.cache.resource import ResourceCache
from services.apiserver.cache.watcher import Watcher
from tillerman.api import envelope
from tillerman.pb.k8s import core_v1_pb2 as core

PREFIX = "/registry/configmaps/"
VALUE = envelope.wrap("v1", "ConfigMap", b"")


class Turns:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.count += 1

    def end(self) -> None:
        self._task.cancel()


def wakes(count: int) -> list[asyncio.Future[None]]:
    return [asyncio.get_running_loop().create_future() for _ in range(count)]


async def test_a_few_are_woken_at_once_and_the_next_too() -> None:
    now = 0.0
    delivery = Delivery(lambda: now)
    for _ in range(3):
        some = wakes(SLICE)
        for wake in some:
            delivery.add(wake)
        turns = Turns()
        await asyncio.gather(*some)
        assert turns.count <= 2
        turns.end()
        await asyncio.sleep(0)
        assert not delivery.resting


async def test_many_are_woken_in_slices_in_the_order_in_which_they_came() -> None:
    now = 0.0
    delivery = Delivery(lambda: now)
    many, order = wakes(5 * SLICE), []
    for number, wake in enumerate(many):
        wake.add_done_callback(lambda _, number=number: order.append(number))
        delivery.add(wake)
    many[3].cancel()
    turns = Turns()
    await asyncio.gather(*many, return_exceptions=True)
    assert turns.count >= 4
    turns.end()
    assert sorted(order) == list(range(len(many)))
    assert [number for number in order if number != 3] == [number for number in range(len(many)) if number != 3]


async def test_after_many_comes_a_rest_as_long_as_they_took() -> None:
    now = 0.0
    delivery = Delivery(lambda: now)
    many = wakes(SLICE + 1)
    for wake in many:
        delivery.add(wake)
    await many[0]
    assert delivery.resting
    now = LONGEST_REST / 4
    await asyncio.gather(*many)
    await asyncio.sleep(0)
    assert delivery.resting
    now = LONGEST_REST / 2
    assert not delivery.resting


async def test_what_happens_during_a_rest_is_told_together() -> None:
    cache = ResourceCache(PREFIX, ProtoFramer(core.ConfigMap, "type", "v1", "ConfigMap"))
    watchers = [cache.watch(prefix=PREFIX, predicate=None, index=("", "")) for _ in range(SLICE + 1)]
    told: list[list[list[int]]] = [[] for _ in watchers]

    async def consume(watcher: Watcher, seen: list[list[int]]) -> None:
        while not seen or seen[-1][-1] < 50:
            seen.append([event.entry.revision for event in await watcher.take()])

    tasks = [asyncio.create_task(consume(*pair)) for pair in zip(watchers, told, strict=True)]
    await asyncio.sleep(0)
    for revision in range(1, 51):
        cache.apply(f"{PREFIX}default/a", VALUE, revision)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    for seen in told:
        assert [revision for revisions in seen for revision in revisions] == list(range(1, 51))
        assert len(seen) < 50
