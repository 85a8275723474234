"""What an etcd of a test holds, as the independent decoder takes it."""

from __future__ import annotations

import grpc.aio

from tests.integration.etcd_decoder import Pair
from tillerman.pb.etcd import rpc_pb2, rpc_pb2_grpc


async def stored_pairs(address: str, credentials: grpc.ChannelCredentials | None = None) -> list[Pair]:
    """Everything, at one revision. ``address``: host:port of etcd."""
    options = [("grpc.max_receive_message_length", -1)]
    channel = (
        grpc.aio.insecure_channel(address, options=options)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options=options)
    )
    async with channel:
        request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")
        found = await rpc_pb2_grpc.KVStub(channel).Range(request)
        return [Pair(pair.key.decode(), pair.value, pair.lease) for pair in found.kvs]
