"""This machine as node.status tells of it. Reads /proc and /etc; a file that is missing leaves its field empty."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from tillerman.api.quantity import milli_value, value


@dataclass(frozen=True, slots=True)
class Machine:
    """cpu in millicores, memory and disk in bytes."""

    cpu: int
    memory: int
    disk: int
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    system_uuid: str
    boot_id: str


# Kubernetes (Go) names of what the kernel calls them.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def read_machine(root_dir: Path, *, cpus: str = "", memory: str = "") -> Machine:
    """cpus and memory (quantities) replace the machine's own. Raises ValueError for bad ones."""
    machine_id = _text("/etc/machine-id") or _text("/var/lib/dbus/machine-id")
    return Machine(
        cpu=milli_value(cpus) if cpus else _cpus() * 1000,
        memory=value(memory) if memory else _memory(),
        disk=shutil.disk_usage(root_dir).total,
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        kernel=platform.release(),
        os_image=_os_image(),
        machine_id=machine_id,
        system_uuid=_text("/sys/class/dmi/id/product_uuid") or machine_id,
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
    )


def free_memory() -> int:
    """Bytes that could be given out now."""
    return _meminfo("MemAvailable")


def node_cpu_nanoseconds() -> int:
    """Busy time of all CPUs since boot."""
    words = _text("/proc/stat").split("\n", 1)[0].split()[1:]
    if len(words) < 5:
        return 0
    ticks = [int(word) for word in words]
    busy = sum(ticks[:8]) - ticks[3] - ticks[4]
    return busy * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    return _meminfo("MemTotal") or 4 << 30


def _meminfo(field: str) -> int:
    for line in _text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    return 0


def _os_image() -> str:
    for line in _text("/etc/os-release").splitlines():
        name, _, text = line.partition("=")
        if name == "PRETTY_NAME":
            return text.strip().strip('"')
    return platform.platform()


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
