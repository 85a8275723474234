"""The process runtime's shim: parent of one container's processes, kept alive when the kubelet dies.

Run as a script with `python -I -S`; it imports nothing of Tillerman, so that it stays small. Modes:
  run SPEC    starts the container, prints one line ("OK <pid> <start ticks>" or "ERR <exit code> <words>"), then writes
              its output to `log` as lines "<time> <stream> <F|P> <text>", serves `attach.sock`, and at the end writes
              `exit.json` and ends whatever the container left behind. Its working directory is the container's folder.
  exec SPEC   becomes the command, in the container's namespaces.
  probe       prints which isolation works here: "namespaces", "user-namespaces" or "none".
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Clients = dict[int, tuple[socket.socket, bytes]]

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER = 0x00020000, 0x04000000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
LOG_LIMIT = 10 << 20
LINE_LIMIT = 16 * 1024

libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """(exit code, words)"""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    arguments = [text.encode() if text is not None else None for text in (source, target, kind)]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def isolate(isolation: str, hostname: str) -> None:
    """Own mounts and host name; with user-namespaces, as the same user without privilege."""
    if isolation == "none":
        return
    flags = CLONE_NEWNS | CLONE_NEWUTS
    uid, gid = os.geteuid(), os.getegid()
    if isolation == "user-namespaces":
        flags |= CLONE_NEWUSER
    check(libc.unshare(flags), "unshare")
    if isolation == "user-namespaces":
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    if hostname:
        encoded = hostname.encode()
        check(libc.sethostname(encoded, len(encoded)), "sethostname")


def build_root(root: str, mounts: list[dict[str, Any]]) -> None:
    """A root made of this machine's own folders, with the container's mounts laid over it; then it is entered."""
    os.makedirs(root, exist_ok=True)
    mount("tillerman-root", root, "tmpfs", 0, "mode=0755")
    mirror("/", root)
    for entry in mounts:
        place(root, entry)
    os.chroot(root)
    os.chdir("/")


def mirror(source: str, target: str) -> None:
    """target (an empty tmpfs) gets every entry of source: bound, or as the same symlink."""
    for entry in os.scandir(source):
        path = os.path.join(target, entry.name)
        try:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), path)
            elif entry.is_dir(follow_symlinks=False):
                os.mkdir(path)
                mount(entry.path, path, None, MS_BIND | MS_REC)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
                mount(entry.path, path, None, MS_BIND)
        except OSError as error:
            sys.stderr.write(f"not visible in the container: {entry.path}: {error}\n")


def place(root: str, entry: dict[str, Any]) -> None:
    """Binds one mount; folders on the way that do not exist are made without touching the machine's own."""
    target = root
    parts = [part for part in entry["target"].split("/") if part not in ("", ".", "..")]
    is_dir = os.path.isdir(entry["source"])
    for index, part in enumerate(parts):
        path = os.path.join(target, part)
        if os.path.islink(path):
            link = os.readlink(path)
            path = root + link if link.startswith("/") else os.path.normpath(os.path.join(target, link))
        last = index == len(parts) - 1
        if not os.path.lexists(path):
            if target != root and not os.path.exists(os.path.join(target, ".tillerman")):
                shadow(root, target)
            if last and not is_dir:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
            else:
                os.makedirs(path, exist_ok=True)
                open(os.path.join(path, ".tillerman"), "w").close()
        target = path
    mount(entry["source"], target, None, MS_BIND | MS_REC)
    if entry.get("read_only"):
        mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY)


def shadow(root: str, folder: str) -> None:
    """Lays a tmpfs with the same entries over a folder of the machine, so that entries can be added."""
    original = folder[len(root) :] or "/"
    keep = os.open(original, os.O_RDONLY | os.O_DIRECTORY)
    mount("tillerman-shadow", folder, "tmpfs", 0, "mode=0755")
    mirror(f"/proc/self/fd/{keep}", folder)
    os.close(keep)
    open(os.path.join(folder, ".tillerman"), "w").close()


def enter(pid: int, isolation: str) -> None:
    """Joins a container's namespaces and root."""
    if isolation == "none":
        return
    names = ["mnt", "uts"] if isolation == "namespaces" else ["user", "mnt", "uts"]
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    files = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in names]
    for file in files:
        check(libc.setns(file, 0), "setns")
        os.close(file)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)


def limit(spec: dict[str, Any]) -> None:
    memory = spec.get("memory_limit", 0)
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def become(spec: dict[str, Any]) -> None:
    """User, folder, environment, command: does not return."""
    if spec.get("no_new_privileges"):
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    user, _, group = spec.get("user", "").partition(":")
    if os.geteuid() == 0 and (user or group):
        os.setgroups(spec.get("groups", []))
        os.setgid(int(group or user or 0))
        if user:
            os.setuid(int(user))
    try:
        os.chdir(spec["cwd"])
    except OSError as error:
        raise Failure(128, f"cannot enter the working directory: {error}") from None
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    argv, env = spec["argv"], spec["env"]
    try:
        os.execvpe(argv[0], argv, env)
    except FileNotFoundError:
        raise Failure(127, f'exec: "{argv[0]}": executable file not found in $PATH') from None
    except OSError as error:
        raise Failure(126, f'exec: "{argv[0]}": {error.strerror}') from None


def start_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19])


class Log:
    """Lines with time and stream; one older file is kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = open(name, "ab", buffering=0)  # noqa: SIM115
        self.size = self.file.tell()
        self.rest = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes) -> None:
        data = self.rest[stream] + data
        *lines, rest = data.split(b"\n")
        out = [self.line(stream, b"F", line) for line in lines]
        while len(rest) >= LINE_LIMIT:
            out.append(self.line(stream, b"P", rest[:LINE_LIMIT]))
            rest = rest[LINE_LIMIT:]
        self.rest[stream] = rest
        self.put(b"".join(out))

    def line(self, stream: str, tag: bytes, text: bytes) -> bytes:
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
        return f"{stamp}.{now % 1_000_000_000:09d}Z {stream} ".encode() + tag + b" " + text + b"\n"

    def put(self, data: bytes) -> None:
        if not data:
            return
        if self.size + len(data) > LOG_LIMIT:
            self.file.close()
            os.replace(self.name, self.name + ".1")
            self.file = open(self.name, "ab", buffering=0)  # noqa: SIM115
            self.size = 0
        self.file.write(data)
        self.size += len(data)

    def flush(self) -> None:
        for stream, rest in self.rest.items():
            if rest:
                self.put(self.line(stream, b"P", rest))
                self.rest[stream] = b""


def run(spec: dict[str, Any]) -> None:
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    log = Log("log")
    tty, wants_stdin = bool(spec.get("tty")), spec.get("stdin")
    child_in = parent_in = -1
    outs: dict[int, str]
    if tty:
        master, slave = os.openpty()
        outs, streams = {master: "stdout"}, (slave, slave, slave)
        parent_in = master
    else:
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        outs = {out_r: "stdout", err_r: "stderr"}
        if wants_stdin:
            child_in, parent_in = os.pipe()
        else:
            child_in = os.open(os.devnull, os.O_RDONLY)
        streams = (child_in, out_w, err_w)
    failed_r, failed_w = os.pipe()
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != shim:
                os._exit(137)
            if tty:
                import fcntl
                import termios

                fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
            isolate(spec["isolation"], spec.get("hostname", ""))
            if spec["isolation"] != "none":
                build_root(os.path.abspath("root"), spec["mounts"])
            limit(spec)
            for number, file in enumerate(streams):
                os.dup2(file, number)
            become(spec)
        except BaseException as error:
            code = error.code if isinstance(error, Failure) else 128
            os.write(failed_w, f"{code} {error}".encode()[:4000])
        os._exit(127)
    for file in set(streams) | {failed_w}:
        os.close(file)
    failed = b""
    while data := os.read(failed_r, 4096):
        failed += data
    os.close(failed_r)
    if failed:
        os.waitpid(pid, 0)
        text, _, words = failed.decode(errors="replace").partition(" ")
        finish(int(text), words)
        report(f"ERR {text} {words}")
        return
    with open("state.json.new", "w") as state:
        json.dump({"pid": pid, "start": start_ticks(pid), "shim": shim, "shim_start": start_ticks(shim)}, state)
    os.replace("state.json.new", "state.json")
    server = socket.socket(socket.AF_UNIX)
    server.bind("attach.sock")
    os.chmod("attach.sock", 0o600)
    server.listen(8)
    report(f"OK {pid} {start_ticks(pid)}")
    code = pump(pid, log, outs, parent_in, server, tty=tty)
    end_descendants()
    log.flush()
    finish(code, "")


def report(line: str) -> None:
    os.write(1, line.replace("\n", " ").encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)


def finish(code: int, words: str) -> None:
    with open("exit.json.new", "w") as file:
        json.dump({"code": code, "message": words, "time": time.time()}, file)
    os.replace("exit.json.new", "exit.json")


def pump(pid: int, log: Log, outs: dict[int, str], stdin: int, server: socket.socket, *, tty: bool) -> int:
    """Until the main process has ended and what it wrote is read; returns its exit code."""
    clients: Clients = {}
    watch = os.pidfd_open(pid)
    code: int | None = None
    stop_at = 0.0
    while True:
        timeout = None if code is None else max(stop_at - time.monotonic(), 0)
        sources: list[Any] = [*outs, *clients, *([watch] if code is None else []), server]
        ready, _, _ = select.select(sources, [], [], timeout)
        for source in ready:
            if source is server:
                client = server.accept()[0]
                clients[client.fileno()] = (client, b"")
            elif source == watch:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                code = 128 - code if code < 0 else code
                # What it wrote is in the pipes already; its children may hold them open for ever.
                stop_at = time.monotonic() + 0.1
            elif source in outs:
                read_output(source, outs, log, clients)
            elif source in clients:
                stdin = read_client(source, clients, stdin, tty=tty)
        if code is not None and (not outs or (not [s for s in ready if s in outs] and time.monotonic() >= stop_at)):
            for client, _ in clients.values():
                client.close()
            return code


def read_output(source: int, outs: dict[int, str], log: Log, clients: Clients) -> None:
    try:
        data = os.read(source, 65536)
    except OSError:
        data = b""
    if not data:
        os.close(source)
        del outs[source]
        return
    log.write(outs[source], data)
    frame = bytes([2 if outs[source] == "stderr" else 1]) + len(data).to_bytes(4, "big") + data
    for number, (client, _) in list(clients.items()):
        try:
            client.settimeout(1.0)
            client.sendall(frame)
        except OSError:
            client.close()
            del clients[number]


def read_client(number: int, clients: Clients, stdin: int, *, tty: bool) -> int:
    """Frames from an attached client: 0 input, 3 window size (two numbers of 16 bits), 4 end of input.

    Returns the container's input, -1 once it is closed."""
    client, rest = clients[number]
    try:
        data = client.recv(65536)
    except OSError:
        data = b""
    if not data:
        client.close()
        del clients[number]
        return stdin
    rest += data
    while len(rest) >= 5:
        kind, length = rest[0], int.from_bytes(rest[1:5], "big")
        if len(rest) < 5 + length:
            break
        body, rest = rest[5 : 5 + length], rest[5 + length :]
        if stdin < 0:
            continue
        try:
            if kind == 0:
                os.write(stdin, body)
            elif kind == 3 and tty:
                import fcntl
                import struct
                import termios

                width, height = struct.unpack(">HH", body)
                fcntl.ioctl(stdin, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
            elif kind == 4 and not tty:
                os.close(stdin)
                stdin = -1
        except OSError:
            pass
    clients[number] = (client, rest)
    return stdin


def end_descendants() -> None:
    """What the container left behind is this process's by now (it is the subreaper)."""
    me = os.getpid()
    while True:
        with open(f"/proc/{me}/task/{me}/children") as file:
            children = [int(pid) for pid in file.read().split()]
        if not children:
            return
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except OSError:
                pass


def probe() -> None:
    for isolation in ("namespaces", "user-namespaces"):
        if isolation == "namespaces" and os.geteuid() != 0:
            continue
        pid = os.fork()
        if pid == 0:
            try:
                isolate(isolation, "probe")
                mount("tillerman-probe", "/tmp", "tmpfs", 0)
                os._exit(0)
            except OSError:
                os._exit(1)
        if os.waitpid(pid, 0)[1] == 0:
            print(isolation)
            return
    print("none")


def main() -> None:
    if sys.argv[1] == "probe":
        probe()
        return
    with open(sys.argv[2]) as file:
        spec = json.load(file)
    if sys.argv[1] == "run":
        os.chdir(os.path.dirname(os.path.abspath(sys.argv[2])))
        run(spec)
        return
    os.unlink(sys.argv[2])
    try:
        enter(spec["pid"], spec["isolation"])
        if spec.get("tty"):
            import fcntl
            import termios

            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        become(spec)
    except Failure as failure:
        sys.stderr.write(f"{failure}\n")
        sys.exit(failure.code)
    except OSError as error:
        sys.stderr.write(f"cannot enter the container: {error}\n")
        sys.exit(126)


if __name__ == "__main__":
    main()
