"""The process runtime with real processes."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.kubelet.runtime.interface import (
    ContainerSpec,
    ContainerState,
    EventKind,
    LogOptions,
    Mount,
    NotFoundFailure,
    Phase,
    PodIdentity,
    RuntimeEvent,
    SandboxSpec,
    SandboxState,
)
from services.kubelet.runtime.process import ProcessRuntime
from tillerman.client.clock import RealClock

POD = PodIdentity("default", "web", "u1")


def new_runtime(folder: Path) -> ProcessRuntime:
    return ProcessRuntime(root_dir=folder / "root", image_path=[folder / "images"], clock=RealClock())


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    image = tmp_path / "images" / "app"
    image.mkdir(parents=True)
    (image / "hello").write_text("#!/bin/sh\necho hello $WHO from $POD_NAME at $POD_IP; exec sleep 100\n")
    (image / "hello").chmod(0o755)
    (image / "image.json").write_text(json.dumps({"entrypoint": ["./hello"], "env": {"WHO": "v$(IMAGE_TAG)"}}))
    made = new_runtime(tmp_path)
    await made.start()
    yield made
    for container in (await made.inventory()).containers:
        await made.remove_container(container.id)
    await made.close()


@pytest.fixture
async def sandbox(runtime: ProcessRuntime) -> SandboxState:
    return await runtime.run_sandbox(SandboxSpec(POD, 0, "web-host", "127.233.7.9"))


async def run(runtime: ProcessRuntime, sandbox: SandboxState, script: str = "", **fields: object) -> ContainerState:
    values: dict[str, object] = {
        "pod": POD,
        "name": "c",
        "attempt": 0,
        "sandbox_attempt": 0,
        "image": "busybox:1" if script else "app:2",
        "image_id": "i",
        "command": ("sh", "-c", script) if script else None,
        "args": None,
        "env": (("A", "b"),),
        **fields,
    }
    return await runtime.run_container(sandbox, ContainerSpec(**values))  # type: ignore[arg-type]


async def exit_of(runtime: ProcessRuntime, container_id: str) -> RuntimeEvent:
    async with asyncio.timeout(10):
        async for event in runtime.events():
            if event.id == container_id and event.kind is EventKind.CONTAINER_EXITED:
                return event
    raise AssertionError("events ended")


async def logs_of(runtime: ProcessRuntime, container_id: str, **options: object) -> bytes:
    return b"".join([c async for c in runtime.logs(container_id, LogOptions(**options))])  # type: ignore[arg-type]


async def test_an_image_is_a_folder_with_a_command(runtime: ProcessRuntime, sandbox: SandboxState) -> None:
    assert await runtime.image("registry:5000/team/app:2") is not None
    assert await runtime.image("nothing-by-this-name:1") is None
    with pytest.raises(NotFoundFailure, match="no folder of that name"):
        await runtime.pull("nothing-by-this-name:1", None)
    container = await run(runtime, sandbox)
    first = await anext(runtime.logs(container.id, LogOptions(follow=True)))
    assert first == b"hello v2 from web at 127.233.7.9\n"


async def test_output_exit_code_and_what_is_left_behind(runtime: ProcessRuntime, sandbox: SandboxState) -> None:
    container = await run(runtime, sandbox, "sleep 300 & echo $!; echo err >&2; printf end; exit 5")
    event = await exit_of(runtime, container.id)
    assert (event.exit_code, event.reason) == (5, "Error")
    lines = (await logs_of(runtime, container.id, follow=True)).splitlines()
    assert sorted(lines[1:]) == [b"end", b"err"]
    # A process that the container left is ended with it.
    with pytest.raises(ProcessLookupError):
        os.kill(int(lines[0]), 0)
    assert (await logs_of(runtime, container.id, tail_lines=1, timestamps=True)).split(b" ")[0].endswith(b"Z")


async def test_volumes_are_seen_at_their_paths_and_nowhere_else(
    runtime: ProcessRuntime, sandbox: SandboxState, tmp_path: Path
) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "f").write_text("data")
    mounts = (Mount(str(tmp_path / "v"), "/some/new/place"), Mount(str(tmp_path / "v" / "f"), "/etc/hosts", True))
    container = await run(
        runtime, sandbox, "cat /some/new/place/f /etc/hosts; echo x >/some/new/place/g", mounts=mounts
    )
    assert (await exit_of(runtime, container.id)).exit_code == 0
    assert await logs_of(runtime, container.id) == b"datadata"
    assert (tmp_path / "v" / "g").read_text() == "x\n" and not Path("/some").exists()


async def test_exec_with_and_without_a_terminal(runtime: ProcessRuntime, sandbox: SandboxState) -> None:
    container = await run(runtime, sandbox, "sleep 100")
    session = await runtime.exec(container.id, ["sh", "-c", "hostname; echo $A; cat; exit 7"], stdin=True, tty=False)
    await session.write(b"typed")
    await session.close_stdin()
    assert b"".join([part.data async for part in session.output()]) == b"web-host\nb\ntyped"
    assert await session.exit_code() == 7
    await session.close()
    session = await runtime.exec(container.id, ["sh"], stdin=True, tty=True)
    await session.resize(91, 37)
    await session.write(b"stty size; exit 3\n")
    assert b"37 91" in b"".join([part.data async for part in session.output()])
    assert await session.exit_code() == 3
    await session.close()


async def test_attach(runtime: ProcessRuntime, sandbox: SandboxState) -> None:
    container = await run(runtime, sandbox, "cat; echo over", stdin=True)
    session = await runtime.attach(container.id, stdin=True, tty=False)
    await session.write(b"typed\n")
    assert (await anext(session.output())).data == b"typed\n"
    await session.close_stdin()
    assert b"".join([part.data async for part in session.output()]) == b"over\n"
    assert await session.exit_code() == 0
    await session.close()


async def test_another_kubelet_finds_everything(runtime: ProcessRuntime, sandbox: SandboxState, tmp_path: Path) -> None:
    container = await run(runtime, sandbox, "sleep 100", attempt=3, backoff_seconds=40)
    dead = await run(runtime, sandbox, "exit 4", name="dead")
    await exit_of(runtime, dead.id)
    await runtime.close()
    other = new_runtime(tmp_path)
    await other.start()
    inventory = await other.inventory()
    assert [s.ip for s in inventory.sandboxes] == ["127.233.7.9"]
    states = {state.name: state for state in inventory.containers}
    assert (states["dead"].phase, states["dead"].exit_code) == (Phase.EXITED, 4)
    assert (states["c"].phase, states["c"].attempt, states["c"].backoff_seconds) == (Phase.RUNNING, 3, 40)
    assert states["c"].id == container.id
    os.kill(int(container.id.split("-")[0]), signal.SIGKILL)
    assert (await exit_of(other, container.id)).exit_code == 137
    await other.close()


async def test_a_shim_that_is_killed_takes_its_container_along(runtime: ProcessRuntime, sandbox: SandboxState) -> None:
    container = await run(runtime, sandbox, "sleep 100")
    pid = int(container.id.split("-")[0])
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    event = await exit_of(runtime, container.id)
    assert event.exit_code == 137 and "shim" in event.message


async def test_a_command_that_is_not_there(runtime: ProcessRuntime, sandbox: SandboxState) -> None:
    container = await run(runtime, sandbox, command=("no-such-program",), image="busybox:1")
    assert (container.phase, container.exit_code, container.reason) == (Phase.EXITED, 127, "ContainerCannotRun")
    assert "no-such-program" in container.message
