"""Thousands of broken and hostile requests: all are answered, none with a 500, nothing is half-written, memory is flat.

TILLERMAN_FUZZ_REQUESTS and TILLERMAN_FUZZ_SEED ask for more requests, or for others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver_process import ApiserverProcess
from fuzz_run import Connection, Report, run
from hostile_parts import ANNOTATION, NAMESPACE, Call, number_of, resources
from real_apiserver import Etcd

from tests.integration.etcd_decoder import PREFIXES, Pair, decode_all
from tests.integration.etcd_reading import stored_pairs
from tillerman.client import Client
from tillerman.pb.k8s import core_v1_pb2

REQUESTS = int(os.environ.get("TILLERMAN_FUZZ_REQUESTS", "10000"))
SEED = int(os.environ.get("TILLERMAN_FUZZ_SEED", "1"))
# What a server may grow by in the second half: the history of changes that it keeps, which is bounded, and the heap's
# uneven filling.
GROWTH = 32 << 20


@pytest.fixture
def server(etcd: Etcd, tmp_path: Path) -> Iterator[ApiserverProcess]:
    process = ApiserverProcess(tmp_path / "apiserver", etcd)
    process.start()
    try:
        yield process
    finally:
        process.kill()


async def test_hostile_requests(server: ApiserverProcess, etcd: Etcd) -> None:
    async with server.channel() as channel:
        namespace = core_v1_pb2.Namespace()
        namespace.metadata.name = NAMESPACE
        await Client(channel).resource(core_v1_pb2.Namespace).create(namespace)
    half = REQUESTS // 2
    first = await run(server, seed=SEED, first=0, count=half)
    warm = server.pss()
    second = await run(server, seed=SEED + 1_000_000, first=half, count=half)
    grown = server.pss() - warm
    print(first.answers + second.answers, f"grown by {grown} bytes")

    assert server.running, server.log[-4000:]
    wrong = first.wrong + second.wrong
    assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong[:20])
    assert "unexpectedly" not in server.log
    assert first.sent + second.sent == 2 * half
    await check_stored(await stored_pairs(etcd.address), first, second)
    await check_served(server, etcd)
    assert grown < GROWTH


async def check_stored(pairs: list[Pair], *reports: Report) -> None:
    """Every key can be decoded, and none holds what was refused."""
    objects, faults = decode_all(pairs)
    assert not faults, f"{len(faults)} undecodable\n" + "\n".join(faults[:20])
    refused = set().union(*(report.refused for report in reports))
    writers = {key: number_of(annotations_of(obj).get(ANNOTATION, "")) for key, (kind, obj) in objects.items()}
    stored = {key: number for key, number in writers.items() if number in refused}
    assert not stored, f"refused, yet stored: {stored}"
    assert sum(number is not None for number in writers.values()) > len(pairs) / 10


def annotations_of(obj: object) -> dict[str, str]:
    found = obj.get("metadata.annotations") if not isinstance(obj, dict) else obj["metadata"].get("annotations")
    return found or {}


async def check_served(server: ApiserverProcess, etcd: Etcd) -> None:
    """Every resource can be listed in every form, all its objects at once."""
    counts = dict.fromkeys(PREFIXES, 0)
    for pair in await stored_pairs(etcd.address):
        prefix = next((p for p in PREFIXES if pair.key.startswith(f"/registry/{p}/")), None)
        if prefix is not None:
            counts[prefix] += 1
    connection = await Connection.open(server)
    for info in resources():
        if not info.etcd_prefix:
            continue
        version = f"/apis/{info.group}/{info.version}" if info.group else f"/api/{info.version}"
        for accept in (
            "application/json",
            "application/vnd.kubernetes.protobuf",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            "application/yaml",
        ):
            raw = f"GET {version}/{info.resource} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n".encode()
            answer = await connection.ask(Call(0, "GET", raw))
            assert answer.code == 200, f"{info.resource} as {accept}: {answer.code} {answer.body[:500]!r}"
            if accept == "application/json":
                stored = counts.get(info.etcd_prefix.removeprefix("/registry/").rstrip("/"), 0)
                assert answer.body.count(b'"creationTimestamp":"') >= stored, info.resource
    connection.close()
