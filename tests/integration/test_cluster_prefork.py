"""Services that are forked from a process which has loaded what they share."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

SCRIPT = textwrap.dedent("""
    import json, os, sys
    from pathlib import Path
    from tillerman.cluster import prefork

    folder = Path(sys.argv[1])
    argv = [sys.executable, "-m", "services.scheduler", *sys.argv[2:]]
    assert prefork.possible(argv) and not prefork.possible(["etcd", "--name=x"])
    pid = prefork.spawn(argv, env={"TILLERMAN_TEST": "1"}, cwd=folder, log=folder / "log")
    seen = {"session": os.getsid(pid) == pid}
    _, status = os.waitpid(pid, 0)
    print(json.dumps(seen | {"code": os.waitstatus_to_exitcode(status), "threads": len(os.listdir("/proc/self/task"))}))
""")


def fork(folder: Path, *flags: str) -> tuple[dict[str, object], str]:
    """What the forking process saw, and what the service wrote to its log."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), *flags, "x" * 200], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, object] = json.loads(done.stdout)
    return seen, (folder / "log").read_text()


def test_a_service_parses_its_flags_and_its_exit_code_comes_back(tmp_path: Path) -> None:
    seen, log = fork(tmp_path, "--nonsense")
    assert seen["code"] == 2
    assert seen["threads"] == 1
    assert "unrecognized arguments: --nonsense" in log


def test_help_goes_to_the_log_and_ends_with_0(tmp_path: Path) -> None:
    seen, log = fork(tmp_path, "--help")
    assert seen["code"] == 0
    assert "--leader-elect" in log
