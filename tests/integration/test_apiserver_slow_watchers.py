"""Watchers that do not read, and resources in which nothing happens."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from real_apiserver import RunningApiserver, http_front

from services.apiserver.cache import watcher as watcher_module
from services.apiserver.fronts.http.server import listen
from services.apiserver.registry import reading
from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.api import objects_pb2, objects_pb2_grpc
from tillerman.pb.k8s import core_v1_pb2 as core

BOUND = 1_000_000
# Of each change: together more than the bound and what the transports hold for a client that does not read.
SIZE, CHANGES = 200_000, 100
TARGET = objects_pb2.Target(api_version="v1", resource="configmaps", namespace="default")


@pytest.fixture
async def address(apiserver: RunningApiserver) -> AsyncIterator[tuple[str, int]]:
    """Where the HTTP front listens, in plain text; everybody is the admin."""
    bound = socket.create_server(("127.0.0.1", 0))
    close = await listen(http_front(apiserver.server, insecure=True), bound, None)
    try:
        yield bound.getsockname()
    finally:
        await close()


def held(running: RunningApiserver) -> int:
    """The most bytes that wait for one watcher of ConfigMaps."""
    cache = running.server.catalog.get("v1", "configmaps").cache
    waiting = [watcher.waiting for watchers in cache._watchers.values() for watcher in watchers]
    return max((sum(len(event.entry.frame) for event in events) for events in waiting), default=0)


async def changed_often(running: RunningApiserver, name: str) -> list[str]:
    """The resourceVersions of the changes."""
    maps = running.client.resource(core.ConfigMap)
    made = core.ConfigMap()
    made.metadata.name, made.metadata.namespace = name, "default"
    made = await maps.create(made)
    versions = [made.metadata.resourceVersion]
    for number in range(CHANGES):
        made.data["x"] = str(number) * (SIZE // len(str(number)))
        made = await maps.update(made)
        versions.append(made.metadata.resourceVersion)
        assert held(running) <= BOUND + 2 * SIZE
    return versions


async def rest_of(client: Client, name: str, after: str, last: str) -> list[str]:
    """The resourceVersions that a watch from there on shows."""
    maps, seen = client.resource(core.ConfigMap), []
    async for event in maps.watch("default", resource_version=after, field_selector=f"metadata.name={name}"):
        seen.append(event.object.metadata.resourceVersion)
        if seen[-1] == last:
            break
    return seen


@pytest.fixture(autouse=True)
def small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "MAX_WAITING_BYTES", BOUND)


async def test_a_grpc_watcher_that_does_not_read_is_dropped_and_loses_nothing(apiserver: RunningApiserver) -> None:
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65_536),
    ]
    async with grpc.aio.insecure_channel(apiserver.address, options=options) as channel:
        start = (await apiserver.client.resource(core.ConfigMap).list("default")).resource_version
        request = objects_pb2.WatchRequest(target=TARGET, resource_version=start)
        watch = objects_pb2_grpc.ObjectsStub(channel).Watch(request)
        await watch.initial_metadata()
        versions = await changed_often(apiserver, "slow-grpc")
        seen: list[str] = []
        with pytest.raises(grpc.aio.AioRpcError) as dropped:
            async for response in watch:
                for event in response.events:
                    found = core.ConfigMap()
                    event.object.Unpack(found)
                    seen.append(found.metadata.resourceVersion)
    assert dropped.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert "did not keep up" in str(dropped.value.details())
    assert seen == versions[: len(seen)] and len(seen) < len(versions)
    after = seen[-1] if seen else start
    assert seen + await rest_of(apiserver.client, "slow-grpc", after, versions[-1]) == versions


async def test_an_http_watcher_that_does_not_read_is_dropped_and_loses_nothing(
    apiserver: RunningApiserver, address: tuple[str, int]
) -> None:
    start = (await apiserver.client.resource(core.ConfigMap).list("default")).resource_version
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, address)
    reader, writer = await asyncio.open_connection(sock=small, limit=1 << 30)
    # Nothing is taken from the socket until told so.
    transport: Any = writer.transport
    path = f"/api/v1/namespaces/default/configmaps?watch=1&resourceVersion={start}"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    transport.pause_reading()
    assert head.startswith(b"HTTP/1.1 200 ")
    versions = await changed_often(apiserver, "slow-http")
    transport.resume_reading()
    events = []
    while size := int(await reader.readline(), 16):
        events += (await reader.readexactly(size + 2))[:-2].splitlines()
    writer.close()
    decoded = [json.loads(event) for event in events]
    last = decoded.pop()
    assert (last["type"], last["object"]["code"], last["object"]["reason"]) == ("ERROR", 410, "Expired")
    seen = [event["object"]["metadata"]["resourceVersion"] for event in decoded]
    assert seen == versions[: len(seen)] and len(seen) < len(versions)
    after = seen[-1] if seen else start
    assert seen + await rest_of(apiserver.client, "slow-http", after, versions[-1]) == versions


async def test_a_quiet_resource_keeps_up_with_the_others(
    apiserver: RunningApiserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BOOKMARK_SECONDS", 0.05)
    maps, quiet = apiserver.client.resource(core.ConfigMap), apiserver.client.resource(core.ReplicationController)
    start = (await quiet.list()).resource_version
    watch = quiet.watch(resource_version=start)
    for number in range(3):
        made = core.ConfigMap()
        made.metadata.name, made.metadata.namespace = f"busy-{number}", "default"
        version = int((await maps.create(made)).metadata.resourceVersion)
        # A list that asks for the newest is no older than what was written before it.
        assert int((await quiet.list()).resource_version) >= version
        async for event in watch:
            assert event.type == "BOOKMARK"
            if int(event.object.metadata.resourceVersion) >= version:
                break
    # What the bookmark told is a place to go on from, though the resource itself was never there.
    resumed = quiet.watch(resource_version=str(version), timeout_seconds=1)
    assert [event.type async for event in resumed if event.type != "BOOKMARK"] == []
    with pytest.raises(StatusError, match="Too large resource version"):
        monkeypatch.setattr(reading, "WAIT_SECONDS", 0.01)
        await quiet.list(resource_version=str(version + 1_000_000))
