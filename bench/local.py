"""A cluster for a benchmark: started through `tiller up`, spoken to through the client library."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

TILLER = str(Path(sys.executable).parent / "tiller")


class Local:
    """A running local cluster: its folder and how to run `tiller` on it."""

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self.home = home
        self.folder = home / name
        self.env = {**os.environ, "TILLERMAN_HOME": str(home), "TILLER_CLUSTER": name}

    def tiller(self, *args: str) -> str:
        return subprocess.run([TILLER, *args], env=self.env, check=True, capture_output=True, text=True).stdout.strip()

    def pids(self) -> dict[str, int]:
        return {p.stem: int(p.read_text().split()[0]) for p in (self.folder / "run").glob("*.pid")}

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        from tillerman.client.channel import ClientConfig
        from tillerman.client.client import Client

        client = Client.from_config(ClientConfig.load(self.folder / "kubeconfig"))
        try:
            yield client
        finally:
            await client.close()


@contextlib.contextmanager
def cluster(*flags: str) -> Iterator[Local]:
    """A cluster of its own in a temporary folder; it is taken down at the end."""
    with tempfile.TemporaryDirectory(prefix="tillerman-bench-") as home:
        local = Local(Path(home), f"bench-{os.getpid()}")
        try:
            local.tiller("up", "--name", local.name, *flags)
            yield local
        finally:
            local.tiller("down", "--name", local.name)


def timed(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def report(what: str, seconds: float, floor: float, floor_name: str, bar: str) -> None:
    print(f"{what}: {seconds:.2f} s; {floor_name}: {floor:.2f} s; ratio {seconds / floor:.2f} (bar: {bar})", flush=True)
