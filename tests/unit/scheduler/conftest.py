"""Fixtures of the scheduler's tests."""

import pytest
from scheduling import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
