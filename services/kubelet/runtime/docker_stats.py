"""CPU and memory of containers, read from their cgroup files (microseconds), or asked from Docker where it runs on
another machine or under an unknown layout (about a second each, so many at once)."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.kubelet.runtime.docker_engine import Engine
from services.kubelet.runtime.interface import RuntimeFailure, Usage

_CGROUP = Path("/sys/fs/cgroup")


class DockerStats:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unified = False
        self._systemd = False

    def configure(self, info: Mapping[str, Any]) -> None:
        self._unified = str(info.get("CgroupVersion", "1")) == "2"
        self._systemd = info.get("CgroupDriver") == "systemd"

    async def usage(self, container_ids: Sequence[str]) -> Mapping[str, Usage]:
        found: dict[str, Usage] = {}
        missing: list[str] = []
        for container_id in container_ids:
            reading = self._read(container_id)
            if reading is None:
                missing.append(container_id)
            else:
                found[container_id] = reading
        if missing:
            answers = await asyncio.gather(*(self._ask(container_id) for container_id in missing))
            found.update({i: usage for i, usage in zip(missing, answers, strict=True) if usage is not None})
        return found

    def _read(self, container_id: str) -> Usage | None:
        leaf = f"system.slice/docker-{container_id}.scope" if self._systemd else f"docker/{container_id}"
        try:
            if self._unified:
                folder = _CGROUP / leaf
                cpu = int(_field(folder / "cpu.stat", "usage_usec")) * 1000
                memory = int((folder / "memory.current").read_text()) - int(
                    _field(folder / "memory.stat", "inactive_file")
                )
            else:
                cpu = int((_CGROUP / "cpuacct" / leaf / "cpuacct.usage").read_text())
                folder = _CGROUP / "memory" / leaf
                memory = int((folder / "memory.usage_in_bytes").read_text()) - int(
                    _field(folder / "memory.stat", "total_inactive_file")
                )
        except (OSError, ValueError, LookupError):
            return None
        return Usage(time.time(), cpu, max(memory, 0))

    async def _ask(self, container_id: str) -> Usage | None:
        try:
            answer = await self._engine.call(
                "stats", lambda client: client.stats(container_id, stream=False, one_shot=True)
            )
        except RuntimeFailure:
            return None
        memory = answer.get("memory_stats", {})
        if "usage" not in memory:
            return None
        details = memory.get("stats", {})
        idle = details.get("inactive_file", details.get("total_inactive_file", 0))
        cpu = answer.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage", 0)
        return Usage(time.time(), int(cpu), max(int(memory["usage"]) - int(idle), 0))


def _field(path: Path, name: str) -> str:
    """Raises LookupError."""
    lines: Iterable[str] = path.read_text().splitlines()
    for line in lines:
        key, _, value = line.partition(" ")
        if key == name:
            return value
    raise LookupError(name)
