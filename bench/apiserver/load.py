"""Load: processes of clients that send what was serialised beforehand and do not look at the answers.

`Loaders` starts the processes and speaks to them over pipes; each process runs its share of the clients, every one
with a connection of its own, one request at a time, back to back (see loader.py).
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.apiserver.loader import CLIENT, COUNT

PROCESSES = 2
__all__ = ["CLIENT", "COUNT", "Loaders", "Piece", "Result", "Running", "Work", "loaders"]

Piece = bytes | str


@dataclass(frozen=True, slots=True)
class Work:
    """Requests of one kind. ``method``: a gRPC path, or "" for HTTP/1.1, where the pieces are the whole request.

    ``pieces`` joined are a request: CLIENT stands for the client's number, COUNT for a number that never comes twice,
    both in twelve digits, so that lengths written beforehand stay right.
    """

    address: str
    user: dict[str, str]
    method: str
    pieces: tuple[Piece, ...]

    def body(self) -> bytes:
        """The request of work without places."""
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))

    def dumps(self) -> dict[str, Any]:
        pieces = [piece if isinstance(piece, str) else piece.hex() for piece in self.pieces]
        return {"address": self.address, "user": self.user, "method": self.method, "pieces": pieces}


@dataclass(slots=True)
class Result:
    """``seconds``: how long the requests were sent for. ``latencies`` in seconds, sorted."""

    seconds: float
    latencies: list[float]
    failed: int = 0

    @property
    def count(self) -> int:
        return len(self.latencies)

    @property
    def rate(self) -> float:
        return self.count / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        return self.latencies[min(self.count - 1, int(self.count * share))] if self.latencies else float("nan")

    def add(self, other: "Result", *, parallel: bool) -> None:
        self.seconds = max(self.seconds, other.seconds) if parallel else self.seconds + other.seconds
        self.latencies = sorted(self.latencies + other.latencies)
        self.failed += other.failed


class Loaders:
    def __init__(self, processes: Sequence["subprocess.Popen[str]"], first: int) -> None:
        self._processes = processes
        self._next = first
        self._apart = 0

    def start(self, work: Work, clients: int) -> "Running":
        """Connects the clients and makes one request with each."""
        processes = self._processes[: min(clients, len(self._processes))]
        shares = [clients // len(processes) + (i < clients % len(processes)) for i in range(len(processes))]
        first = 0
        for process, share in zip(processes, shares, strict=True):
            send(process, {**work.dumps(), "clients": share, "first": first, "count": self._take()})
            first += share
        for process in processes:
            receive(process)
        return Running(processes)

    def run(self, work: Work, clients: int, seconds: float) -> Result:
        return self.start(work, clients).run(seconds)

    @contextlib.contextmanager
    def apart(self) -> Iterator["Loaders"]:
        """One more process, for load of another kind at the same time."""
        self._apart += 1
        with loaders(1, first=1_000 * self._apart) as others:
            yield others

    def _take(self) -> int:
        self._next += 1
        return self._next * 10**6


class Running:
    """Connected clients."""

    def __init__(self, processes: Sequence["subprocess.Popen[str]"]) -> None:
        self._processes = processes

    def run(self, seconds: float) -> Result:
        self.begin(seconds)
        return self.end()

    def begin(self, seconds: float) -> None:
        for process in self._processes:
            send(process, {"seconds": seconds})

    def end(self) -> Result:
        total = Result(0.0, [])
        for process in self._processes:
            answer = receive(process)
            total.add(Result(answer["seconds"], answer["latencies"], answer["failed"]), parallel=True)
        return total


@contextlib.contextmanager
def loaders(processes: int = PROCESSES, *, first: int = 0) -> Iterator[Loaders]:
    """``first``: where the numbers that never come twice begin, in millions."""
    argv = [sys.executable, "-m", "bench.apiserver.loader"]
    running = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    try:
        yield Loaders(running, first)
    finally:
        for process in running:
            process.kill()
            process.communicate()


def send(process: "subprocess.Popen[str]", content: dict[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps(content) + "\n")
    process.stdin.flush()


def receive(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a load process ended")
    answer: dict[str, Any] = json.loads(line)
    return answer
