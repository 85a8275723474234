"""Keeps the processes of a local cluster running: one asyncio loop, one task per process.

Runs detached (`python -m tillerman.cluster.supervisor <state-dir>`), and starts them when it reads a line from its
standard input; what services share is loaded until then. Each process is its own session, with its output
in logs/. One that ends is started again: at once the first time, then after 0.25 s doubling to 10 s, and at once again
after it has run for 30 s. A process that is already running (its supervisor was killed) is adopted through its pid
file. SIGTERM ends the processes in the reverse of the order in which they were started, etcd last.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tillerman.cluster import prefork
from tillerman.cluster.layout import Plan, ProcessPlan
from tillerman.cluster.network import hold_slot
from tillerman.cluster.processes import Identity, end, read_pid, write_pid

FIRST_DELAY, MAX_DELAY, STEADY_SECONDS = 0.25, 10.0, 30.0
GRACE_SECONDS = 8.0


class Supervisor:
    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.identities: dict[str, Identity] = {}
        # Kept, since a Popen that is dropped waits for its process itself.
        self.children: dict[int, subprocess.Popen[bytes]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Returns when stop is set and every process has ended."""
        keepers = [asyncio.create_task(self.keep(process), name=process.name) for process in self.plan.processes]
        await stop.wait()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        etcd = [identity for name, identity in self.identities.items() if name == "etcd"]
        others = [identity for name, identity in self.identities.items() if name != "etcd"]
        await asyncio.to_thread(end, others, grace_seconds=GRACE_SECONDS)
        await asyncio.to_thread(end, etcd, grace_seconds=GRACE_SECONDS)
        for name in self.identities:
            self.pid_file(name).unlink(missing_ok=True)

    async def keep(self, process: ProcessPlan) -> None:
        delay = 0.0
        while True:
            began = time.monotonic()
            adopted = read_pid(self.pid_file(process.name))
            if adopted:
                self.identities[process.name] = adopted
                self.say(f"{process.name}: adopted pid {adopted.pid}")
                await gone(adopted.pid)
                self.say(f"{process.name}: pid {adopted.pid} ended")
            else:
                pid = self.spawn(process)
                code = await asyncio.shield(wait_for(pid))
                self.children.pop(pid, None)
                self.say(f"{process.name}: pid {pid} ended with {code}")
            if time.monotonic() - began >= STEADY_SECONDS:
                delay = 0.0
            if delay:
                self.say(f"{process.name}: starting again in {delay:g} s")
                await asyncio.sleep(delay)
            delay = min(MAX_DELAY, delay * 2 or FIRST_DELAY)

    def spawn(self, process: ProcessPlan) -> int:
        """Starts the process; returns its pid."""
        log = self.folder / "logs" / f"{process.name}.log"
        if prefork.possible(process.argv):
            pid = prefork.spawn(process.argv, env=process.env, cwd=self.folder, log=log)
        else:
            pid = self.execute(process, log)
        if identity := Identity.of(pid):
            self.identities[process.name] = identity
            write_pid(self.pid_file(process.name), identity)
        self.say(f"{process.name}: started pid {pid}")
        return pid

    def execute(self, process: ProcessPlan, log: Path) -> int:
        with log.open("ab") as output:
            child = subprocess.Popen(
                process.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **process.env},
                cwd=self.folder,
                start_new_session=True,
            )
        self.children[child.pid] = child
        return child.pid

    def pid_file(self, name: str) -> Path:
        return self.folder / "run" / f"{name}.pid"

    def say(self, text: str) -> None:
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", flush=True)


async def wait_for(pid: int) -> int:
    """The exit code of a child; negative for a signal."""
    await gone(pid)
    _, status = os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended
    return os.waitstatus_to_exitcode(status)


async def gone(pid: int) -> None:
    """Returns when the process, ours or not, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def readable() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, readable)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def supervise(folder: Path) -> int:
    plan = Plan.read(folder)
    own = Identity.of(os.getpid())
    if read_pid(folder / "run" / "supervisor.pid"):
        print(f"cluster {plan.name}: a supervisor is already running", file=sys.stderr)
        return 1
    if own:
        write_pid(folder / "run" / "supervisor.pid", own)
    slot = hold_slot(plan.network_slot)
    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sig, stop.set)
    try:
        await Supervisor(folder, plan).run(stop)
    finally:
        (folder / "run" / "supervisor.pid").unlink(missing_ok=True)
        if slot:
            slot.close()
    return 0


def told_to_start(folder: Path) -> bool:
    """Waits for the word; afterwards nothing is left of whoever gave it. False when there will be none."""
    if not sys.stdin.readline():
        return False
    prefork.redirect(folder / "logs" / "supervisor.log")
    os.chdir(folder)
    return True


def main(folder: Path) -> int:
    prefork.preload()
    return asyncio.run(supervise(folder)) if told_to_start(folder) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
