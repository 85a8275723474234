"""Several gRPC servers on one port are one to their callers, and keep others off it."""

from __future__ import annotations

import socket
import sys
from typing import Any

import grpc
import grpc.aio
import pytest

from tillerman.service.acceptors import Acceptors


async def echo(request: bytes, _context: Any) -> bytes:
    return request


async def test_every_connection_is_served_and_nobody_else_gets_the_port() -> None:
    acceptors, other = Acceptors(3), Acceptors(3)
    methods = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    acceptors.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Test", methods),))
    port = acceptors.listen("127.0.0.1", 0, None)
    await acceptors.start()
    try:
        with pytest.raises(OSError, match="in use"):
            other.listen("127.0.0.1", port, None)
        for number in range(12):
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                assert await channel.unary_unary("/Test/Echo")(b"%d" % number) == b"%d" % number
    finally:
        await acceptors.stop(0)
        await other.stop(0)
    again = Acceptors(3)
    assert again.listen("127.0.0.1", port, None) == port
    await again.stop(0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the claim is a name of Linux's abstract namespace")
async def test_a_port_that_both_found_free_goes_to_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    late = Acceptors(2)
    # The other has bound and claimed it since we looked.
    with socket.socket(socket.AF_UNIX) as claim:
        claim.bind(f"\0tillerman/acceptors/127.0.0.1:{port}")
        with pytest.raises(OSError, match="in use"):
            late.listen("127.0.0.1", port, None)
    await late.stop(0)
