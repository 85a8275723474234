"""Writes that the cache has not shown yet."""

from services.controller.expectations import EXPECTATION_TIMEOUT, UNKNOWN_OUTCOME_TIMEOUT, Expectations
from tillerman.client.clock import FakeClock


def test_settled_by_name_and_uid() -> None:
    expectations = Expectations(FakeClock())
    assert expectations.satisfied("ns/a")
    expectations.expect_creations("ns/a", ["p1", "p2"])
    expectations.expect_deletions("ns/a", ["u1"])
    expectations.creation_settled("ns/a", "p1")
    expectations.creation_settled("ns/a", "somebody-else")
    assert not expectations.satisfied("ns/a")
    expectations.creation_settled("ns/a", "p2")
    assert not expectations.satisfied("ns/a")
    expectations.deletion_settled("ns/a", "u1")
    assert expectations.satisfied("ns/a")


async def test_a_lost_answer_is_waited_for_briefly() -> None:
    clock = FakeClock()
    expectations = Expectations(clock)
    expectations.expect_creations("k", ["p1", "p2"])
    expectations.unknown_outcome("k", name="p1")
    expectations.creation_settled("k", "p2")
    assert expectations.wait_seconds("k") == UNKNOWN_OUTCOME_TIMEOUT
    await clock.advance(UNKNOWN_OUTCOME_TIMEOUT)
    assert expectations.satisfied("k")


async def test_no_expectation_lasts_for_ever() -> None:
    clock = FakeClock()
    expectations = Expectations(clock)
    expectations.expect_deletions("k", ["u"])
    await clock.advance(EXPECTATION_TIMEOUT - 1)
    assert expectations.wait_seconds("k") == 1
    await clock.advance(1)
    assert expectations.satisfied("k")
