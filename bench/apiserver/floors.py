"""The floor's server: what grpc.aio with mutual TLS costs when there is next to nothing behind it.

    Configure   the answer of Echo and Put, and the value that Put stores (a two-field message: see `configuration`)
    Echo        answers at once
    Put         one etcd transaction per call (the same client, the same compare as the apiserver's), then answers
    Gather      the same write through the apiserver's group commit
    Follow      a stream of what is published
    Publish     hands its request to everybody who follows

It listens on two ports: one with a single server, the floor, and one with as many as the apiserver has.
Runs as `python -m bench.apiserver.floors ETCD FOLDER READY_FILE` until it is told to stop.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from services.apiserver.__main__ import COMPONENT
from services.apiserver.storage.commit import GroupCommitter, Write
from services.apiserver.storage.etcd import EtcdClient
from services.apiserver.storage.requests import transaction
from tillerman.service.acceptors import Acceptors

SERVICE = "bench.Floor"
NAME = b"bench-"
NAME_LENGTH = len(NAME) + 12


class Floor:
    def __init__(self, etcd: EtcdClient) -> None:
        self._etcd = etcd
        self._committer = GroupCommitter(etcd)
        self._answer = b""
        self._value = b""
        self._followers: set[asyncio.Queue[bytes]] = set()

    def handlers(self) -> dict[str, Any]:
        unary = {
            "Configure": self.configure,
            "Echo": self.echo,
            "Put": self.put,
            "Gather": self.gather,
            "Publish": self.publish,
        }
        handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in unary.items()}
        handlers["Follow"] = grpc.unary_stream_rpc_method_handler(self.follow)
        return handlers

    async def configure(self, request: bytes, _context: Any) -> bytes:
        content = json.loads(request)
        self._answer, self._value = bytes.fromhex(content["answer"]), bytes.fromhex(content["value"])
        return b""

    async def echo(self, _request: bytes, _context: Any) -> bytes:
        return self._answer

    async def put(self, request: bytes, _context: Any) -> bytes:
        reply = await self._etcd.txn(transaction(self._write(request)))
        assert reply.response.succeeded
        return self._answer

    async def gather(self, request: bytes, _context: Any) -> bytes:
        outcome = await self._committer.write(self._write(request))
        assert outcome.succeeded
        return self._answer

    def _write(self, request: bytes) -> Write:
        at = request.find(NAME)
        return Write(b"/floor/" + request[at : at + NAME_LENGTH], self._value, 0)

    async def publish(self, request: bytes, _context: Any) -> bytes:
        for queue in self._followers:
            queue.put_nowait(request)
        return b""

    async def follow(self, _request: bytes, context: Any) -> Any:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._followers.add(queue)
        await context.send_initial_metadata(())
        try:
            while True:
                waiting = [await queue.get()]
                while not queue.empty():
                    waiting.append(queue.get_nowait())
                yield b"".join(waiting)
        finally:
            self._followers.discard(queue)


async def serve(etcd_address: str, folder: Path, ready: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    etcd = EtcdClient([etcd_address])
    floor = Floor(etcd)
    files = [(folder / name).read_bytes() for name in ("server.key", "server.crt", "ca.crt")]

    def credentials() -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials([(files[0], files[1])], files[2], require_client_auth=True)

    servers = {"port": Acceptors(), "wide_port": Acceptors(COMPONENT.acceptors)}
    ports = {}
    for name, server in servers.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, floor.handlers()),))
        ports[name] = server.listen("127.0.0.1", 0, credentials)
        await server.start()
    ready.write_text(json.dumps(ports))
    await stop.wait()
    for server in servers.values():
        await server.stop(0)
    await etcd.close()


def main(argv: list[str]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(argv[0], Path(argv[1]), Path(argv[2])))


if __name__ == "__main__":
    main(sys.argv[1:])
