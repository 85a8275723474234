"""From nothing to every node Ready, against the floor of starting the same etcd and as many bare Python processes."""

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.local import TILLER, report

RUNS = 3
IMPORTS = "import grpc, google.protobuf, prometheus_client, asyncio"


def main() -> None:
    # As installed: `make up` compiles, but not again after a change.
    for package in ("tillerman", "services"):
        compileall.compile_dir(package, quiet=1)
    runtime = "docker" if Path("/var/run/docker.sock").exists() else "process"
    ups, floors = [], []
    for _ in range(RUNS):
        ups.append(up_seconds(runtime))
        floors.append(floor_seconds())
    up, floor = statistics.median(ups), statistics.median(floors)
    report(f"nothing -> 2 nodes Ready ({runtime})", up, floor, "8 Python processes that import gRPC", "<= 2.0 s")


def up_seconds(runtime: str) -> float:
    with tempfile.TemporaryDirectory(prefix="tillerman-bench-") as home:
        name = f"start-{os.getpid()}"
        env = {**os.environ, "TILLERMAN_HOME": home}
        began = time.perf_counter()
        subprocess.run([TILLER, "up", "--name", name, "--runtime", runtime], env=env, check=True, capture_output=True)
        took = time.perf_counter() - began
        subprocess.run([TILLER, "down", "--name", name], env=env, check=True, capture_output=True)
    return took


def floor_seconds() -> float:
    began = time.perf_counter()
    for process in [subprocess.Popen([sys.executable, "-c", IMPORTS]) for _ in range(8)]:
        process.wait()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
