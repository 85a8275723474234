"""The servers that the recordings are replayed against, one for all files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from replay_server import Server


def _serving(folder: Path, *, controllers: bool) -> Iterator[Server]:
    server = Server(folder, controllers=controllers)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Nothing but the API server runs, as for the recorder."""
    yield from _serving(tmp_path_factory.mktemp("replay"), controllers=False)


@pytest.fixture(scope="module")
def managed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the controller manager."""
    yield from _serving(tmp_path_factory.mktemp("replay"), controllers=True)
