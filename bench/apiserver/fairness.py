"""A flood: one user with 256 connections that never pause, beside another with four.

The light user's p99 with the flood stands against that without it. More places are refused to the flood than to the
light user, which must not be refused at all.
"""

import asyncio

from bench.apiserver.load import Loaders, Work
from bench.apiserver.measure import verdict
from bench.apiserver.samples import Grpc, Http, named
from bench.apiserver.stage import Stage
from bench.apiserver.unary import prepare

FLOOD = 256
LIGHT = 4
SECONDS = 3.0


def run(stage: Stage, loaders: Loaders) -> bool:
    name = named("0" * 12)
    asyncio.run(prepare(stage))
    light, heavy = Grpc(stage, "other"), Grpc(stage)
    holds = True
    for what, mine, theirs in (
        ("gets beside a flood of gets", light.get(name, resource_version="0"), heavy.get(name, resource_version="0")),
        ("creates beside a flood of creates", light.create(), heavy.create()),
        ("gets over HTTP beside a flood of gets", Http(stage, "other").get(name), Http(stage).get(name)),
        ("gets over HTTP beside a flood of creates", Http(stage, "other").get(name), Http(stage).create()),
    ):
        holds &= beside(loaders, what, mine, theirs)
    return holds


def beside(loaders: Loaders, what: str, mine: Work, theirs: Work) -> bool:
    alone = loaders.run(mine, LIGHT, SECONDS)
    with loaders.apart() as others:
        flood = others.start(theirs, FLOOD)
        flood.begin(SECONDS + 1)
        crowded = loaders.run(mine, LIGHT, SECONDS)
        flooded = flood.end()
    detail = (
        f"p99 {crowded.percentile(0.99) * 1000:.0f} ms at {crowded.rate:.0f}/s, {crowded.failed} refused; alone "
        f"{alone.percentile(0.99) * 1000:.0f} ms at {alone.rate:.0f}/s; the flood {flooded.rate:.0f}/s, "
        f"{flooded.failed} refused, p99 {flooded.percentile(0.99) * 1000:.0f} ms"
    )
    verdict(f"light user's p99, {what}", crowded.percentile(0.99) / alone.percentile(0.99), None, detail=detail)
    return not crowded.failed
