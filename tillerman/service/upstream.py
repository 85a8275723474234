"""What a service tells of its calls to the API server: metrics, and a log line when the server goes and comes."""

import asyncio
from time import monotonic
from typing import Any

import grpc
from prometheus_client import Counter, Histogram

from tillerman.client.client import Client
from tillerman.pb.api import objects_pb2 as pb
from tillerman.pb.api import objects_pb2_grpc

REQUESTS = Counter(
    "rest_client_requests", "Calls to the API server, by method, resource and code.", ["method", "resource", "code"]
)
DURATION = Histogram("rest_client_request_duration_seconds", "How long calls to the API server took.", ["method"])

# Seconds after the start in which an API server that is not there yet is nothing to talk about.
_PATIENCE = 3.0


def observe_call(method: str, resource: str, code: str, seconds: float) -> None:
    """A resource.Observer."""
    REQUESTS.labels(method, resource, code).inc()
    DURATION.labels(method).observe(seconds)


async def follow_connection(client: Client, log: Any, *, servers: list[str]) -> None:
    """Logs each loss of the API server once, with gRPC's reason, and its return. Runs until cancelled.

    Services and API server that start together find each other without a word, unless it takes long.
    """
    await asyncio.sleep(_PATIENCE)
    channel = client.channel
    state = channel.get_state()
    lost_at = 0.0
    while True:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and not lost_at:
            lost_at = monotonic()
            log.warning("API server unreachable", servers=servers, reason=await _reason(client))
        elif state is grpc.ChannelConnectivity.READY and lost_at:
            log.info("API server reachable", servers=servers, seconds=round(monotonic() - lost_at, 3))
            lost_at = 0.0
        await channel.wait_for_state_change(state)
        state = channel.get_state()


async def _reason(client: Client) -> str:
    """gRPC tells why a connection failed only in the error of a call that doesn't wait for it."""
    try:
        await objects_pb2_grpc.ObjectsStub(client.channel).Discover(pb.DiscoverRequest(), timeout=1)
    except grpc.RpcError as error:
        return str(error.details())
    return ""
