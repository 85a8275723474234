"""The process runtime: containers are plain processes of this machine, for where there is no Docker.

A pod has a loopback address of its own (its podCIDR with 127 in front) that its processes are told as POD_IP. A shim
per container (process_shim.py) is the parent of its processes, in a session of its own, so that they outlive the
kubelet; the kubelet hears of a shim's end through a pidfd. Everything that a new kubelet needs is in files under
<root-dir>/process.
"""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from services.kubelet.runtime import process_files as files
from services.kubelet.runtime.interface import (
    ContainerSpec,
    ContainerState,
    EventKind,
    ImageState,
    Inventory,
    LogOptions,
    NotFoundFailure,
    Phase,
    RegistryAuth,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    RuntimeInfo,
    SandboxSpec,
    SandboxState,
    Session,
    Usage,
)
from services.kubelet.runtime.process_images import ProcessImage, ProcessImages
from services.kubelet.runtime.process_logs import read_logs
from services.kubelet.runtime.process_session import AttachSession, ExecSession
from services.kubelet.runtime.process_stats import session_usage
from services.kubelet.runtime.process_tree import end_tree, session_members
from tillerman.client.clock import Clock

_CAVEATS = (
    "the process runtime does not isolate: containers see this machine's network, processes and users; ports are "
    "shared, so a program has to listen on its POD_IP",
    "the process runtime does not enforce CPU limits; memory limits are limits of each process, not of the container",
)
_NO_MOUNTS = (
    "the process runtime cannot make mounts here (no privilege, no user namespaces): volumes are found below the "
    "working directory, which TILLERMAN_ROOT names, not at their mountPath"
)
_UNPRIVILEGED = "the process runtime runs without root: ports below 1024, runAsUser and capabilities do not work"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ProcessRuntime:
    name = "process"

    def __init__(self, *, root_dir: Path, image_path: Sequence[Path], clock: Clock) -> None:
        base = root_dir.absolute()
        self._clock = clock
        self._sandboxes_dir = base / "process" / "sandboxes"
        self._containers_dir = base / "process" / "containers"
        self._images = ProcessImages([*image_path, base / "images"])
        self._isolation = "none"
        self._events: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._hostnames: dict[str, str] = {}
        self._watched: dict[str, int] = {}

    async def start(self) -> RuntimeInfo:
        for folder in (self._sandboxes_dir, self._containers_dir):
            folder.mkdir(parents=True, exist_ok=True)
        probe = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-I", "-S", files.SHIM, "probe"],
            capture_output=True,
            text=True,
            check=False,
        )
        self._isolation = probe.stdout.strip() or "none"
        caveats = list(_CAVEATS)
        if self._isolation == "none":
            caveats.append(_NO_MOUNTS)
        if os.geteuid() != 0:
            caveats.append(_UNPRIVILEGED)
        for state in (await self.inventory()).containers:
            if state.phase is Phase.RUNNING:
                self._watch(state)
        return RuntimeInfo("process", "1", "process://1", tuple(caveats))

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for handle in self._watched.values():
            loop.remove_reader(handle)
            os.close(handle)
        self._watched.clear()

    async def ping(self) -> None:
        if not self._containers_dir.is_dir():
            raise RuntimeFailure(f"{self._containers_dir} is gone")

    def pod_cidr(self, node_cidr: str) -> str:
        """10.244.1.0/24 becomes 127.244.1.0/24."""
        return "127." + node_cidr.partition(".")[2] if node_cidr else node_cidr

    async def inventory(self) -> Inventory:
        return await asyncio.to_thread(self._inventory)

    def _inventory(self) -> Inventory:
        sandboxes = []
        for path in self._sandboxes_dir.glob("*.json"):
            found = files.read_sandbox(path)
            if found is not None:
                sandboxes.append(found[0])
                self._hostnames[found[0].id] = found[1]
        containers = [files.read_container(folder) for folder in self._containers_dir.iterdir() if folder.is_dir()]
        return Inventory(tuple(sandboxes), tuple(state for state in containers if state is not None))

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        while True:
            yield await self._events.get()

    async def run_sandbox(self, spec: SandboxSpec) -> SandboxState:
        state = SandboxState(
            id=f"{spec.pod.uid}_{spec.attempt}",
            pod=spec.pod,
            attempt=spec.attempt,
            running=True,
            ip=spec.ip or "",
            created_at=self._clock.time(),
            grace_seconds=spec.grace_seconds,
        )
        files.write_sandbox(self._sandboxes_dir, state, spec.hostname)
        self._hostnames[state.id] = spec.hostname
        return state

    async def remove_sandbox(self, sandbox_id: str) -> None:
        (self._sandboxes_dir / f"{sandbox_id}.json").unlink(missing_ok=True)
        self._hostnames.pop(sandbox_id, None)

    async def run_container(self, sandbox: SandboxState, spec: ContainerSpec) -> ContainerState:
        image = self._images.find(spec.image)
        if image is None:
            raise NotFoundFailure(self._images.missing(spec.image))
        folder = self._containers_dir / f"{spec.pod.uid}_{spec.name}_{spec.attempt}"
        await asyncio.to_thread(self._clear, folder)
        (folder / "own").mkdir(parents=True)
        shim_spec = self._shim_spec(sandbox, spec, image, folder)
        files.write_json(folder / "spec.json", shim_spec)
        started_at = self._clock.time()
        answer = await asyncio.to_thread(self._spawn, folder)
        word, _, rest = answer.partition(" ")
        state = ContainerState(
            # The main process' id first, so that people find it.
            id=f"{rest.split(' ')[0] if word == 'OK' else 0}-{folder.name}",
            pod=spec.pod,
            name=spec.name,
            attempt=spec.attempt,
            sandbox_attempt=sandbox.attempt,
            phase=Phase.RUNNING,
            image=spec.image,
            image_id=spec.image_id,
            hash=spec.hash,
            backoff_seconds=spec.backoff_seconds,
            created_at=started_at,
            started_at=started_at,
            message_file=spec.message_file,
        )
        files.write_json(folder / "container.json", {k: v for k, v in asdict(state).items() if k != "phase"})
        if word != "OK":
            code, _, words = rest.partition(" ")
            number = int(code) if code.isdigit() else 128
            fields = files.ended_fields(number, self._clock.time(), words or answer or "the shim could not be started")
            return replace(state, **fields)
        self._watch(state)
        return state

    def _shim_spec(
        self, sandbox: SandboxState, spec: ContainerSpec, image: ProcessImage, folder: Path
    ) -> dict[str, Any]:
        own = folder / "own"
        entrypoint = list(spec.command) if spec.command is not None else image.command(image.entrypoint, own)
        default = [] if spec.command is not None else image.command(image.cmd, own)
        argv = [*entrypoint, *(spec.args if spec.args is not None else default)]
        if not argv:
            raise RuntimeFailure(f'image "{spec.image}" has no command of its own: the container has to name one')
        hostname = self._hostnames.get(sandbox.id, spec.pod.name)
        env = {
            "PATH": _DEFAULT_PATH,
            "HOME": str(own),
            "HOSTNAME": hostname,
            "POD_NAME": spec.pod.name,
            "POD_NAMESPACE": spec.pod.namespace,
            "POD_IP": sandbox.ip or "0.0.0.0",
            **{name: image.expanded(value, own) for name, value in image.env.items()},
            **dict(spec.env),
        }
        cwd = spec.working_dir or image.expanded(image.workdir, own) or "/"
        mounts = [{"source": m.source, "target": m.target, "read_only": m.read_only} for m in spec.mounts]
        if self._isolation == "none":
            root = folder / "view"
            _link_mounts(root, mounts)
            env["TILLERMAN_ROOT"] = str(root)
            cwd = spec.working_dir or str(root)
        return {
            "argv": argv,
            "env": env,
            "cwd": cwd,
            "mounts": mounts,
            "isolation": self._isolation,
            "hostname": hostname,
            "memory_limit": spec.resources.memory_limit,
            "user": spec.security.user or image.user,
            "groups": list(spec.security.groups),
            "no_new_privileges": spec.security.no_new_privileges,
            "tty": spec.tty,
            "stdin": spec.stdin,
            "stop_signal": spec.stop_signal or image.stop_signal or "SIGTERM",
        }

    def _spawn(self, folder: Path) -> str:
        """Starts the shim and returns the line it answers with."""
        argv = [sys.executable, "-I", "-S", files.SHIM, "run", str(folder / "spec.json")]
        with (folder / "shim.err").open("wb") as errors:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        assert process.stdout is not None
        with process.stdout:
            line = process.stdout.readline().decode(errors="replace").strip()
        # It is reaped when its pidfd says that it has ended.
        process.returncode = 0
        if not line:
            line = f"ERR 128 {(folder / 'shim.err').read_text(errors='replace')[-500:]}"
        return line

    def _watch(self, state: ContainerState) -> None:
        folder = self._folder(state.id)
        running = files.read_json(folder / "state.json")
        if running is None:
            return
        try:
            handle = os.pidfd_open(int(running["shim"]))
        except OSError:
            self._ended(state, int(running["shim"]))
            return
        self._watched[state.id] = handle
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(handle)
            os.close(handle)
            self._watched.pop(state.id, None)
            self._ended(state, int(running["shim"]))

        loop.add_reader(handle, ended)

    def _ended(self, state: ContainerState, shim: int) -> None:
        try:
            os.waitpid(shim, os.WNOHANG)
        except OSError:
            # The child of an earlier kubelet.
            pass
        found = files.read_container(self._folder(state.id))
        if found is None or found.phase is not Phase.EXITED:
            found = replace(state, **files.ended_fields(137, self._clock.time(), "the container's shim was killed"))
        self._events.put_nowait(
            RuntimeEvent(
                EventKind.CONTAINER_EXITED,
                state.pod.uid,
                state.id,
                exit_code=found.exit_code,
                finished_at=found.finished_at,
                reason=found.reason,
                message=found.message,
            )
        )

    def _folder(self, container_id: str) -> Path:
        return self._containers_dir / container_id.partition("-")[2]

    def _pid(self, container_id: str) -> int | None:
        """The main process, if it still is the one that was started."""
        running = files.read_json(self._folder(container_id) / "state.json")
        if running is None or not files.is_alive(int(running["pid"]), int(running["start"])):
            return None
        return int(running["pid"])

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        """The memory limit, as limits of each process; one that is taken away stays for what runs already."""
        pid = self._pid(container_id)
        if pid is None:
            return
        path = self._folder(container_id) / "spec.json"
        files.write_json(path, {**(files.read_json(path) or {}), "memory_limit": resources.memory_limit})
        limit = resources.memory_limit
        try:
            for member in session_members(pid) if limit else ():
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(member, resource.RLIMIT_DATA, (limit, limit))
        except PermissionError as error:
            raise RuntimeFailure(f"the memory limit cannot be raised without root: {error}") from error

    async def signal_container(self, container_id: str, signal_name: str) -> None:
        pid = self._pid(container_id)
        if pid is None:
            return
        spec = files.read_json(self._folder(container_id) / "spec.json") or {}
        name = signal_name or str(spec.get("stop_signal", "SIGTERM"))
        number = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", signal.SIGTERM)
        try:
            # As with a container's process 1: the others learn of it from that one, or are ended after it.
            os.kill(pid, number)
        except ProcessLookupError:
            return

    async def remove_container(self, container_id: str) -> None:
        await asyncio.to_thread(self._clear, self._folder(container_id))

    def _clear(self, folder: Path) -> None:
        """Ends what still runs there and removes the files."""
        running = files.read_json(folder / "state.json")
        if running is not None:
            end_tree(*(int(running[name]) for name in ("pid", "start", "shim", "shim_start")))
        shutil.rmtree(folder, ignore_errors=True)

    async def remove_shared(self) -> None:
        """Its folders; nothing of it is shared between nodes."""
        await asyncio.to_thread(shutil.rmtree, self._containers_dir.parent, ignore_errors=True)

    async def image(self, reference: str) -> ImageState | None:
        found = self._images.find(reference)
        return found.state if found is not None else None

    async def images(self) -> Sequence[ImageState]:
        return await asyncio.to_thread(self._images.all)

    async def pull(self, reference: str, auth: RegistryAuth | None) -> ImageState:
        found = self._images.find(reference)
        if found is None:
            raise NotFoundFailure(self._images.missing(reference))
        return found.state

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Session:
        pid, folder = self._pid(container_id), self._folder(container_id)
        spec = files.read_json(folder / "spec.json")
        if pid is None or spec is None:
            raise NotFoundFailure("the container does not run")
        wanted = {key: spec[key] for key in ("env", "cwd", "user", "groups", "isolation", "no_new_privileges")}
        wanted.update(argv=list(command), pid=pid)
        return await ExecSession.start(wanted, stdin=stdin, tty=tty, folder=folder)

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> Session:
        return await AttachSession.open(self._folder(container_id))

    def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
        folder = self._folder(container_id)
        return read_logs(folder / "log", options, ended=lambda: container_id not in self._watched)

    async def usage(self, container_ids: Sequence[str]) -> Mapping[str, Usage]:
        pids = {container_id: self._pid(container_id) for container_id in container_ids}
        return await asyncio.to_thread(session_usage, {i: pid for i, pid in pids.items() if pid is not None})

    async def dial(self, sandbox: SandboxState, port: int) -> tuple[str, int]:
        return sandbox.ip or "127.0.0.1", port


def _link_mounts(root: Path, mounts: Sequence[Mapping[str, Any]]) -> None:
    """Without mounts of our own: the volumes as symlinks, in the tree that a container would see."""
    for mount in mounts:
        link = root / str(mount["target"]).lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(mount["source"])
