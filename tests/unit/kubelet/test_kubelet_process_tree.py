"""A container's processes end with it, those it left behind too."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from services.kubelet.runtime.process_tree import descendants, end_tree, session_members

LEADER = """
import subprocess, time
subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
print(flush=True)
time.sleep(60)
"""


def ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def leader() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", LEADER], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    return process


def test_children_that_outlive_their_parent_end_too() -> None:
    process = leader()
    (child,) = descendants(process.pid)
    started = ticks(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert session_members(process.pid) == {child}
    end_tree(process.pid, started, process.pid, started)
    assert session_members(process.pid) == set()


def test_a_pid_that_is_another_process_now_is_left_alone() -> None:
    process = leader()
    end_tree(process.pid, ticks(process.pid) - 1, process.pid, ticks(process.pid) - 1)
    assert process.poll() is None and len(descendants(process.pid)) == 1
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
