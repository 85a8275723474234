"""Fixtures: the manager over a real apiserver and etcd, with stand-ins for scheduler and kubelets."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

import pytest
from managed_cluster import Cluster, FakeNodes, managing, options

from services.controller.options import ControllerManagerOptions
from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.k8s import core_v1_pb2 as core


@pytest.fixture
def manager_options() -> ControllerManagerOptions:
    return options(leader_elect=False)


@pytest.fixture
async def cluster(client: Client, manager_options: ControllerManagerOptions) -> AsyncIterator[Cluster]:
    namespace = core.Namespace()
    namespace.metadata.name = f"test-{uuid.uuid4().hex[:8]}"
    await client.resource(core.Namespace).create(namespace)
    nodes = FakeNodes(client, [f"{namespace.metadata.name}-n{number}" for number in (1, 2)])
    async with managing(client, manager_options) as manager:
        task = asyncio.create_task(nodes.run())
        try:
            yield Cluster(client, nodes, manager, namespace.metadata.name)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            for name in nodes.names:
                with contextlib.suppress(StatusError):
                    await client.resource(core.Node).delete(name)
