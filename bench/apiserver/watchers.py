"""1,000 watchers on one resource with 100 changes a second: how many events arrive, and how late the last hundredth is.

Floor: an aio server that streams the same events to as many callers from queues, with no cache behind it.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

from bench.apiserver.follower import DIGITS, MARK
from bench.apiserver.load import Loaders, receive, send
from bench.apiserver.measure import verdict
from bench.apiserver.samples import SERVICE
from bench.apiserver.stage import Process, Stage
from tillerman.client.channel import open_channel
from tillerman.pb.api import objects_pb2 as api
from tillerman.pb.k8s import core_v1_pb2 as core

WATCHERS = 1_000
PROCESSES = 2
CHANGES_PER_SECOND = 100
# So many objects are changed by turns, each by a writer of its own that waits for its answers.
WRITERS = 10
SECONDS = 4.0
ROUNDS = 2
# Seconds for what was sent last to arrive.
SETTLE_SECONDS = 2.0
CONFIG_MAP = "type.googleapis.com/k8s.io.api.core.v1.ConfigMap"
PLACE = MARK + b"0" * DIGITS

Followers = list["subprocess.Popen[str]"]


def run(stage: Stage, _loaders: Loaders) -> bool:
    asyncio.run(create(stage))
    idle = stage.apiserver.megabytes()
    watch = api.WatchRequest(target=api.Target(api_version="v1", resource="configmaps", namespace="default"))
    watch.resource_version = "0"
    # Of each: delays of everything that arrived, CPU seconds, events that should have arrived.
    delays: dict[str, list[float]] = {"apiserver": [], "floor": []}
    cpu = dict.fromkeys(delays, 0.0)
    wanted = dict.fromkeys(delays, 0)
    contenders = {
        "apiserver": (
            stage.apiserver,
            SERVICE + "Watch",
            watch.SerializeToString(),
            SERVICE + "Update",
            [change(n) for n in range(WRITERS)],
        ),
        "floor": (stage.floor, "/bench.Floor/Follow", b"", "/bench.Floor/Publish", [event()] * WRITERS),
    }
    for _ in range(ROUNDS):
        for name, (server, method, request, write, bodies) in contenders.items():
            with followers() as processes:
                for process in processes:
                    send(process, follow(stage, server, method, request))
                for process in processes:
                    receive(process)
                if name == "apiserver":
                    watching = server.megabytes()
                report(processes)
                before = server.cpu_seconds()
                sent = asyncio.run(changes(stage, server, write, bodies))
                cpu[name] += server.cpu_seconds() - before
                wanted[name] += sent * WATCHERS
                delays[name] += report(processes)
    print(f"memory of {WATCHERS} watchers: {watching - idle:.0f} MB", flush=True)
    p99 = {}
    for name, found in delays.items():
        found.sort()
        p99[name] = found[int(len(found) * 0.99)]
        print(
            f"  {name}: {len(found) / (ROUNDS * SECONDS):.0f} events/s delivered, {len(found) / wanted[name]:.1%} of "
            f"what was sent; delay p50 {found[len(found) // 2] * 1000:.0f} ms, p99 {p99[name] * 1000:.0f} ms; "
            f"{cpu[name] / len(found) * 1e6:.0f} µs CPU each",
            flush=True,
        )
    verdict(f"p99 delay of {WATCHERS} watchers to the floor's", p99["apiserver"] / p99["floor"], None)
    share = len(delays["apiserver"]) / wanted["apiserver"]
    return verdict("events delivered, of those sent", share, 1.0)


def follow(stage: Stage, server: Process, method: str, request: bytes) -> dict[str, object]:
    return {
        "streams": WATCHERS // PROCESSES,
        "address": server.address,
        "user": stage.user(),
        "method": method,
        "request": request.hex(),
    }


def report(processes: Followers) -> list[float]:
    found: list[float] = []
    for process in processes:
        send(process, {"report": True})
    for process in processes:
        found += receive(process)["delays"]
    return found


def config_map(writer: int) -> core.ConfigMap:
    made = core.ConfigMap()
    made.metadata.name, made.metadata.namespace = f"watched-{writer}", "default"
    made.metadata.annotations["bench"] = PLACE.decode()
    made.data["payload"] = "x" * 500
    return made


def change(writer: int) -> bytes:
    made = config_map(writer)
    request = api.UpdateRequest(
        target=api.Target(api_version="v1", resource="configmaps", namespace="default", name=made.metadata.name)
    )
    request.object.type_url, request.object.value = CONFIG_MAP, made.SerializeToString()
    return request.SerializeToString()


def event() -> bytes:
    """As long as what the apiserver sends of such a change."""
    response = api.WatchResponse()
    made = response.events.add(type=api.WatchEvent.MODIFIED).object
    stored = config_map(0)
    stored.metadata.uid, stored.metadata.resourceVersion = "0" * 36, "123456"
    made.type_url, made.value = CONFIG_MAP, stored.SerializeToString()
    return response.SerializeToString()


async def create(stage: Stage) -> None:
    client = stage.client()
    try:
        for writer in range(WRITERS):
            made = config_map(writer)
            made.metadata.annotations["bench"] = ""
            await client.resource(core.ConfigMap).create(made)
    finally:
        await client.close()


async def changes(stage: Stage, server: Process, method: str, bodies: list[bytes]) -> int:
    """Sends changes at the rate that is wanted, or as fast as it goes; how many."""
    async with open_channel(stage.config("bench", server)) as channel:
        call: Callable[[bytes], Awaitable[bytes]] = channel.unary_unary(method)
        began = time.monotonic()

        async def write(body: bytes, first: float) -> int:
            before, after = body.split(PLACE)
            count = 0
            while (now := time.monotonic()) < began + SECONDS:
                if (early := began + first + count * WRITERS / CHANGES_PER_SECOND - now) > 0:
                    await asyncio.sleep(early)
                await call(before + MARK + b"%0*d" % (DIGITS, time.monotonic_ns()) + after)
                count += 1
            return count

        counts = await asyncio.gather(*(write(body, i / CHANGES_PER_SECOND) for i, body in enumerate(bodies)))
        await asyncio.sleep(SETTLE_SECONDS)
    return sum(counts)


@contextlib.contextmanager
def followers() -> Iterator[Followers]:
    argv = [sys.executable, "-m", "bench.apiserver.follower"]
    running = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()
