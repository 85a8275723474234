"""What the process runtime keeps on disk, so that another kubelet finds it: a folder per sandbox and per container.

Blocking and small; called directly or in threads.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.kubelet.runtime.interface import ContainerState, Phase, PodIdentity, SandboxState

SHIM = str(Path(__file__).with_name("process_shim.py"))


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def write_json(path: Path, data: object) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(data))
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def is_alive(pid: int, ticks: int) -> bool:
    return start_ticks(pid) == ticks


def write_sandbox(folder: Path, state: SandboxState, hostname: str) -> None:
    write_json(folder / f"{state.id}.json", {**asdict(state), "boot": boot_id(), "hostname": hostname})


def read_sandbox(path: Path) -> tuple[SandboxState, str] | None:
    """(state, host name). A sandbox of before the last boot does not run."""
    data = read_json(path)
    if data is None:
        return None
    same_boot, hostname = data.pop("boot", "") == boot_id(), data.pop("hostname", "")
    data["pod"] = PodIdentity(**data["pod"])
    data["running"] = same_boot
    return SandboxState(**data), hostname


def read_container(folder: Path) -> ContainerState | None:
    """From the files that kubelet and shim wrote; a process that is gone without a word was killed."""
    meta = read_json(folder / "container.json")
    if meta is None:
        return None
    meta["pod"] = PodIdentity(**meta["pod"])
    meta["phase"] = Phase.RUNNING
    running = read_json(folder / "state.json")
    ended = read_json(folder / "exit.json")
    if ended is not None:
        meta.update(ended_fields(int(ended["code"]), float(ended["time"]), str(ended.get("message", ""))))
    elif running is None:
        meta["phase"] = Phase.CREATED
    elif not is_alive(int(running["shim"]), int(running["shim_start"])):
        when = os.stat(folder / "log").st_mtime if (folder / "log").exists() else meta["started_at"]
        meta.update(ended_fields(137, when, "the container's shim was killed"))
    return ContainerState(**meta)


def ended_fields(code: int, when: float, message: str) -> dict[str, Any]:
    reason = "Completed" if code == 0 else "Error"
    if message and code in (126, 127, 128):
        reason = "ContainerCannotRun"
    return {"phase": Phase.EXITED, "exit_code": code, "finished_at": when, "reason": reason, "message": message}
