"""CPU and memory of containers that are plain processes: sums over each container's session, read from /proc."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from services.kubelet.runtime.interface import Usage

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def session_usage(pids: Mapping[str, int]) -> dict[str, Usage]:
    """By key: what the session that the process leads uses, with what its ended children used."""
    owners = {pid: key for key, pid in pids.items()}
    cpu = dict.fromkeys(pids, 0)
    memory = dict.fromkeys(pids, 0)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            key = owners.get(int(fields[3]))
            if key is None:
                continue
            cpu[key] += sum(int(number) for number in fields[11:15]) * _TICK
            resident, shared = Path(entry.path, "statm").read_text().split()[1:3]
            memory[key] += (int(resident) - int(shared)) * _PAGE
        except (OSError, ValueError, IndexError):
            # It ended meanwhile.
            continue
    now = time.time()
    return {key: Usage(now, cpu[key], max(memory[key], 0)) for key in pids}
