"""New endpoints wait until they listen; others are used meanwhile."""

import asyncio

import pytest

from services.proxy import warmup
from services.proxy.model import Endpoint, usable
from services.proxy.warmup import Warmup

WEB, API = "default/web", "default/api"
A, B = ("10.0.0.1", 80), ("10.0.0.2", 80)


class Trials:
    """Stands in for connecting: each target listens once `open` is called for it."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, int], asyncio.Event] = {}

    async def __call__(self, target, seconds) -> bool:
        await self.events.setdefault(target, asyncio.Event()).wait()
        return True

    async def open(self, target) -> None:
        self.events[target].set()
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
def trials(monkeypatch) -> Trials:
    made = Trials()
    monkeypatch.setattr(warmup, "listens", made)
    return made


@pytest.fixture
async def ready():
    return []


@pytest.fixture
async def warm(ready, trials):
    made = Warmup(on_ready=ready.append)
    yield made
    await made.stop()


async def test_endpoints_seen_before_the_beginning_are_in_use(warm, trials):
    assert not warm.is_held(WEB, A)
    warm.begin()
    assert not warm.is_held(WEB, A)
    assert not warm.is_held(API, A)


async def test_a_new_endpoint_is_held_until_it_listens(warm, trials, ready):
    warm.begin()
    assert warm.is_held(WEB, A) and warm.is_held(API, A)
    await asyncio.sleep(0)
    await trials.open(A)
    assert sorted(ready) == [API, WEB]
    assert not warm.is_held(WEB, A)


async def test_an_endpoint_that_goes_and_comes_is_tried_again(warm, trials):
    warm.begin()
    warm.is_held(WEB, A)
    await asyncio.sleep(0)
    await trials.open(A)
    warm.keep(WEB, [B], [A, B])
    trials.events.clear()
    assert warm.is_held(WEB, A)


async def test_an_endpoint_that_goes_ends_its_trial(warm, trials, ready):
    warm.begin()
    warm.is_held(WEB, A)
    await asyncio.sleep(0)
    warm.keep(WEB, [], [A])
    for _ in range(3):
        await asyncio.sleep(0)
    assert not warm._waiting and not warm._known and not ready


async def test_an_endpoint_of_two_services_stays_known_for_the_other(warm, trials):
    assert not warm.is_held(WEB, A) and not warm.is_held(API, A)
    warm.begin()
    warm.keep(WEB, [], [A])
    assert not warm.is_held(API, A)


def test_held_endpoints_are_used_only_when_nothing_else_is():
    new, old = Endpoint(*A), Endpoint(*B, ready=False, serving=True, terminating=True)
    assert usable([new, Endpoint(*B)], {A}) == (B,)
    assert usable([new, old], {A}) == (B,)
    assert usable([new], {A}) == (A,)
