"""Values in etcd that are no objects: they are told of, and everything else is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from prometheus_client import generate_latest
from real_apiserver import Etcd, RunningApiserver, running_etcd, serving

from services.apiserver.options import ApiserverOptions
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.reading import ListOptions
from services.apiserver.registry.registry import Target
from services.apiserver.storage.etcd import EtcdClient
from services.apiserver.storage.store import Store, opened
from tillerman.api import envelope
from tillerman.api.status import StatusError
from tillerman.pb.k8s import core_v1_pb2 as core

ENCRYPTED = b"k8s:enc:aescbc:v1:key1:\x8f\x00\xff\x13secret"
ASCII = envelope.wrap("v1", "ConfigMap", b"\x0a\x7fx")
CUT_OFF = envelope.wrap("v1", "ConfigMap", b"\x0a\xff\x01x")
NOT_UTF8 = envelope.wrap("v1", "ConfigMap", b"\x0a\x03\x0a\x01\xff")
GARBAGE = {
    "/registry/configmaps/default/ascii": ASCII,
    "/registry/configmaps/default/cut": CUT_OFF,
    "/registry/configmaps/default/empty": b"",
    "/registry/configmaps/default/header": b"k8s\0",
    "/registry/configmaps/default/letters": NOT_UTF8,
    "/registry/configmaps/default/list": b"{[]}",
    "/registry/secrets/kube-system/foreign": ENCRYPTED,
    "/registry/services/specs/default/typed": b'{"kind": "Service", "spec": 7}',
    "/registry/configmaps/\xff\xfe": b"?",
}
USER = User("test", ("system:masters",))


@pytest.fixture(scope="module")
def spoilt() -> Iterator[Etcd]:
    """An etcd that held garbage before the apiserver came."""

    async def spoil(address: str) -> None:
        async with opened(EtcdClient([address])) as store:
            for key, value in GARBAGE.items():
                await store.put(key, value, expected=0)

    with running_etcd() as member:
        asyncio.run(spoil(member.address))
        yield member


@pytest.fixture
async def running(spoilt: Etcd) -> AsyncIterator[RunningApiserver]:
    async with asyncio.timeout(30), serving(ApiserverOptions(insecure=True, etcd_servers=[spoilt.address])) as running:
        yield running


def config_map(name: str) -> core.ConfigMap:
    made = core.ConfigMap()
    made.metadata.name, made.metadata.namespace = name, "default"
    return made


async def store_raw(store: Store, key: str, value: bytes) -> None:
    pair = await store.get(key)
    assert (await store.put(key, value, expected=0 if pair is None else pair.mod_revision)).succeeded


def errors_of(running: RunningApiserver, resource: str) -> float:
    lines = generate_latest(running.server.instrument.registry).decode().splitlines()
    head = f'apiserver_storage_decode_errors_total{{resource="{resource}"}} '
    return next((float(line.removeprefix(head)) for line in lines if line.startswith(head)), 0.0)


async def test_garbage_from_before_the_start_is_told_of_and_the_rest_is_served(running: RunningApiserver) -> None:
    maps, secrets = running.client.resource(core.ConfigMap), running.client.resource(core.Secret)
    await maps.create(config_map("good"))
    assert (await maps.get("good", "default")).metadata.name == "good"
    assert (errors_of(running, "configmaps"), errors_of(running, "services")) == (7, 1)
    for name in ("ascii", "cut", "empty", "header", "letters", "list"):
        for asked in (maps.get(name, "default"), maps.delete(name, "default"), maps.update(config_map(name))):
            with pytest.raises(StatusError) as failed:
                await asked
            assert (failed.value.code, failed.value.reason) == (500, "InternalError")
            key = f"/registry/configmaps/default/{name}"
            assert str(failed.value).startswith(f'Internal error occurred: unable to decode "{key}": ')
        with pytest.raises(StatusError) as failed:
            await maps.create(config_map(name))
        assert failed.value.reason == "AlreadyExists"
    with pytest.raises(StatusError, match=r"the stored value is encrypted \(k8s:enc:aescbc:v1:key1\)"):
        await secrets.get("foreign", "kube-system")
    assert errors_of(running, "secrets") == 1


async def test_a_list_leaves_out_what_cannot_be_decoded_and_says_so(running: RunningApiserver) -> None:
    registry = running.server.registry
    created = await running.client.resource(core.ConfigMap).create(config_map("before"))
    version = created.metadata.resourceVersion
    for options in (
        ListOptions(),
        ListOptions(resource_version="0"),
        ListOptions(limit=500),
        ListOptions(resource_version=version, resource_version_match="Exact"),
    ):
        context = Context(USER)
        page = await registry.list(Target("v1", "configmaps", "default"), context, options)
        assert {entry.key for entry in page.entries}.isdisjoint(GARBAGE)
        assert "/registry/configmaps/default/before" in {entry.key for entry in page.entries}
        (warning,) = context.warnings
        assert "cannot be decoded" in warning and "/registry/configmaps/default/" in warning and "5 more" in warning
    context = Context(USER)
    await registry.list(Target("v1", "pods", "default"), context, ListOptions())
    assert context.warnings == []


async def test_an_object_that_is_spoilt_goes_and_comes_back_when_it_is_repaired(running: RunningApiserver) -> None:
    maps, store = running.client.resource(core.ConfigMap), running.server.store
    created = await maps.create(config_map("spoilt"))
    key = "/registry/configmaps/default/spoilt"
    pair = await store.get(key)
    assert pair is not None
    counted = errors_of(running, "configmaps")
    seen: list[str] = []
    watch = maps.watch(
        "default", resource_version=created.metadata.resourceVersion, field_selector="metadata.name=spoilt"
    )

    async def follow() -> None:
        async for event in watch:
            seen.append(event.type)
            if len(seen) == 3:
                return

    following = asyncio.create_task(follow())
    await store_raw(store, key, b"\x00garbage")
    with pytest.raises(StatusError) as failed:
        await maps.get("spoilt", "default")
    assert failed.value.reason == "InternalError" and key in str(failed.value)
    assert errors_of(running, "configmaps") == counted + 1
    await store_raw(store, key, pair.value)
    assert (await maps.get("spoilt", "default")).metadata.uid == created.metadata.uid
    await store_raw(store, key, ENCRYPTED)
    await following
    assert seen == ["DELETED", "ADDED", "DELETED"]
    # Taken away by etcd's tools, its name is free again.
    broken = await store.get(key)
    assert broken is not None
    assert (await store.delete(key, expected=broken.mod_revision)).succeeded
    with pytest.raises(StatusError) as failed:
        await maps.get("spoilt", "default")
    assert failed.value.reason == "NotFound"
    await maps.create(config_map("spoilt"))
