"""30,000 pods: memory, and how long a list of all of them takes, in protobuf and JSON, from the cache and confirmed.

Floors: the floor's server answering with as many bytes over gRPC; short requests beside lists against those without.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.apiserver.load import Loaders
from bench.apiserver.loader import Http as HttpClient
from bench.apiserver.measure import verdict
from bench.apiserver.samples import Grpc, Http, floor, named, pod
from bench.apiserver.stage import Stage
from bench.apiserver.unary import configure
from bench.binding import in_batches
from tillerman.client.batch import BatchOp
from tillerman.client.channel import open_channel
from tillerman.pb.api import objects_pb2 as api

PODS = 30_000
TIMES = 7
LIST_SECONDS = 0.12
MEGABYTES = 500.0
PROTOBUF = "application/vnd.kubernetes.protobuf"


def run(stage: Stage, loaders: Loaders) -> bool:
    before = stage.apiserver.megabytes()
    asyncio.run(fill(stage))
    # The history of changes holds what it may hold by now.
    after = stage.apiserver.megabytes()
    held = after <= MEGABYTES
    print(
        f"memory with {PODS} pods: {after:.0f} MB, {before:.0f} MB without (bar: <= {MEGABYTES:.0f} MB, "
        f"{'holds' if held else 'MISSED'})",
        flush=True,
    )
    holds = asyncio.run(lists(stage)) and held
    print(f"memory after the lists, their JSON kept: {stage.apiserver.megabytes():.0f} MB", flush=True)
    starved(stage, loaders)
    return holds


async def fill(stage: Stage) -> None:
    client = stage.client()
    try:
        await in_batches(client, [BatchOp.create(pod(named(f"{number:012}"))) for number in range(PODS)])
    finally:
        await client.close()


async def lists(stage: Stage) -> bool:
    grpc, http = Grpc(stage), Http(stage)
    async with open_channel(stage.config("bench", stage.apiserver)) as channel:
        cached, confirmed = grpc.list(resource_version="0"), grpc.list()
        whole = await channel.unary_unary(cached.method)(cached.body())
        assert len(api.ListResponse.FromString(whole).items) == PODS
        await configure(stage, whole, b"")
        async with open_channel(stage.config("bench", stage.floor)) as other:
            echo = floor(stage, "Echo", cached)
            seconds = await least(
                {
                    "floor": lambda: other.unary_unary(echo.method)(echo.body()),
                    "protobuf from the cache": lambda: channel.unary_unary(cached.method)(cached.body()),
                    "protobuf, confirmed": lambda: channel.unary_unary(confirmed.method)(confirmed.body()),
                }
            )
    bare = seconds.pop("floor")
    detail = f"{len(whole) / 1e6:.0f} MB; the same bytes from the floor's server {bare:.3f} s"
    taken = seconds["protobuf from the cache"]
    holds = taken <= LIST_SECONDS
    print(f"list, protobuf from the cache: {taken:.3f} s (bar on a quiet machine: <= {LIST_SECONDS} s)", flush=True)
    for name, each in seconds.items():
        verdict(f"list, {name}: {each:.3f} s", each / bare, None, detail=detail)
    client = HttpClient(http.list().dumps(), {})
    began = time.perf_counter()
    await client.send(http.list(resource_version="0").body())
    first = time.perf_counter() - began
    seconds = await least(
        {
            "JSON from the cache": lambda: client.send(http.list(resource_version="0").body()),
            "JSON, confirmed": lambda: client.send(http.list().body()),
            "protobuf over HTTP": lambda: client.send(http.list(resource_version="0", accept=PROTOBUF).body()),
        }
    )
    await client.close()
    print(f"list, JSON for the first time: {first:.3f} s", flush=True)
    for name, each in seconds.items():
        verdict(f"list, {name}: {each:.3f} s", each / bare, None, detail=detail)
    return holds


async def least(contenders: dict[str, Callable[[], Awaitable[object]]]) -> dict[str, float]:
    """The least seconds of each, taken by turns."""
    seconds = dict.fromkeys(contenders, float("inf"))
    for _ in range(TIMES):
        for name, call in contenders.items():
            began = time.perf_counter()
            await call()
            seconds[name] = min(seconds[name], time.perf_counter() - began)
    return seconds


def starved(stage: Stage, loaders: Loaders) -> None:
    """Gets by 8 clients, alone and while another lists everything without a pause."""
    get = Grpc(stage, "other").get(named("0" * 12))
    alone = loaders.run(get, 8, 3.0)
    with loaders.apart() as one:
        listing = one.start(Http(stage).list(resource_version="0"), 1)
        listing.begin(4.0)
        beside = loaders.run(get, 8, 3.0)
        listed = listing.end()
    verdict(
        "p99 of a get beside lists of all pods, to that without",
        beside.percentile(0.99) / alone.percentile(0.99),
        None,
        detail=f"{beside.percentile(0.99) * 1000:.1f} ms ({beside.rate:.0f}/s), without "
        f"{alone.percentile(0.99) * 1000:.1f} ms ({alone.rate:.0f}/s); {listed.rate:.1f} lists/s",
    )
