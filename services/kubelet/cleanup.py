"""`tiller-kubelet --cleanup`: removes what outlives the process, then exits. The API server is not asked.

Containers, sandboxes and their network go; the root directory is the caller's. It can be run at any time, also when
every process of the cluster was killed, and again when it did not finish.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from services.kubelet.options import KubeletOptions
from services.kubelet.runtime.interface import Runtime, RuntimeFailure
from tillerman.client.clock import Clock, RealClock

# An Engine that removes many at once can lose count of a network's endpoints, and then keeps the network.
_AT_ONCE = 4


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
    """All containers of this cluster and node, a few at once, then their sandboxes, then what they shared."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(removal: Coroutine[Any, Any, None]) -> None:
        async with slots:
            await removal

    try:
        inventory = await runtime.inventory()
        await asyncio.gather(*(in_turn(runtime.remove_container(c.id)) for c in inventory.containers))
        await asyncio.gather(*(in_turn(runtime.remove_sandbox(s.id)) for s in inventory.sandboxes))
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
