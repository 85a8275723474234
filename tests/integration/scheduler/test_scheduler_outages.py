"""The scheduler while the apiserver is killed under it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_scheduler_binds import eventually, make_nodes, node, nodes_of, pod, scheduling

from tillerman.client import Client, ClientConfig
from tillerman.client.batch import BatchOp


class ApiserverProcess:
    """An apiserver of its own process on a fixed port, in plain text."""

    def __init__(self, etcd: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._etcd = etcd
        self._log = folder / "apiserver.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        argv = ["-m", "services.apiserver", "--insecure", f"--port={self.port}", f"--etcd-servers={self._etcd}"]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=log, stderr=log)

    async def kill(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            self._process = None


@pytest.mark.parametrize("kills", [3])
async def test_no_pod_is_lost_or_bound_twice(etcd: Any, tmp_path: Path, kills: int) -> None:
    apiserver = ApiserverProcess(etcd.address, tmp_path)
    await apiserver.start()
    config = ClientConfig([f"127.0.0.1:{apiserver.port}"], insecure=True)
    client = Client.from_config(config, wait_for_ready=True)
    try:
        await make_nodes(client, *[node(f"o-{i}", cpu="1") for i in range(5)])
        async with asyncio.timeout(60), scheduling(client, "outage") as scheduler:
            for wave in range(kills):
                wanted = [pod(f"out-{wave}-{i}", "outage", pool="o", cpu="40m") for i in range(25)]
                await client.batch([BatchOp.create(each) for each in wanted])
                await eventually(lambda: _assumed(scheduler), seconds=1.0)
                await apiserver.kill()
                await apiserver.start()

            async def bound() -> bool:
                with contextlib.suppress(Exception):
                    placed = await nodes_of(client, "out-")
                    return len(placed) == 25 * kills and all(placed.values())
                return False

            assert await eventually(bound, seconds=40.0)
            placed = await nodes_of(client, "out-")
            assert max(Counter(placed.values()).values()) <= 25

            async def settled() -> bool:
                return not scheduler.assumed and not len(scheduler.queue)

            assert await eventually(settled)
            requested = scheduler.snapshot.requested[0, : scheduler.snapshot.size]
            assert int(requested.sum()) == 25 * kills * 40
    finally:
        await client.close()
        await apiserver.kill()


async def _assumed(scheduler: Any) -> bool:
    return bool(scheduler.assumed)
