"""Waits for the nodes of a cluster that has just been started."""

import asyncio
from pathlib import Path

from tillerman.api.status import StatusError
from tillerman.client.channel import ClientConfig
from tillerman.client.client import Client
from tillerman.pb.k8s import core_v1_pb2 as core


async def nodes_ready(kubeconfig: Path, names: set[str]) -> None:
    """Returns when every named node is Ready. Never gives up: cancel it."""
    client = Client.from_config(ClientConfig.load(kubeconfig))
    try:
        while True:
            try:
                if await watch_until_ready(client, names):
                    return
            except StatusError:
                await asyncio.sleep(0.05)
    finally:
        await client.close()


async def watch_until_ready(client: Client, names: set[str]) -> bool:
    nodes = client.resource(core.Node)
    found = await nodes.list()
    waiting = names - {node.metadata.name for node in found.items if is_ready(node)}
    if not waiting:
        return True
    async for event in nodes.watch(resource_version=found.resource_version):
        if event.type in ("ADDED", "MODIFIED") and is_ready(event.object):
            waiting.discard(event.object.metadata.name)
        if not waiting:
            return True
    return False


def is_ready(node: core.Node) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)
