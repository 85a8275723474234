"""Random writes, watches and reads while two apiservers and their etcd are killed, against a model.

TILLERMAN_MODEL_SEEDS (how many, or a list with commas) and TILLERMAN_MODEL_SECONDS (per seed) ask for more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from apiserver_process import ApiserverProcess
from crashes import SELECTIONS, Crashes, Reader, Recorder, Servers, Watcher, Writer, running
from crashes import Clock as Told
from model import Operation, check_list, check_operations, check_watcher
from real_apiserver import Etcd

from tillerman.pb.k8s import core_v1_pb2 as core

SECONDS = float(os.environ.get("TILLERMAN_MODEL_SECONDS", "12"))
WRITERS, WATCHERS, READERS = 4, 2, 2
# How long everybody may take to come back and catch up after the last crash.
PATIENCE = 60.0


def seeds() -> list[int]:
    given = os.environ.get("TILLERMAN_MODEL_SEEDS", "2")
    return [int(seed) for seed in given.split(",") if seed] if "," in given else list(range(1, int(given) + 1))


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tillerman-model-"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


@pytest.mark.parametrize("seed", seeds())
async def test_what_is_acknowledged_is_there_and_watchers_see_it_once(folder: Path, seed: int) -> None:
    etcd = Etcd(folder / "etcd")
    etcd.start()
    processes = [ApiserverProcess(folder / f"apiserver-{n}", etcd, tls=False) for n in range(2)]
    try:
        for process in processes:
            process.start(wait=False)
        for process in processes:
            await asyncio.to_thread(process.wait)
        wrong, summary = await one_run(seed, etcd, processes)
    finally:
        for process in processes:
            process.kill()
        etcd.kill()
    print(summary)
    assert not wrong, f"seed {seed}: {len(wrong)} wrong; {summary}\n" + "\n".join(wrong[:12])


async def one_run(seed: int, etcd: Etcd, processes: list[ApiserverProcess]) -> tuple[list[str], str]:
    """(what is wrong, what was done)."""
    random = Random(seed)
    told, recorder, servers = Told(), Recorder(etcd), Servers(processes)
    operations: list[Operation] = []
    # Each has a Random of its own: what one does takes nothing from the others.
    writers = [Writer(f"w{n}", Random(random.random()), servers, told, operations) for n in range(WRITERS)]
    watchers = [
        Watcher(str(n), selection, Random(random.random()), servers, told)
        for selection in SELECTIONS
        for n in range(WATCHERS)
    ]
    readers = [Reader(Random(random.random()), servers, told) for _ in range(READERS)]
    crashes = Crashes(Random(random.random()), etcd, servers, recorder)
    until = asyncio.Event()
    async with running(servers), asyncio.TaskGroup() as group:
        background = [group.create_task(recorder.run())]
        background += [group.create_task(watcher.run()) for watcher in watchers]
        work = [group.create_task(each.run(until)) for each in (*writers, *readers, crashes)]
        await asyncio.sleep(SECONDS)
        until.set()
        await asyncio.wait(work)
        late = await caught_up(servers, recorder, watchers)
        for task in background:
            task.cancel()
    history = recorder.history
    wrong = late + check_operations(history, operations)
    for watcher in watchers:
        wrong += check_watcher(history, watcher.name, watcher.stretches, watcher.selection.selects)
    reads = [read for reader in readers for read in reader.reads]
    for read in reads:
        wrong += check_list(
            history, f"{read.name} of {read.selection.name}", read.revision, read.items, read.selection.selects
        )
        if read.revision < read.known_before:
            wrong.append(f"{read.name} at {read.revision}, when {read.known_before} was known before")
    outcomes = {name: sum(o.outcome == name for o in operations) for name in ("done", "refused", "unknown")}
    summary = (
        f"{len(operations)} operations {outcomes}, {len(history.events)} changes, {crashes.tally}, {len(reads)} reads, "
        f"{sum(w.resumed for w in watchers)} resumed watches, {sum(w.expired for w in watchers)} expired"
    )
    return wrong, summary


async def caught_up(servers: Servers, recorder: Recorder, watchers: list[Watcher]) -> list[str]:
    """Waits until every watcher has been told of all that it should have; who has not by then is what is returned."""
    deadline = time.monotonic() + PATIENCE
    revision = 0
    while not revision:
        with contextlib.suppress(Exception):
            listed = await servers.clients[0].resource(core.ConfigMap).list("model-a")
            revision = int(listed.resource_version)
        if time.monotonic() > deadline:
            return ["the apiserver did not come back"]
        await asyncio.sleep(0.1)
    while True:
        behind = [watcher for watcher in watchers if missing(recorder, watcher, revision)]
        if not behind and recorder.revision >= revision:
            return []
        if time.monotonic() > deadline:
            return [
                f"{watcher.name} is at {watcher.upto} of {revision}: {missing(recorder, watcher, revision)}"
                for watcher in behind
            ]
        await asyncio.sleep(0.1)


def missing(recorder: Recorder, watcher: Watcher, revision: int) -> str:
    """The last change that a watcher has not been told of yet."""
    if not watcher.stretches:
        return "it has not listed"
    rest = recorder.history.seen(watcher.upto, revision, watcher.selection.selects)
    return f"{rest[-1].type} {rest[-1].version}" if rest else ""
