"""What holds for all tests: where the machine is made ready (``TILLERMAN_REQUIRE_DOCKER=1``), a skip is a failure.

Properties are not timed, since machines are shared, and look at the same examples at every run in CI.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("tests")

REQUIRED = os.environ.get("TILLERMAN_REQUIRE_DOCKER") == "1"


def _refuse_skip(report: Any) -> Any:
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"with TILLERMAN_REQUIRE_DOCKER=1 nothing may be skipped: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return _refuse_skip((yield))
