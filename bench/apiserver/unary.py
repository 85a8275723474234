"""create, get, update and status patch at 1, 16 and 64 clients over gRPC, against the floor's server."""

import asyncio
import json
import time

from bench.apiserver.load import Loaders
from bench.apiserver.measure import ROUNDS, SECONDS, Contender, by_turns, verdict
from bench.apiserver.samples import POD_URL, Grpc, floor, named, pod
from bench.apiserver.stage import Stage
from services.apiserver.storage.commit import GroupCommitter, Write
from services.apiserver.storage.etcd import EtcdClient
from tillerman.api import envelope
from tillerman.client.channel import open_channel
from tillerman.pb.api import objects_pb2 as api
from tillerman.pb.k8s import core_v1_pb2 as core

CLIENTS = (1, 16, 64)
# Of the pass-through that sends etcd one transaction per call; kube-apiserver's own rates stand at 0.80, 0.80 and 0.87
# of it, and twice kube-apiserver's is wanted at 64.
CREATE_BARS = {1: 0.80, 16: 0.80, 64: 1.74}
# Of the echo server: kube-apiserver's 5312/s to 8000/s. A lone client waits for etcd to confirm each read.
GET_BARS = {64: 0.66}


async def configure(stage: Stage, answer: bytes, value: bytes) -> None:
    """What the floor's server answers and stores."""
    client = stage.config("bench", stage.floor)
    async with open_channel(client) as channel:
        content = {"answer": answer.hex(), "value": value.hex()}
        await channel.unary_unary("/bench.Floor/Configure")(json.dumps(content).encode())


async def prepare(stage: Stage) -> core.Pod:
    """Creates the clients' pods, and tells the floor's server how large a stored pod is. One of them."""
    client = stage.client()
    try:
        for number in range(max(CLIENTS)):
            made = await client.resource(core.Pod).create(pod(named(f"{number:012}")))
    finally:
        await client.close()
    raw = made.SerializeToString()
    answer = api.ObjectResponse()
    answer.object.type_url, answer.object.value = POD_URL, raw
    await configure(stage, answer.SerializeToString(), envelope.wrap("v1", "Pod", raw))
    return made


def run(stage: Stage, loaders: Loaders) -> bool:
    stored = asyncio.run(prepare(stage))
    print(f"a pod of {stored.ByteSize()} bytes; mutual TLS, RBAC, a connection per client", flush=True)
    grpc = Grpc(stage)
    holds = True
    for clients in CLIENTS:
        holds &= creates(stage, loaders, grpc, clients)
    for clients in CLIENTS:
        holds &= gets(stage, loaders, grpc, clients)
    for clients in CLIENTS:
        updates(stage, loaders, grpc, clients, stored)
    return holds


def creates(stage: Stage, loaders: Loaders, grpc: Grpc, clients: int) -> bool:
    ours = Contender("create", grpc.create(), stage.apiserver)
    tracked = Contender("with managedFields", grpc.create(manager="bench"), stage.apiserver)
    passed = Contender("pass-through", floor(stage, "Put", grpc.create()), stage.floor)
    gathered = Contender("group commit alone", floor(stage, "Gather", grpc.create(), wide=True), stage.floor)
    by_turns(loaders, [ours, passed, tracked, gathered], clients)
    raw = [asyncio.run(raw_writes(stage, clients, SECONDS)) for _ in range(ROUNDS)]
    ceiling = gathered.total.rate / passed.total.rate
    detail = (
        f"{ours.line()}; {passed.line()}; {tracked.line()}; {gathered.line()}, ratio {ceiling:.2f}: "
        f"what a server could do that did nothing else; without any server {sum(raw) / len(raw):.0f}/s"
    )
    return verdict(
        f"create, {clients} clients", ours.total.rate / passed.total.rate, CREATE_BARS[clients], detail=detail
    )


def gets(stage: Stage, loaders: Loaders, grpc: Grpc, clients: int) -> bool:
    name = named("0" * 12)
    ours = Contender("get", grpc.get(name), stage.apiserver)
    cached = Contender("from cache", grpc.get(name, resource_version="0"), stage.apiserver)
    echo = Contender("echo", floor(stage, "Echo", grpc.get(name)), stage.floor)
    by_turns(loaders, [ours, echo, cached], clients)
    detail = f"{ours.line()}; {cached.line()}; {echo.line()}"
    return verdict(f"get, {clients} clients", ours.total.rate / echo.total.rate, GET_BARS.get(clients), detail=detail)


def updates(stage: Stage, loaders: Loaders, grpc: Grpc, clients: int, stored: core.Pod) -> None:
    update = Contender("update", grpc.update(stored), stage.apiserver)
    status = Contender("status patch", grpc.patch_status(), stage.apiserver)
    passed = Contender("pass-through", floor(stage, "Put", grpc.create()), stage.floor)
    by_turns(loaders, [update, passed, status], clients)
    for each in (update, status):
        ratio = each.total.rate / passed.total.rate
        verdict(f"{each.name}, {clients} clients", ratio, None, detail=f"{each.line()}; {passed.line()}")


async def raw_writes(stage: Stage, clients: int, seconds: float) -> float:
    """Writes a second through the storage client alone, no server before it."""
    client = EtcdClient([stage.etcd])
    committer = GroupCommitter(client)
    value = envelope.wrap("v1", "Pod", pod(named("0" * 12)).SerializeToString())
    end = time.perf_counter() + seconds
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        turn = 0
        while time.perf_counter() < end:
            turn += 1
            await committer.write(Write(b"/floor/raw-%d-%d-%d" % (id(committer), number, turn), value, 0))
            done += 1

    await asyncio.gather(*(one(number) for number in range(clients)))
    await committer.close()
    await client.close()
    return done / seconds
