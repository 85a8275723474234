"""Starts services by fork from a process that has loaded what they share.

A service needs 0.4 s of processor time just to import its libraries; on two cores, that was most of the wait of
`tiller up`. So the supervisor imports the shared part once (`preload`), and each service begins as a copy of it: a
process, session and process group of its own, but with the libraries in place and their memory shared. What must not
be loaded before a fork stays out: gRPC and NumPy, whose threads don't survive one.

Linux only, like the supervisor. Services started by hand or by systemd are started as usual and behave the same.
"""

import gc
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

# What most services import, without gRPC.
SHARED = (
    "argparse",
    "asyncio",
    "concurrent.futures.thread",
    "ctypes",
    "dataclasses",
    "google.protobuf.any_pb2",
    "google.protobuf.json_format",
    "google.rpc.status_pb2",
    "ipaddress",
    "logging",
    "orjson",
    "prometheus_client",
    "ssl",
    "typing_extensions",
    "uuid",
    "uvloop",
    "yaml",
    "tillerman.service.quick_structlog",
    "tillerman.service.options",
    "tillerman.api.codec",
    "tillerman.api.meta",
    "tillerman.api.pods",
    "tillerman.api.quantity",
    "tillerman.api.scheme",
    "tillerman.api.selectors",
    "tillerman.api.status",
    "tillerman.api.times",
    "tillerman.api.validation",
    "tillerman.client.clock",
    "tillerman.client.trace",
    "tillerman.client.workqueue",
    "tillerman.pb.api.objects_pb2",
    "tillerman.pb.api.pods_pb2",
    "tillerman.pb.k8s.apps_v1_pb2",
    "tillerman.pb.k8s.autoscaling_v1_pb2",
    "tillerman.pb.k8s.autoscaling_v2_pb2",
    "tillerman.pb.k8s.batch_v1_pb2",
    "tillerman.pb.k8s.coordination_v1_pb2",
    "tillerman.pb.k8s.core_v1_pb2",
    "tillerman.pb.k8s.discovery_v1_pb2",
    "tillerman.pb.k8s.meta_v1_pb2",
    "tillerman.pb.k8s.policy_v1_pb2",
    "tillerman.pb.k8s.storage_v1_pb2",
)

_preloaded = False


def possible(argv: Sequence[str]) -> bool:
    """Whether a command line is that of a service of ours: python -m services.<name> …"""
    return len(argv) > 2 and argv[0] == sys.executable and argv[1] == "-m" and argv[2].startswith("services.")


def preload() -> None:
    """Loads what services share, once. Raises RuntimeError if that has loaded something that a fork would break."""
    global _preloaded
    if _preloaded:
        return
    for name in SHARED:
        import_module(name)
    if "grpc" in sys.modules:
        raise RuntimeError("gRPC is loaded: a process that has it must not fork")
    # Objects that the collector never looks at again stay in shared memory.
    gc.collect()
    gc.freeze()
    _preloaded = True


def spawn(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> int:
    """Starts the service of a command line for which `possible` holds; returns its pid, a child of this process."""
    preload()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _detach(env, cwd, log)
        _rename(argv)
        code = _serve(argv[2], argv[3:])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not a return: the frames above are the supervisor's.
        os._exit(code)


def redirect(log: Path) -> None:
    """From now on nothing is read from standard input, and what is printed goes to the end of a file."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    empty = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((empty, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(empty)


def _detach(env: Mapping[str, str], cwd: Path, log: Path) -> None:
    """Leaves behind what belongs to the supervisor: session, signal handlers, event loop, files."""
    import asyncio

    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asyncio.events._set_running_loop(None)
    redirect(log)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:
            try:
                os.close(descriptor)
            except OSError:
                pass
    os.environ.update(env)
    os.chdir(cwd)


def _serve(module: str, flags: Sequence[str]) -> int:
    sys.argv = [module, *flags]
    try:
        code = import_module(f"{module}.__main__").main(flags)
    except SystemExit as ended:
        code = ended.code
    return code if isinstance(code, int) else int(code is not None)


def _rename(argv: Sequence[str]) -> None:
    """Lets ps and top show the service's command line, as far as it fits in place of the supervisor's."""
    import ctypes

    ctypes.CDLL(None).prctl(15, ("tiller-" + argv[2].removeprefix("services.")).encode()[:15], 0, 0, 0)  # PR_SET_NAME
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        text = b"\0".join(argument.encode() for argument in argv)[: end - start - 1]
        ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
