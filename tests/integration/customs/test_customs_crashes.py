"""The apiserver is killed at awkward moments: what it began, the next one finishes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver_process import ApiserverProcess
from custom_definitions import definition, definitions_of, gizmo, gizmos_of, gone, removed, until
from real_apiserver import Etcd

from tillerman.client import Client

NAME = "gizmos.example.org"
COUNT = 60


@pytest.fixture
def process(etcd: Etcd, tmp_path: Path) -> Iterator[ApiserverProcess]:
    server = ApiserverProcess(tmp_path, etcd, tls=False)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def client_of(process: ApiserverProcess) -> Client:
    return Client(process.channel(), wait_for_ready=True)


async def test_killed_between_creation_and_establishment(process: ApiserverProcess) -> None:
    async with client_of(process) as client:
        created = await definitions_of(client).create(definition())
        process.kill()
    process.start()
    async with client_of(process) as client:
        await until(client, created, "Established", "True")
        await gizmos_of(client).create(gizmo("a"))
        process.kill()
    process.start()
    async with client_of(process) as client:
        # Served at once: nothing is established a second time.
        assert [obj["metadata"]["name"] for obj in (await gizmos_of(client).list()).items] == ["a"]
        await definitions_of(client).delete(NAME)
        await gone(client, NAME)


async def test_killed_halfway_through_the_removal(process: ApiserverProcess) -> None:
    async with client_of(process) as client:
        created = await definitions_of(client).create(definition())
        await until(client, created, "Established", "True")
        gizmos = gizmos_of(client)
        await asyncio.gather(*(gizmos.create(gizmo(f"g{number:03}")) for number in range(COUNT)))
        held = gizmo("held")
        held["metadata"]["finalizers"] = ["example.org/wait"]
        await gizmos.create(held)
        await definitions_of(client).delete(NAME)
        # Some are gone, and some are not.
        await removed(gizmos, "g000")
        process.kill()
    process.start()
    async with client_of(process) as client:
        gizmos = gizmos_of(client)
        for number in range(COUNT):
            await removed(gizmos, f"g{number:03}")
        assert [obj["metadata"]["name"] for obj in (await gizmos.list()).items] == ["held"]
        process.kill()
    process.start()
    async with client_of(process) as client:
        await gizmos_of(client).patch("held", "default", {"metadata": {"finalizers": None}})
        await gone(client, NAME)
        again = await definitions_of(client).create(definition())
        await until(client, again, "Established", "True")
        assert (await gizmos_of(client).list()).items == []
        await definitions_of(client).delete(NAME)
        await gone(client, NAME)
