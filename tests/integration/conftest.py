"""Fixtures of the integration tests: a real etcd and an apiserver over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from real_apiserver import Etcd, RunningApiserver, running_etcd, serving

from services.apiserver.options import ApiserverOptions
from tillerman.client import Client


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with running_etcd() as member:
        yield member


@pytest.fixture
async def apiserver(etcd: Etcd) -> AsyncIterator[RunningApiserver]:
    """A fresh apiserver over the module's etcd; objects of earlier tests are still there."""
    async with asyncio.timeout(60), serving(ApiserverOptions(insecure=True, etcd_servers=[etcd.address])) as running:
        yield running


@pytest.fixture
async def client(apiserver: RunningApiserver) -> Client:
    return apiserver.client
