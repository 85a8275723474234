"""The cache of one resource: order, history, indexes, watchers."""

from __future__ import annotations

import asyncio

import pytest

from services.apiserver.cache import watcher as watcher_module
from services.apiserver.cache.changes import ADDED, DELETED
from services.apiserver.cache.entry import JsonFramer, ProtoFramer
from services.apiserver.cache.hub import CacheHub
from services.apiserver.cache.resource import ResourceCache
from services.apiserver.cache.undecodable import Undecodable
from services.apiserver.cache.watcher import WatcherDropped
from tillerman.api import envelope
from tillerman.pb.etcd import kv_pb2
from tillerman.pb.k8s import core_v1_pb2 as core

PREFIX = "/registry/pods/"
FRAMER = ProtoFramer(core.Pod, "type.googleapis.com/k8s.io.api.core.v1.Pod", "v1", "Pod")


def value(name: str, node: str = "", **labels: str) -> bytes:
    pod = core.Pod()
    pod.metadata.name = name
    pod.metadata.labels.update(labels)
    if node:
        pod.spec.nodeName = node
    return envelope.wrap("v1", "Pod", pod.SerializeToString())


@pytest.fixture
def cache() -> ResourceCache:
    made = ResourceCache(PREFIX, FRAMER, node_of=lambda entry: entry.message().spec.nodeName)
    made.reset(10, [])
    return made


def put(cache: ResourceCache, namespace: str, name: str, revision: int, node: str = "", **labels: str) -> None:
    cache.apply(f"{PREFIX}{namespace}/{name}", value(name, node, **labels), revision)


def names(entries: list[object]) -> list[str]:
    return [entry.key.removeprefix(PREFIX) for entry in entries]  # type: ignore[attr-defined]


def test_objects_are_listed_in_key_order_and_by_namespace(cache: ResourceCache) -> None:
    for revision, (namespace, name) in enumerate([("b", "x"), ("a", "z"), ("a-b", "q"), ("a", "c")], 11):
        put(cache, namespace, name, revision)
    assert names(cache.select(PREFIX)) == ["a-b/q", "a/c", "a/z", "b/x"]
    assert names(cache.select(PREFIX + "a/")) == ["a/c", "a/z"]
    assert names(cache.select(PREFIX, PREFIX + "a/c\0")) == ["a/z", "b/x"]
    cache.apply(PREFIX + "a/c", None, 20)
    assert names(cache.select(PREFIX + "a/")) == ["a/z"]
    assert cache.apply(PREFIX + "a/nothing", None, 21) is None


def test_history_tells_what_it_does_not_know(cache: ResourceCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.apiserver.cache.resource.HISTORY", 4)
    for revision in range(11, 20):
        put(cache, "a", "x", revision)
    assert cache.since(9, PREFIX) is None and cache.since(14, PREFIX) is None
    changes = cache.since(15, PREFIX)
    assert changes is not None and [c.revision for c in changes] == [16, 17, 18, 19]
    assert cache.since(19, PREFIX) == []


def test_history_never_holds_half_a_revision(cache: ResourceCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.apiserver.cache.resource.HISTORY", 5)
    for revision in (11, 12):
        for index in range(3):
            put(cache, "a", f"x{index}", revision)
    changes = cache.since(11, PREFIX)
    assert changes is not None and len(changes) == 3
    assert cache.since(10, PREFIX) is None


async def test_watchers_by_namespace_name_and_node(cache: ResourceCache) -> None:
    everything = cache.watch(prefix=PREFIX, predicate=None, index=("", ""))
    in_b = cache.watch(prefix=PREFIX + "b/", predicate=None, index=("namespace", "b"))
    named = cache.watch(prefix=PREFIX + "a/x", predicate=None, index=("name", "x"))
    on_node = cache.watch(
        prefix=PREFIX, predicate=lambda entry: entry.message().spec.nodeName == "n1", index=("node", "n1")
    )
    put(cache, "a", "x", 11)
    put(cache, "b", "x", 12)
    put(cache, "a", "x", 13, node="n1")
    put(cache, "a", "x", 14, node="n2")

    async def seen(watcher: watcher_module.Watcher) -> list[tuple[int, int]]:
        return [(event.type, event.entry.revision) for event in await watcher.take()]

    assert await seen(everything) == [(0, 11), (0, 12), (1, 13), (1, 14)]
    assert await seen(in_b) == [(0, 12)]
    assert await seen(named) == [(0, 11), (1, 13), (1, 14)]
    assert await seen(on_node) == [(0, 13), (2, 14)]
    for watcher in (everything, in_b, named, on_node):
        cache.unwatch(watcher)
    assert cache.watcher_count == 0


async def test_a_slow_watcher_is_dropped(cache: ResourceCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "MAX_WAITING", 3)
    watcher = cache.watch(prefix=PREFIX, predicate=None, index=("", ""))
    for revision in range(11, 16):
        put(cache, "a", "x", revision)
    assert watcher.waiting == []
    with pytest.raises(WatcherDropped):
        await watcher.take()


async def test_a_reset_ends_watches_that_wait(cache: ResourceCache) -> None:
    watcher = cache.watch(prefix=PREFIX, predicate=None, index=("", ""))
    waiting = asyncio.create_task(watcher.take())
    await asyncio.sleep(0)
    cache.reset(50, [])
    with pytest.raises(WatcherDropped):
        await waiting


def test_the_hub_keeps_unknown_keys_until_they_are_claimed() -> None:
    hub = CacheHub()
    pairs = [
        kv_pb2.KeyValue(key=f"{PREFIX}a/x".encode(), value=value("x"), mod_revision=3),
        kv_pb2.KeyValue(key=b"/registry/services/specs/a/s", value=b"", mod_revision=4),
    ]
    hub.reset(7, pairs)
    event = kv_pb2.Event(kv=kv_pb2.KeyValue(key=f"{PREFIX}b/y".encode(), value=value("y"), mod_revision=8))
    hub.apply(8, [event])
    assert hub.count(PREFIX) == 2
    cache = hub.add(PREFIX, FRAMER)
    assert names(cache.select(PREFIX)) == ["a/x", "b/y"] and cache.history_from == 8
    hub.apply(9, [kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=kv_pb2.KeyValue(key=f"{PREFIX}a/x".encode()))])
    assert names(cache.select(PREFIX)) == ["b/y"] and hub.revision == 9
    assert hub.count("/registry/services/specs/") == 1


def test_a_value_that_cannot_be_decoded_is_put_aside_and_reported_once() -> None:
    reports: list[tuple[str, str, str]] = []
    cache = ResourceCache(PREFIX, FRAMER, report=lambda *report: reports.append(report))
    pairs = [(PREFIX + "a/bad", b"k8s:enc:kms:v2:x", 4), (PREFIX + "a/good", value("good"), 5)]
    cache.reset(10, pairs)
    cache.reset(11, pairs)
    assert names(cache.select(PREFIX)) == ["a/good"]
    assert [report[1] for report in reports] == [PREFIX + "a/bad"] == cache.broken_under(PREFIX + "a/")
    watcher = cache.watch(prefix=PREFIX, predicate=None, index=("", ""))
    cache.apply(PREFIX + "a/good", b"", 12)
    cache.apply(PREFIX + "a/good", b"?", 13)
    cache.apply(PREFIX + "a/good", value("good"), 14)
    cache.apply(PREFIX + "a/bad", None, 15)
    assert [(event.type, event.entry.revision) for event in watcher.waiting] == [(DELETED, 12), (ADDED, 14)]
    assert not cache.broken and len(reports) == 3


@pytest.mark.parametrize(
    "stored", [b"", b"[]", b"7", b"{}", b'{"metadata": null}', b'{"metadata": {"name": 1}}', b"\xff{"]
)
def test_a_custom_resource_is_json_with_metadata(stored: bytes) -> None:
    with pytest.raises(Undecodable):
        JsonFramer().raw(stored)


def test_a_resource_that_comes_later_hears_of_what_was_kept_aside_for_it() -> None:
    reports: list[tuple[str, str, str]] = []
    hub = CacheHub(lambda *report: reports.append(report))
    key = PREFIX + "a/bad"
    hub.reset(7, [kv_pb2.KeyValue(key=key.encode(), value=b"?", mod_revision=3)])
    assert not reports
    cache = hub.add(PREFIX, FRAMER)
    assert [report[:2] for report in reports] == [(PREFIX, key)]
    hub.remove(PREFIX)
    assert hub.count(PREFIX) == 1 and not cache.broken
    assert hub.add(PREFIX, FRAMER).broken[key].revision == 3


def test_a_watcher_is_bounded_in_bytes_but_not_in_what_it_resumes_with(
    cache: ResourceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, "a", "x", 11)
    size = len(cache.entries[PREFIX + "a/x"].frame)
    monkeypatch.setattr(watcher_module, "MAX_WAITING_BYTES", 3 * size + 2)
    for revision in range(12, 20):
        put(cache, "a", "x", revision)
    watcher = cache.watch(prefix=PREFIX, predicate=None, index=("", ""))
    watcher.begin(cache.since(11, PREFIX) or [])
    for revision in (20, 21, 22):
        put(cache, "a", "x", revision)
    assert [event.entry.revision for event in asyncio.run(watcher.take())] == list(range(12, 23))
    for revision in range(23, 27):
        put(cache, "a", "x", revision)
    assert not watcher.waiting
    with pytest.raises(WatcherDropped, match="did not keep up"):
        asyncio.run(watcher.take())


def test_what_was_written_is_the_entry_that_the_cache_hears_of(cache: ResourceCache) -> None:
    raw = core.Pod(metadata={"name": "x"}).SerializeToString()
    key = f"{PREFIX}a/x"
    entry = cache.written(key, raw, 11)
    assert cache.select(PREFIX) == []
    put(cache, "a", "x", 11)
    assert cache.entries[key] is entry
    # Heard of before the writer was told.
    assert cache.written(key, raw, 11) is entry
    # Written over by somebody else, before and after.
    late = cache.written(key, raw, 13)
    put(cache, "a", "x", 12, node="n")
    assert cache.entries[key].revision == 12
    put(cache, "a", "x", 13)
    assert cache.entries[key].revision == late.revision == 13
    old = cache.written(key, raw, 12)
    put(cache, "a", "x", 14, node="m")
    assert cache.entries[key].message().spec.nodeName == "m"
    assert old.revision == 12
    # Written and gone before the cache hears of either.
    cache.written(f"{PREFIX}a/y", raw, 15)
    assert cache.apply(f"{PREFIX}a/y", value("y"), 15) is not None
    cache.apply(f"{PREFIX}a/y", None, 16)
    assert names(cache.select(PREFIX)) == ["a/x"]
