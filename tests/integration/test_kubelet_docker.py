"""The Docker runtime against a real Engine, in a cluster and network of this test's own."""

import asyncio
import contextlib
import io
import os
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from services.kubelet.runtime.docker import DockerRuntime
from services.kubelet.runtime.interface import (
    ContainerSpec,
    ContainerState,
    EventKind,
    InvalidImageName,
    LogOptions,
    Mount,
    Phase,
    PodIdentity,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    SandboxSpec,
    SandboxState,
    Security,
)

pytestmark = pytest.mark.docker
NAME = f"kubelet-test-{os.getpid()}"
IMAGE = f"tillerman-test-g/busybox:{os.getpid()}"
SUBNET = f"10.{200 + os.getpid() % 50}.0.0/16"
POD = PodIdentity("default", "web", f"uid-{os.getpid()}")
IP = SUBNET.replace("0.0/16", "1.7")


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """A busybox of this machine's own, under a name nobody else uses."""
    try:
        engine = docker.APIClient()
        engine.ping()
    except docker.errors.DockerException:
        pytest.skip("no Docker Engine answers")
    program = Path("/bin/busybox")
    if not program.exists():
        pytest.skip("needs busybox-static")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(program, "bin/busybox")
        for name in ("sh", "sleep", "cat", "echo", "hostname", "stty", "id", "nc", "dd", "head", "tail", "kill"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    repository, _, tag = IMAGE.partition(":")
    engine.import_image_from_data(buffer.getvalue(), repository=repository, tag=tag)
    yield IMAGE
    engine.remove_image(IMAGE, force=True)
    engine.close()


@pytest.fixture
async def runtime(image: str) -> AsyncIterator[DockerRuntime]:
    made = new_runtime()
    await made.start()
    yield made
    for container in (await made.inventory()).containers:
        await made.remove_container(container.id)
    for sandbox in (await made.inventory()).sandboxes:
        await made.remove_sandbox(sandbox.id)
    await made.remove_shared()
    await made.close()


def new_runtime(node: str = "n1") -> DockerRuntime:
    return DockerRuntime(cluster=NAME, node=node, network=f"tillerman-{NAME}", cluster_cidr=SUBNET)


async def sandbox_of(runtime: DockerRuntime, attempt: int = 0) -> SandboxState:
    return await runtime.run_sandbox(SandboxSpec(POD, attempt, "web-host", IP))


async def run(runtime: DockerRuntime, sandbox: SandboxState, script: str, **fields: object) -> ContainerState:
    found = await runtime.image(IMAGE)
    assert found is not None
    values: dict[str, object] = {
        "pod": POD,
        "name": "c",
        "attempt": 0,
        "sandbox_attempt": sandbox.attempt,
        "image": IMAGE,
        "image_id": found.id,
        "command": ("/bin/sh", "-c", script),
        "args": None,
        "env": (("PATH", "/bin"), ("A", "b")),
        **fields,
    }
    return await runtime.run_container(sandbox, ContainerSpec(**values))  # type: ignore[arg-type]


async def next_exit(runtime: DockerRuntime, queue: "asyncio.Queue[RuntimeEvent]", container_id: str) -> RuntimeEvent:
    async with asyncio.timeout(10):
        while True:
            event = await queue.get()
            if event.id == container_id and event.kind is EventKind.CONTAINER_EXITED:
                return event


@pytest.fixture
async def events(runtime: DockerRuntime) -> AsyncIterator["asyncio.Queue[RuntimeEvent]"]:
    queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()

    async def follow() -> None:
        async for event in runtime.events():
            queue.put_nowait(event)

    task = asyncio.create_task(follow())
    assert (await queue.get()).kind is EventKind.RESYNC
    yield queue
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def output_of(runtime: DockerRuntime, container_id: str, *command: str) -> tuple[int, str, str]:
    session = await runtime.exec(container_id, command, stdin=False, tty=False)
    out = {False: b"", True: b""}
    async for part in session.output():
        out[part.stderr] += part.data
    code = await session.exit_code()
    await session.close()
    return code, out[False].decode(), out[True].decode()


async def test_containers_of_a_pod_share_address_hostname_and_localhost(runtime: DockerRuntime, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("10.1.2.3 other\n")
    sandbox = await sandbox_of(runtime)
    server = await run(runtime, sandbox, "nc -l -p 8080 -e echo hello; sleep 100", name="server")
    client = await run(
        runtime, sandbox, "sleep 100", name="client", mounts=(Mount(str(tmp_path / "hosts"), "/etc/hosts", True),)
    )
    assert server.phase is client.phase is Phase.RUNNING
    code, out, _ = await output_of(
        runtime, client.id, "sh", "-c", "hostname; echo $A; cat /etc/hosts; nc 127.0.0.1 8080 </dev/null"
    )
    assert (code, out) == (0, "web-host\nb\n10.1.2.3 other\nhello\n")
    assert await runtime.dial(sandbox, 8080) == (IP, 8080)


async def test_exit_codes_streams_and_a_terminal(runtime: DockerRuntime) -> None:
    sandbox = await sandbox_of(runtime)
    container = await run(runtime, sandbox, "sleep 100")
    assert await output_of(runtime, container.id, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    session = await runtime.exec(container.id, ["sh"], stdin=True, tty=True)
    await session.resize(91, 37)
    await session.write(b"stty size; exit 3\n")
    text = b"".join([part.data async for part in session.output()])
    assert b"37 91" in text and await session.exit_code() == 3
    await session.close()
    with pytest.raises(RuntimeFailure):
        await runtime.exec("0" * 64, ["sh"], stdin=False, tty=False)


async def test_stdin_to_its_end(runtime: DockerRuntime) -> None:
    sandbox = await sandbox_of(runtime)
    container = await run(runtime, sandbox, "sleep 100")
    session = await runtime.exec(container.id, ["cat"], stdin=True, tty=False)
    data = os.urandom(300_000)
    writer = asyncio.create_task(session.write(data))
    received = b""
    async for part in session.output():
        received += part.data
        if len(received) == len(data):
            await session.close_stdin()
    await writer
    assert received == data and await session.exit_code() == 0
    await session.close()


async def test_logs(runtime: DockerRuntime, events: "asyncio.Queue[RuntimeEvent]") -> None:
    sandbox = await sandbox_of(runtime)
    container = await run(runtime, sandbox, "echo line 1; sleep 0.2; echo e >&2; sleep 0.2; echo last")
    followed = b"".join([chunk async for chunk in runtime.logs(container.id, LogOptions(follow=True))])
    assert followed == b"line 1\ne\nlast\n"
    assert (await next_exit(runtime, events, container.id)).exit_code == 0

    async def read(**options: object) -> bytes:
        return b"".join([c async for c in runtime.logs(container.id, LogOptions(**options))])  # type: ignore[arg-type]

    assert await read(tail_lines=1) == b"last\n"
    assert await read(limit_bytes=4) == b"line"
    assert await read(since=container.started_at + 3600) == b""
    assert (await read(tail_lines=1, timestamps=True)).split(b" ")[0].endswith(b"Z")


async def test_exits_are_told_and_found_again_by_another_kubelet(
    runtime: DockerRuntime, events: "asyncio.Queue[RuntimeEvent]"
) -> None:
    sandbox = await sandbox_of(runtime)
    container = await run(runtime, sandbox, "sleep 100", backoff_seconds=20, hash="abc", attempt=4)
    await runtime.signal_container(container.id, "SIGKILL")
    event = await next_exit(runtime, events, container.id)
    assert (event.exit_code, event.reason, event.pod_uid) == (137, "Error", POD.uid)
    other = new_runtime()
    await other.start()
    inventory = await other.inventory()
    (found,) = inventory.containers
    assert (found.phase, found.exit_code, found.attempt, found.backoff_seconds, found.hash) == (
        Phase.EXITED,
        137,
        4,
        20,
        "abc",
    )
    assert [(s.ip, s.running, s.pod) for s in inventory.sandboxes] == [(IP, True, POD)]
    await other.close()
    stranger = new_runtime("n2")
    await stranger.start()
    assert not (await stranger.inventory()).containers
    await stranger.close()


async def test_the_sandbox_ends_on_sigterm_at_once(
    runtime: DockerRuntime, events: "asyncio.Queue[RuntimeEvent]"
) -> None:
    sandbox = await sandbox_of(runtime)
    for _ in range(10):
        # What comes before the program's first instruction is lost on process 1.
        await runtime.signal_container(sandbox.id, "SIGTERM")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                while (event := await events.get()).id != sandbox.id:
                    continue
            break
    assert event.kind is EventKind.SANDBOX_EXITED


async def test_a_command_that_is_not_there(runtime: DockerRuntime) -> None:
    sandbox = await sandbox_of(runtime)
    container = await run(runtime, sandbox, "", command=("/no/such/program",))
    assert (container.phase, container.exit_code, container.reason) == (Phase.EXITED, 127, "ContainerCannotRun")
    assert "/no/such/program" in container.message


async def test_running_out_of_memory(runtime: DockerRuntime, events: "asyncio.Queue[RuntimeEvent]") -> None:
    sandbox = await sandbox_of(runtime)
    resources = Resources(memory_limit=8 << 20, cpu_limit=500, cpu_request=100)
    container = await run(runtime, sandbox, "exec dd if=/dev/zero of=/dev/null bs=64M count=1", resources=resources)
    event = await next_exit(runtime, events, container.id)
    assert (event.exit_code, event.reason) == (137, "OOMKilled")


async def test_user_and_read_only_root(runtime: DockerRuntime) -> None:
    sandbox = await sandbox_of(runtime)
    security = Security(user="1234:99", read_only_root=True, capabilities_drop=("ALL",), no_new_privileges=True)
    container = await run(runtime, sandbox, "sleep 100", security=security)
    code, out, err = await output_of(runtime, container.id, "sh", "-c", "id -u; id -g; echo x >/file")
    assert out == "1234\n99\n" and code != 0 and "Read-only" in err


async def test_usage(runtime: DockerRuntime) -> None:
    sandbox = await sandbox_of(runtime)
    container = await run(runtime, sandbox, "while true; do :; done")
    await asyncio.sleep(0.3)
    usage = (await runtime.usage([container.id]))[container.id]
    assert usage.cpu_total > 0 and usage.memory > 0


async def test_images_that_cannot_be_had(runtime: DockerRuntime) -> None:
    assert await runtime.image("tillerman-test-g/never-made:1") is None
    with pytest.raises(InvalidImageName):
        await runtime.image("Not A Name")
    with pytest.raises(RuntimeFailure, match="refused"):
        await runtime.pull("localhost:1/nothing:1", None)


async def test_a_leftover_of_a_kubelet_that_died_half_way_makes_room(runtime: DockerRuntime) -> None:
    first = await sandbox_of(runtime)
    second = await sandbox_of(runtime)
    assert first.id != second.id
    assert [sandbox.id for sandbox in (await runtime.inventory()).sandboxes] == [second.id]


async def test_the_sandbox_image_is_made_again_when_it_is_gone(runtime: DockerRuntime) -> None:
    await asyncio.to_thread(_remove_pause)
    assert (await sandbox_of(runtime)).running


def _remove_pause() -> None:
    engine = docker.APIClient()
    try:
        engine.remove_image("tillerman/pause:1")
    except docker.errors.APIError:
        # Another cluster uses it at the moment.
        pass
    finally:
        engine.close()
