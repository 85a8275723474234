"""Drives an unmodified kubectl as a user would, in a namespace of its own, and counts what it was asked."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tiller import Failed, eventually


@dataclass
class Ledger:
    """The distinct commands that all tours ran together."""

    commands: set[tuple[str, ...]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, command: tuple[str, ...]) -> None:
        with self.lock:
            self.commands.add(command)


@dataclass(frozen=True)
class Kubectl:
    """``folder``: files of the tour, and kubectl's home (so that its caches are its own). ``image``: busybox."""

    kubeconfig: Path
    folder: Path
    namespace: str
    image: str
    ledger: Ledger
    env: dict[str, str] = field(default_factory=dict)

    def _environment(self) -> dict[str, str]:
        own = {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        return {**os.environ, **own, **self.env}

    def _words(self, args: tuple[str, ...]) -> list[str]:
        return ["kubectl", f"--namespace={self.namespace}", *args]

    def with_env(self, **env: str) -> "Kubectl":
        return replace(self, env={**self.env, **env})

    def run(self, *args: str, code: int = 0, stdin: str | None = None, timeout: float = 90) -> Any:
        """`kubectl args…`, which must end with ``code``; stdin is empty unless given."""
        self.ledger.note(args)
        done = subprocess.run(
            self._words(args),
            env=self._environment(),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.folder,
            check=False,
        )
        if done.returncode != code:
            raise Failed(f"kubectl {' '.join(args)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def __call__(self, *args: str, stdin: str | None = None, timeout: float = 90) -> str:
        return str(self.run(*args, stdin=stdin, timeout=timeout).stdout).strip()

    def both(self, *args: str, **kwargs: Any) -> str:
        """stdout and stderr of a command that works."""
        done = self.run(*args, **kwargs)
        return f"{done.stdout}\n{done.stderr}"

    def refused(self, *args: str, code: int = 1, **kwargs: Any) -> str:
        """What a command says that must fail."""
        done = self.run(*args, code=code, **kwargs)
        return f"{done.stdout}{done.stderr}".strip()

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "-o", "json"))

    def terminal(self, *args: str, stdin: str = "", code: int = 0, timeout: float = 60) -> str:
        """Under a terminal of its own, which `script` makes; what was to be seen on it."""
        self.ledger.note(args)
        line = " ".join(f"'{word}'" for word in self._words(args))
        done = subprocess.run(
            ["script", "--quiet", "--return", "--command", line, "/dev/null"],
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.folder,
            check=False,
        )
        if done.returncode != code:
            raise Failed(f"kubectl {' '.join(args)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout.replace("\r", "")

    @contextmanager
    def running(self, *args: str) -> Iterator["subprocess.Popen[str]"]:
        """A command that goes on until the block ends; its output can be read from stdout (stderr goes there too)."""
        self.ledger.note(args)
        process = subprocess.Popen(
            self._words(args),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=20)

    def write(self, name: str, text: str) -> str:
        """A file of the tour; IMAGE in it becomes the image's name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("IMAGE", self.image))
        return str(path)

    def eventually(self, says: str, *args: str, seconds: float = 60) -> str:
        """Asks until the answer holds ``says``."""

        def asked() -> str:
            found = self(*args)
            return found if says in found else ""

        return str(eventually(asked, f"kubectl {' '.join(args)} says {says!r}", seconds, lambda: self(*args)))


def read_lines(
    process: "subprocess.Popen[str]", count: int, seconds: float = 30, nudge: Callable[[], object] = lambda: None
) -> list[str]:
    """The next lines of a running command; ``nudge`` is called every second until they are there."""
    found: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        found.extend(process.stdout.readline().rstrip("\n") for _ in range(count))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    deadline = time.monotonic() + seconds
    while reader.is_alive() and time.monotonic() < deadline:
        nudge()
        reader.join(1)
    if len(found) < count:
        raise Failed(f"{process.args!r} did not say {count} lines: {found}")
    return found


def has(text: str, *parts: str) -> None:
    """Every part stands in the text, however wide the gaps between its words."""
    whole = " ".join(text.split())
    missing = [part for part in parts if " ".join(part.split()) not in whole]
    assert not missing, f"{missing} not in:\n{text}"
