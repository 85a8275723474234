"""A process of watchers that note how late each event comes, told what to do by watchers.py.

An event carries the moment at which it was sent, in MARK and DIGITS of this machine's monotonic clock in nanoseconds.
Runs as `python -m bench.apiserver.follower`.
"""

import asyncio
import json
import re
import sys
import time
from typing import Any

import grpc
import grpc.aio

MARK = b"sent-at-"
DIGITS = 20
_SENT = re.compile(re.escape(MARK) + rb"(\d{%d})" % DIGITS)
# Streams that share a connection, as one client's informers do.
STREAMS_PER_CONNECTION = 25


class Followers:
    def __init__(self) -> None:
        self.delays: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._channels: list[Any] = []

    async def follow(self, command: dict[str, Any]) -> None:
        """Opens the streams; returns when the server has accepted all of them."""
        files = {}
        for name, path in command["user"].items():
            with open(path, "rb") as file:
                files[name] = file.read()
        credentials = grpc.ssl_channel_credentials(files["ca"], files["key"], files["certificate"])
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        for _ in range(0, command["streams"], STREAMS_PER_CONNECTION):
            channel = grpc.aio.secure_channel(command["address"], credentials, options=options)
            self._channels.append(channel)
            open_stream = channel.unary_stream(command["method"])
            calls = [open_stream(bytes.fromhex(command["request"])) for _ in range(STREAMS_PER_CONNECTION)]
            for call in calls:
                await call.initial_metadata()
                self._tasks.append(asyncio.create_task(self._read(call)))

    async def _read(self, call: Any) -> None:
        async for message in call:
            now = time.monotonic_ns()
            self.delays += [(now - int(sent)) / 1e9 for sent in _SENT.findall(message)]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()
        self._tasks, self._channels = [], []


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    followers = Followers()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        answer: dict[str, Any] = {}
        if "streams" in command:
            await followers.close()
            await followers.follow(command)
        elif command.get("report"):
            answer = {"delays": sorted(followers.delays)}
            followers.delays = []
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
