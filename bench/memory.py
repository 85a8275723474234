"""Idle memory of a whole cluster (etcd, control plane, two nodes), against as many bare Python processes with gRPC.

Memory is the proportional set size of /proc/<pid>/smaps_rollup, in megabytes: a page that n processes share counts
1/n for each.
"""

import subprocess
import sys
import time
from pathlib import Path

from bench.local import cluster

SETTLE_SECONDS = 20
IDLE = "import grpc, google.protobuf, prometheus_client, asyncio, time; print(flush=True); time.sleep(60)"


def main() -> None:
    runtime = "docker" if Path("/var/run/docker.sock").exists() else "process"
    with cluster(f"--runtime={runtime}") as local:
        time.sleep(SETTLE_SECONDS)
        sizes = {name: megabytes(pid) for name, pid in sorted(local.pids().items())}
        floor = floor_megabytes(len(sizes) - 1)
    for name, size in sizes.items():
        print(f"  {name:<26} {size:6.1f} MB")
    total = sum(sizes.values())
    print(
        f"whole cluster, idle: {total:.0f} MB; {len(sizes) - 1} bare Python processes with gRPC: {floor:.0f} MB; "
        f"ratio {total / floor:.2f} (bar: <= 400 MB)"
    )


def megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no Pss of pid {pid}")


def floor_megabytes(count: int) -> float:
    idle = [subprocess.Popen([sys.executable, "-c", IDLE], stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in idle:
            assert process.stdout
            process.stdout.readline()
        return sum(megabytes(process.pid) for process in idle)
    finally:
        for process in idle:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    main()
