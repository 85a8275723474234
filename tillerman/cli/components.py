"""Channels to components other than the API server: each has a gRPC service with something to say."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc.aio

from tillerman.client.channel import ClientConfig, open_channel
from tillerman.cluster.layout import Plan, default_name, state_dir


@asynccontextmanager
async def component_channel(name: str, endpoint: str = "") -> AsyncIterator[grpc.aio.Channel]:
    """To the component of the local cluster, or to an endpoint (host:port). Raises ValueError when neither is known."""
    config = ClientConfig.load(os.environ.get("TILLER_KUBECONFIG"))
    if not endpoint:
        cluster = default_name()
        try:
            endpoint = f"127.0.0.1:{Plan.read(state_dir(cluster)).ports[name]}"
        except FileNotFoundError:
            raise ValueError(f"no local cluster {cluster!r}: say where the {name} is with --{name}=HOST:PORT") from None
    channel = open_channel(replace(config, servers=[endpoint]))
    try:
        yield channel
    finally:
        await channel.close(None)
