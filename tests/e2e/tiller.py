"""Drives the real `tiller` as a user would, and looks at what it leaves on the machine."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TILLER = str(Path(sys.executable).parent / "tiller")


class Failed(AssertionError):
    """A command that should have succeeded did not (or the other way round)."""


@dataclass
class Cluster:
    """A local cluster of a test's own: its name, the folder that holds its state, and the flags it came up with."""

    name: str
    home: Path
    flags: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.home / self.name

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "TILLERMAN_HOME": str(self.home), "TILLER_CLUSTER": self.name, "NO_COLOR": "1"}

    def run(self, *args: str, check: bool | None = True, stdin: str | None = None, timeout: float = 120) -> Any:
        """`tiller args…`; check=True wants exit code 0, False wants another one, None takes any."""
        done = subprocess.run(
            [TILLER, *args], env=self.env, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check is not None and (done.returncode == 0) is not check:
            raise Failed(f"tiller {' '.join(args)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def __call__(self, *args: str, **kwargs: Any) -> str:
        return str(self.run(*args, **kwargs).stdout).strip()

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "-o", "json"))

    def up(self) -> None:
        self("up", "--name", self.name, *self.flags, timeout=180)

    def down(self) -> None:
        self("down", "--name", self.name, timeout=180)

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods that match the selector and are not being deleted."""
        items = self.json("get", "pods", "-l", selector)["items"]
        return [p for p in items if "deletionTimestamp" not in p["metadata"]]

    def ready_pods(self, selector: str) -> list[dict[str, Any]]:
        return [p for p in self.pods(selector) if is_ready(p)]

    def wait_ready(self, selector: str, count: int, seconds: float = 60) -> list[dict[str, Any]]:
        def enough() -> list[dict[str, Any]]:
            ready = self.ready_pods(selector)
            return ready if len(ready) == count == len(self.pods(selector)) else []

        return eventually(enough, f"{count} ready pods of {selector}", seconds, self.tell)

    def tell(self) -> str:
        """What a person would look at when something does not come true."""
        parts = [self("get", kind, "-A", "-o", "wide", check=None) for kind in ("pods", "events")]
        for log in sorted((self.folder / "logs").glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            bad = [line for line in lines if '"warning"' in line or '"error"' in line or "Traceback" in line]
            parts.append(f"--- {log.name}\n" + "\n".join((bad or lines)[-8:]))
        return "\n".join(parts)

    def pid(self, process: str) -> int:
        return int((self.folder / "run" / f"{process}.pid").read_text().split()[0])

    def processes(self) -> list[str]:
        return sorted(p.stem for p in (self.folder / "run").glob("*.pid"))

    def cluster_ip(self, service: str) -> str:
        return self("get", "service", service, "-o", "jsonpath={.spec.clusterIP}")


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def eventually(
    probe: Callable[[], Any], what: str, seconds: float = 60, tell: Callable[[], str] | None = None, pause: float = 0.2
) -> Any:
    """The first true value of probe; Failed, with what tell says, when there is none in time."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while True:
        try:
            if last := probe():
                return last
        except (Failed, OSError, ValueError, KeyError, IndexError, subprocess.SubprocessError) as e:
            last = e
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds:g} s: {what} (last: {last})\n{tell() if tell else ''}")
        time.sleep(pause)


def fetch(url: str, timeout: float = 3) -> str:
    """The body of a GET over a connection of its own. Raises OSError."""
    done = subprocess.run(
        ["curl", "-sS", "--fail", "--max-time", str(timeout), url], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(f"{url}: {done.stderr.strip()}")
    return done.stdout.strip()


def docker(*args: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise Failed(f"docker {' '.join(args)}: {done.stderr}")
    return done.stdout.strip()


def docker_answers() -> bool:
    return shutil.which("docker") is not None and bool(docker("version", "-f", "{{.Server.Version}}", check=False))


@dataclass(frozen=True)
class Traces:
    """What a cluster could leave behind on this machine."""

    containers: frozenset[str]
    networks: frozenset[str]
    volumes: frozenset[str]
    tables: frozenset[str]
    mounts: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]

    @classmethod
    def of(cls, home: Path) -> "Traces":
        def lines(*command: str) -> frozenset[str]:
            if shutil.which(command[0]) is None:
                return frozenset()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return frozenset(done.stdout.split("\n")) - {""}

        mounts = frozenset(m for m in Path("/proc/mounts").read_text().splitlines() if str(home) in m)
        return cls(
            containers=lines("docker", "ps", "-aq", "--no-trunc"),
            networks=lines("docker", "network", "ls", "-q", "--no-trunc"),
            volumes=lines("docker", "volume", "ls", "-q"),
            tables=frozenset(t for t in lines("nft", "list", "tables") if "tillerman" in t),
            mounts=mounts,
            processes=frozenset(processes_that_name(str(home))),
            files=frozenset(str(p) for p in home.rglob("*")) if home.exists() else frozenset(),
        )


def processes_that_name(text: str) -> Iterator[str]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if text in line:
                    yield f"{folder.name} {line}"
