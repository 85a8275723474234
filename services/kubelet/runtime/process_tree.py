"""Ending everything that a container of the process runtime has started.

The shim is the subreaper of its container, so what the main process leaves behind is a descendant of the shim; what
outlived a killed shim is still found by the session, which the main process leads.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

from services.kubelet.runtime.process_files import is_alive

_ROUNDS, _PAUSE_SECONDS = 300, 0.01


def end_tree(pid: int, ticks: int, shim: int, shim_ticks: int) -> None:
    """SIGKILL to the main process and all that came of it, then to the shim. Blocks for 3 s at most."""
    for _ in range(_ROUNDS):
        found = set(descendants(shim)) if is_alive(shim, shim_ticks) else set()
        if is_alive(pid, ticks):
            found |= {pid, *descendants(pid)}
        if is_alive(pid, ticks) or not Path(f"/proc/{pid}").exists():
            found |= session_members(pid)
        if not found:
            break
        for member in found:
            _kill(member)
        time.sleep(_PAUSE_SECONDS)
    if is_alive(shim, shim_ticks):
        _kill(shim)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on; those that vanish meanwhile are left out."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}/task")
        with contextlib.suppress(OSError):
            for task in folder.iterdir():
                with contextlib.suppress(OSError):
                    waiting += (children := [int(child) for child in (task / "children").read_text().split()])
                    found += children
    return found


def session_members(session: int) -> set[int]:
    """The live processes of a session. The kernel gives no new process this number while the session has a member."""
    members = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] not in "ZX":
                    members.add(int(folder.name))
    return members
