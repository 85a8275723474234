"""What the apiserver does about etcd's space, its history, what expires and what is too large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sized
from pathlib import Path
from typing import Any

import pytest
from real_apiserver import Etcd, RunningApiserver, running_etcd, serving

from services.apiserver.options import ApiserverOptions
from services.apiserver.storage import maintenance
from services.apiserver.storage.etcd import EtcdClient
from services.apiserver.storage.store import Store, opened
from tillerman.api.status import StatusError
from tillerman.pb.etcd import rpc_pb2
from tillerman.pb.k8s import core_v1_pb2 as core

QUOTA = 16 << 20


@pytest.fixture(scope="module")
def small_etcd() -> Iterator[Etcd]:
    with running_etcd(f"--quota-backend-bytes={QUOTA}") as member:
        yield member


@pytest.fixture
async def small(small_etcd: Etcd) -> AsyncIterator[RunningApiserver]:
    options = ApiserverOptions(insecure=True, etcd_servers=[small_etcd.address])
    async with asyncio.timeout(60), serving(options) as running:
        yield running


def config_map(name: str, size: int) -> core.ConfigMap:
    made = core.ConfigMap()
    made.metadata.name, made.metadata.namespace = name, "default"
    made.data["x"] = "x" * size
    return made


async def until(left: Callable[[], Awaitable[Sized]]) -> None:
    """Until nothing is left."""
    while await left():  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def alarms(running: RunningApiserver) -> list[int]:
    request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)
    return [alarm.alarm for alarm in (await running.server.store.client.call("alarm", request)).response.alarms]


async def test_a_full_etcd_is_explained_and_recovers_by_itself(small: RunningApiserver) -> None:
    maps = small.client.resource(core.ConfigMap)
    kept = await maps.create(config_map("kept", 10))
    large = await maps.create(config_map("large", 500_000))
    with pytest.raises(StatusError) as refused:
        for number in range(100):
            large.data["n"] = str(number)
            large = await maps.update(large)
    assert (refused.value.code, refused.value.reason) == (507, "InsufficientStorage")
    assert "database space exceeded" in str(refused.value) and "--quota-backend-bytes" in str(refused.value)
    assert await alarms(small) == [rpc_pb2.NOSPACE]
    # Reads go on.
    assert (await maps.get("kept", "default")).data == kept.data

    upkeep = asyncio.create_task(maintenance.look_after_forever(small.server.store, 3600))
    try:
        await until(lambda: alarms(small))
        # The write that etcd raised the alarm at may have been carried out all the same.
        large = await maps.get("large", "default")
        large.data["n"] = "after"
        assert (await maps.update(large)).data["n"] == "after"
        await maps.create(config_map("another", 10))
    finally:
        upkeep.cancel()


async def test_compaction_goes_to_the_revision_of_the_last_time(apiserver: RunningApiserver) -> None:
    maps = apiserver.client.resource(core.ConfigMap)
    first = await maps.create(config_map("compacted", 10))
    store = apiserver.server.store
    upkeep = asyncio.create_task(maintenance.look_after_forever(store, 0.1))
    try:
        old = int(first.metadata.resourceVersion)
        while True:
            first.data["x"] += "x"
            first = await maps.update(first)
            try:
                await store.page("/registry/configmaps/", revision=old)
            except Exception as error:
                assert "compacted" in str(error)
                break
            await asyncio.sleep(0.05)
    finally:
        upkeep.cancel()
    assert (await maps.get("compacted", "default")).data == first.data


async def test_what_is_too_large_is_refused_before_etcd_sees_it(apiserver: RunningApiserver) -> None:
    maps = apiserver.client.resource(core.ConfigMap)
    made = config_map("too-large", 900_000)
    # Bytes that no rule of ConfigMaps forbids.
    made.metadata.labels["a"] = "b"
    apiserver.server.store._max_bytes = 800_000
    with pytest.raises(StatusError) as refused:
        await maps.create(made)
    assert (refused.value.code, refused.value.reason) == (413, "RequestEntityTooLarge")
    assert str(refused.value).startswith("Request entity too large")


async def test_events_expire_with_a_shared_lease(etcd: Etcd) -> None:
    options = ApiserverOptions(insecure=True, etcd_servers=[etcd.address], event_ttl=100.0)
    async with asyncio.timeout(30), serving(options) as running:
        events = running.client.resource(core.Event)
        store = running.server.store
        leases = set()
        for number in range(3):
            event = core.Event()
            event.metadata.name, event.metadata.namespace = f"expiring-{number}", "default"
            event.involvedObject.kind, event.involvedObject.namespace = "Pod", "default"
            await events.create(event)
            pair = await store.get(f"/registry/events/default/expiring-{number}")
            assert pair is not None
            leases.add(pair.lease)
        assert len(leases) == 1 and leases != {0}
        # Its lease gone, etcd takes the events away, watchers see it, and the next event gets a new one.
        revoke = rpc_pb2.LeaseRevokeRequest(ID=leases.pop())
        await store.client.call("leaseRevoke", revoke)

        async def left() -> list[core.Event]:
            return (await events.list("default")).items

        await until(left)
        event.metadata.name = "afterwards"
        await events.create(event)
        assert (await events.get("afterwards", "default")).metadata.name == "afterwards"


class Observed(EtcdClient):
    """Notes which members are defragmented, and how many at a time at most."""

    def __init__(self, endpoints: list[str]) -> None:
        super().__init__(endpoints)
        self.defragmented: list[str] = []
        self.at_once = 0
        self._running = 0

    async def call_member(self, address: str, operation: str, request: Any, *, timeout: float = 30.0) -> Any:
        if operation != "defragment":
            return await super().call_member(address, operation, request, timeout=timeout)
        self.defragmented.append(address)
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        try:
            return await super().call_member(address, operation, request, timeout=timeout)
        finally:
            self._running -= 1


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Etcd]]:
    members = {name: Etcd(tmp_path / name) for name in ("a", "b", "c")}
    try:
        for name, member in members.items():
            member.join(name, members)
        for member in members.values():
            member.start()
        yield list(members.values())
    finally:
        for member in members.values():
            member.kill()


async def overwrite(store: Store, key: str, value: bytes) -> int:
    """The revision after it."""
    pair = await store.get(key)
    outcome = await store.put(key, value, expected=0 if pair is None else pair.mod_revision)
    assert outcome.succeeded
    return outcome.revision


async def fill_and_free(store: Store) -> None:
    """Some megabytes in every member's file, hardly any of them in use."""
    for number in range(40):
        revision = await overwrite(store, "/large", bytes([number]) * 200_000)
    client = store.client
    await client.compact(revision)

    async def used() -> list[str]:
        # A member's figures follow only with further commits: without writes they stay as they were for ever.
        await overwrite(store, "/small", b"x")
        await asyncio.sleep(0.1)
        found = [(a, await client.call_member(a, "status", rpc_pb2.StatusRequest())) for a in client.addresses]
        return [address for address, status in found if status.dbSizeInUse * 2 >= status.dbSize]

    await until(used)


async def sizes(client: EtcdClient) -> list[int]:
    return [(await client.call_member(a, "status", rpc_pb2.StatusRequest())).dbSize for a in client.addresses]


async def test_members_are_defragmented_one_at_a_time_when_it_pays(three: list[Etcd]) -> None:
    client = Observed([member.address for member in three])
    async with asyncio.timeout(60), opened(client) as store:
        await fill_and_free(store)
        before = await sizes(client)
        await maintenance.look_after(client, defragment_above=max(before) + 1)
        assert client.defragmented == []
        await maintenance.look_after(client, defragment_above=1 << 20)
        assert (client.defragmented, client.at_once) == (client.addresses, 1)
        after = await sizes(client)
        assert all(now < 1 << 20 < then for now, then in zip(after, before, strict=True))
        # What is in use is worth nothing to defragment again.
        await maintenance.look_after(client, defragment_above=0)
        assert len(client.defragmented) == 3
        assert (await store.get("/large")).value == bytes([39]) * 200_000  # type: ignore[union-attr]

        # With a member missing the others are left alone, or there might be no quorum for a moment.
        await fill_and_free(store)
        three[0].kill()
        await maintenance.look_after(client, defragment_above=1 << 20)
        assert len(client.defragmented) == 3
        three[0].start()
        while len(client.defragmented) == 3:
            # It may not be back in the cluster at once.
            await maintenance.look_after(client, defragment_above=1 << 20)
            await asyncio.sleep(0.1)
        assert (client.defragmented[3:], client.at_once) == (client.addresses, 1)
