"""Processes known by pid file: started by anyone, watched and ended by us, never taken for another.

A pid file holds "<pid> <start time>", the start time in clock ticks as /proc/<pid>/stat field 22 tells it, so that a
pid that the kernel has given to another process since is never signalled.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The identity of a live process; None for one that is gone or a zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def kill(self, sig: signal.Signals) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)


def write_pid(path: Path, identity: Identity) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(f"{identity.pid} {identity.started}\n")
    draft.replace(path)


def read_pid(path: Path) -> Identity | None:
    """The live process that the file names, or None."""
    try:
        pid, started = path.read_text().split()
    except (OSError, ValueError):
        return None
    identity = Identity(int(pid), int(started))
    return identity if identity.alive() else None


def running(run_dir: Path) -> dict[str, Identity]:
    """The live processes of a cluster by name."""
    found = {path.stem: read_pid(path) for path in sorted(run_dir.glob("*.pid"))}
    return {name: identity for name, identity in found.items() if identity}


def end(identities: list[Identity], *, grace_seconds: float) -> None:
    """SIGTERM to all at once, SIGKILL to those that have not gone after the grace; returns when all are gone."""
    for identity in identities:
        identity.kill(signal.SIGTERM)
    if not wait_gone(identities, grace_seconds):
        for identity in identities:
            identity.kill(signal.SIGKILL)
        wait_gone(identities, 10)


def wait_gone(identities: list[Identity], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(identity.alive() for identity in identities):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
