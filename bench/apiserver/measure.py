"""Contenders measured by turns in one run, and what is said about them.

A machine that others use too changes from minute to minute: contenders take turns in short rounds, and each is told as
a ratio to the floor of the same rounds. CPU seconds per request say what wall time hides on a busy machine.
"""

from dataclasses import dataclass, field

from bench.apiserver.load import Loaders, Result, Work
from bench.apiserver.stage import Process

ROUNDS = 5
SECONDS = 1.5


@dataclass(slots=True)
class Contender:
    """``server``: whose CPU time counts."""

    name: str
    work: Work
    server: Process
    total: Result = field(default_factory=lambda: Result(0.0, []))
    cpu: float = 0.0

    def run(self, loaders: Loaders, clients: int, seconds: float) -> None:
        running = loaders.start(self.work, clients)
        before = self.server.cpu_seconds()
        result = running.run(seconds)
        self.cpu += self.server.cpu_seconds() - before
        self.total.add(result, parallel=False)

    @property
    def microseconds(self) -> float:
        """CPU time of the server per request."""
        return self.cpu / self.total.count * 1e6 if self.total.count else float("nan")

    def warm_up(self, loaders: Loaders, clients: int) -> None:
        """A round that does not count: the first second of a process and of its connections is like no later one."""
        loaders.start(self.work, clients).run(SECONDS)

    def line(self) -> str:
        p99 = self.total.percentile(0.99) * 1000
        failed = f", {self.total.failed} failed" if self.total.failed else ""
        return f"{self.name} {self.total.rate:.0f}/s (p99 {p99:.1f} ms, {self.microseconds:.0f} µs CPU each{failed})"


def by_turns(
    loaders: Loaders, contenders: list[Contender], clients: int, *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> None:
    for contender in contenders:
        contender.warm_up(loaders, clients)
    for _ in range(rounds):
        for contender in contenders:
            contender.run(loaders, clients, seconds)


def verdict(what: str, ratio: float, bar: float | None, *, at_least: bool = True, detail: str = "") -> bool:
    """Prints a ratio, its bar and whether it holds."""
    text = f"{what}: ratio {ratio:.2f}"
    holds = True
    if bar is not None:
        holds = ratio >= bar if at_least else ratio <= bar
        text += f" (bar: {'>=' if at_least else '<='} {bar:.2f}, {'holds' if holds else 'MISSED'})"
    print(f"{text}; {detail}" if detail else text, flush=True)
    return holds
