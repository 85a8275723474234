"""`tiller-kubelet --cleanup`: removes what outlives the process, then exits. The API server is not asked.

Containers, sandboxes and their network go; the root directory is the caller's. It can be run at any time, also when
every process of the cluster was killed, and again when it did not finish.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from services.kubelet.options import KubeletOptions
from services.kubelet.runtime.interface import Runtime, RuntimeFailure
from tillerman.client.clock import Clock, RealClock


def clean_up(options: KubeletOptions, make_runtime: Callable[[KubeletOptions, Clock], Runtime]) -> int:
    """The exit code."""
    try:
        asyncio.run(remove_everything(make_runtime(options, RealClock())))
    except RuntimeFailure as error:
        print(f"tiller-kubelet: cannot clean up node {options.node_name}: {error}", file=sys.stderr)
        return 1
    remove_pod_directories(options.root_dir / "pods")
    return 0


async def remove_everything(runtime: Runtime) -> None:
    """All containers of this cluster and node at once, then their sandboxes, then what they shared."""
    try:
        inventory = await runtime.inventory()
        await asyncio.gather(*(runtime.remove_container(container.id) for container in inventory.containers))
        await asyncio.gather(*(runtime.remove_sandbox(sandbox.id) for sandbox in inventory.sandboxes))
        await runtime.remove_shared()
    finally:
        await runtime.close()


def remove_pod_directories(folder: Path) -> None:
    """Volumes in memory are mounts below it; they are unmounted first, the deepest before those above."""
    inside = f"{folder}/"
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if inside in line]
    for mount in sorted(mounts, key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
