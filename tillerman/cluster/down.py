"""Takes a local cluster down and leaves nothing of it, whatever state it is in."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tillerman.cluster.layout import Plan, home, state_dir
from tillerman.cluster.processes import end, read_pid, running

GRACE_SECONDS = 10.0


def down(name: str, say: Callable[[str], None], *, keep_data: bool = False) -> bool:
    """Ends the processes, removes containers, network, rules, mounts and files. False when there was no cluster.

    With keep_data the folder stays (certificates, etcd's data), and `tiller up` continues from it.
    """
    folder = state_dir(name)
    try:
        plan = Plan.read(folder)
    except FileNotFoundError:
        if folder.exists():
            shutil.rmtree(folder)
        return False
    stop_processes(folder)
    for process in plan.processes:
        if process.name == "proxy" or process.name in plan.nodes:
            clean_up(process.argv, folder, say)
    unmount_below(folder)
    if keep_data:
        shutil.rmtree(folder / "kubelet", ignore_errors=True)
        (folder / "kubelet").mkdir()
    else:
        shutil.rmtree(folder)
        remove_if_empty(home())
    return True


def stop_processes(folder: Path) -> None:
    run = folder / "run"
    if supervisor := read_pid(run / "supervisor.pid"):
        # It ends the others in order, within its own grace.
        end([supervisor], grace_seconds=3 * GRACE_SECONDS)
    end(list(running(run).values()), grace_seconds=GRACE_SECONDS)
    for pid_file in run.glob("*.pid"):
        pid_file.unlink()


def clean_up(argv: list[str], folder: Path, say: Callable[[str], None]) -> None:
    """Has the service itself remove what it made outside of processes: `--cleanup` does so and exits."""
    done = subprocess.run([*argv, "--cleanup"], capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        say(f"clean-up failed ({' '.join(argv[:3])} … --cleanup):\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def unmount_below(folder: Path) -> None:
    """Volumes in memory are mounts; deepest first, so that one below another goes before it."""
    mounts = [
        line.split()[1].encode().decode("unicode_escape") for line in Path("/proc/mounts").read_text().splitlines()
    ]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}{os.sep}")), key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


def remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass
