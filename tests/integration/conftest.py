"""Fixtures of the integration tests: a real etcd and an apiserver over it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from real_apiserver import Etcd, RunningApiserver, serving

from services.apiserver.options import ApiserverOptions
from tillerman.client import Client


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    folder = Path(tempfile.mkdtemp(prefix="tillerman-etcd-"))
    member = Etcd(folder / "data")
    member.start()
    try:
        yield member
    finally:
        member.kill()
        shutil.rmtree(folder)


@pytest.fixture
async def apiserver(etcd: Etcd) -> AsyncIterator[RunningApiserver]:
    """A fresh apiserver over the module's etcd; objects of earlier tests are still there."""
    async with asyncio.timeout(60), serving(ApiserverOptions(insecure=True, etcd_servers=[etcd.address])) as running:
        yield running


@pytest.fixture
async def client(apiserver: RunningApiserver) -> Client:
    return apiserver.client
