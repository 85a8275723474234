"""A process of clients, told what to do by load.py: a line of JSON in, a line of JSON out.

Runs as `python -m bench.apiserver.loader`.
"""

import asyncio
import json
import ssl
import sys
import time
from typing import Any

DIGITS = 12
CLIENT, COUNT = "client", "count"


class Grpc:
    """One client over gRPC."""

    def __init__(self, work: dict[str, Any], files: dict[str, bytes]) -> None:
        import grpc

        credentials = grpc.ssl_channel_credentials(files["ca"], files["key"], files["certificate"])
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.aio.secure_channel(work["address"], credentials, options=options)
        self._call = self._channel.unary_unary(work["method"])

    async def send(self, body: bytes) -> None:
        await self._call(body)

    async def close(self) -> None:
        await self._channel.close()


class Http:
    """One client over HTTP/1.1 with keep-alive."""

    def __init__(self, work: dict[str, Any], _files: dict[str, bytes]) -> None:
        self._host, _, self._port = work["address"].rpartition(":")
        self._context = ssl.create_default_context(cafile=work["user"]["ca"])
        self._context.load_cert_chain(work["user"]["certificate"], work["user"]["key"])
        self._reader: asyncio.StreamReader | None = None

    async def send(self, body: bytes) -> None:
        if self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(
                self._host, int(self._port), ssl=self._context, limit=1 << 24
            )
        self._writer.write(body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.lower().find(b"content-length:") + 15
        if at < 15:
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readexactly(2)
        else:
            await self._reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(head.decode())

    async def close(self) -> None:
        if self._reader is not None:
            self._writer.close()


class _Counter:
    def __init__(self, first: int) -> None:
        self.value = first

    def take(self) -> int:
        self.value += 1
        return self.value


def _builder(pieces: list[str], client: int, counter: _Counter) -> Any:
    """A function that makes the next request."""
    fixed = [b"%0*d" % (DIGITS, client) if p == CLIENT else b"" if p == COUNT else bytes.fromhex(p) for p in pieces]
    places = [i for i, piece in enumerate(pieces) if piece == COUNT]
    if not places:
        body = b"".join(fixed)
        return lambda: body

    def build() -> bytes:
        number = b"%0*d" % (DIGITS, counter.take())
        for place in places:
            fixed[place] = number
        return b"".join(fixed)

    return build


async def _run_clients(clients: list[Any], builders: list[Any], seconds: float) -> dict[str, Any]:
    latencies: list[float] = []
    failed = 0
    began = time.perf_counter()
    end = began + seconds

    async def one(send: Any, build: Any) -> None:
        nonlocal failed
        before = time.perf_counter()
        while before < end:
            try:
                await send(build())
            except Exception:
                failed += 1
                before = time.perf_counter()
                # As a client does that was told to come back later, but sooner.
                await asyncio.sleep(0.05)
                continue
            after = time.perf_counter()
            latencies.append(after - before)
            before = after

    await asyncio.gather(*(one(client.send, build) for client, build in zip(clients, builders, strict=True)))
    return {"seconds": time.perf_counter() - began, "latencies": sorted(latencies), "failed": failed}


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    clients: list[Any] = []
    builders: list[Any] = []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if "seconds" in command:
            answer = await _run_clients(clients, builders, command["seconds"])
        else:
            for client in clients:
                await client.close()
            files = {}
            for name, path in command["user"].items():
                with open(path, "rb") as file:
                    files[name] = file.read()
            kind = Grpc if command["method"] else Http
            clients = [kind(command, files) for _ in range(command["clients"])]
            counter = _Counter(command["count"])
            builders = [_builder(command["pieces"], command["first"] + i, counter) for i in range(command["clients"])]
            await asyncio.gather(*(c.send(build()) for c, build in zip(clients, builders, strict=True)))
            answer = {}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
