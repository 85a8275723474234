"""`tiller logs`, `exec`, `attach` and `port-forward`."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import click

from tillerman.cli.resolve import Object, client_of, find_kind, kind_of
from tillerman.cli.session import Session, verb

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def pod_named(session: Session, word: str) -> str:
    """The pod that is meant: a name, pod/name, or the first pod of deployment/name and its like."""
    resource, slash, name = word.partition("/")
    if not slash:
        return word
    kind = await find_kind(session, resource)
    if kind.kind == "Pod":
        return name
    owner = await client_of(session, kind).get(name, session.namespace)
    from tillerman.cli.create import selector_of

    labels = selector_of(owner)
    if not labels:
        raise ValueError(f"cannot find pods of {word}: it has no selector")
    pods = await list_pods(session, ",".join(f"{k}={v}" for k, v in labels.items()))
    if not pods:
        raise ValueError(f"no pods found for {word}")
    running = [p for p in pods if p.get("status", {}).get("phase") == "Running"]
    return str((running or pods)[0]["metadata"]["name"])


async def list_pods(session: Session, selector: str) -> list[Object]:
    kind = await kind_of(session, {"apiVersion": "v1", "kind": "Pod"})
    found: list[Object] = (await client_of(session, kind).list(session.namespace, label_selector=selector)).items
    return found


def seconds(text: str) -> int:
    """ "90", "5m", "1h30m" in seconds. Raises ValueError."""
    if text.isdigit():
        return int(text)
    if not re.fullmatch(r"(\d+(ms|s|m|h))+", text):
        raise ValueError(f"invalid duration {text!r}: write it like 30s, 5m or 1h30m")
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return max(1, round(sum(int(n) * units[u] for n, u in re.findall(r"(\d+)(ms|s|m|h)", text))))


@click.command()
@click.argument("words", nargs=-1)
@click.option("-c", "--container", default="")
@click.option("--all-containers", is_flag=True)
@click.option("-f", "--follow", is_flag=True)
@click.option("-p", "--previous", is_flag=True, help="Of the container before the last restart.")
@click.option("--tail", type=int, default=-1, help="Only the last lines.")
@click.option("--since", default="", help="Only what is newer: 30s, 5m, 1h.")
@click.option("--since-time", default="", help="Only what is newer than an RFC 3339 time.")
@click.option("--timestamps", is_flag=True)
@click.option("--limit-bytes", type=int)
@click.option("-l", "--selector", default="")
@click.option("--prefix", is_flag=True, help="Begin each line with pod and container.")
@verb
async def logs(
    session: Session, words: tuple[str, ...], container: str, all_containers: bool, follow: bool, previous: bool,
    tail: int, since: str, since_time: str, timestamps: bool, limit_bytes: int | None, selector: str, prefix: bool,
) -> None:  # fmt: skip
    """Print what containers wrote."""
    from tillerman.api.times import parse_rfc3339

    options: dict[str, Any] = {"follow": follow, "previous": previous, "timestamps": timestamps}
    if tail >= 0 or selector:
        options["tail_lines"] = tail if tail >= 0 else 10
    if since:
        options["since_seconds"] = seconds(since)
    if since_time:
        moment: Any = parse_rfc3339(since_time)
        options["since_time"] = moment.timestamp() if hasattr(moment, "timestamp") else float(moment.seconds)
    if limit_bytes is not None:
        options["limit_bytes"] = limit_bytes
    sources = await log_sources(session, words, selector, container, all_containers)
    if len(sources) == 1 and not prefix:
        pod, name = sources[0]
        await copy_logs(session.client.pods.logs(pod, session.namespace, container=name, **options))
        return
    printers = (
        copy_lines(
            session.client.pods.logs(pod, session.namespace, container=name, **options),
            f"[pod/{pod}/{name}] " if prefix else "",
        )
        for pod, name in sources
    )
    if follow:
        await asyncio.gather(*printers)
    else:
        for printer in printers:
            await printer


async def log_sources(
    session: Session, words: tuple[str, ...], selector: str, container: str, all_containers: bool
) -> list[tuple[str, str]]:
    """(pod, container) of each log to print; an empty container leaves the choice to the server."""
    if selector:
        pods = await list_pods(session, selector)
    else:
        if not words:
            raise click.UsageError("name a pod, KIND/NAME or a selector with -l")
        name = await pod_named(session, words[0])
        container = container or (words[1] if len(words) > 1 else "")
        if not all_containers:
            return [(name, container)]
        kind = await kind_of(session, {"apiVersion": "v1", "kind": "Pod"})
        pods = [await client_of(session, kind).get(name, session.namespace)]
    if not all_containers:
        return [(p["metadata"]["name"], container) for p in pods]
    return [
        (p["metadata"]["name"], c["name"])
        for p in pods
        for c in [*p["spec"].get("initContainers", []), *p["spec"]["containers"]]
    ]


async def copy_logs(chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


async def copy_lines(chunks: AsyncIterator[bytes], prefix: str) -> None:
    """Whole lines only, so that several logs can be printed at once."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            sys.stdout.buffer.write(prefix.encode() + line + b"\n")
        sys.stdout.buffer.flush()
    if rest:
        sys.stdout.buffer.write(prefix.encode() + rest + b"\n")
        sys.stdout.buffer.flush()


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-i", "--stdin", is_flag=True, help="Hand on what is typed or piped in.")
@click.option("-t", "--tty", is_flag=True, help="With a terminal.")
@click.option("-c", "--container", default="")
@click.argument("pod")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@verb
async def exec_(session: Session, pod: str, command: tuple[str, ...], stdin: bool, tty: bool, container: str) -> int:
    """Run a command in a container: tiller exec -it POD -- COMMAND."""
    container, command = leading_options(container, command)
    if not command:
        raise click.UsageError("you must specify at least one command for the container")
    name = await pod_named(session, pod)
    tty = tty and (sys.stdin.isatty() or not stdin)
    stream = await session.client.pods.exec(
        name, session.namespace, list(command), container=container, stdin=stdin, tty=tty
    )
    return await converse(stream, stdin, tty)


def leading_options(container: str, command: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Options may stand after the pod's name, up to "--"."""
    words = list(command)
    while words and words[0] != "--" and words[0].startswith("-"):
        word = words.pop(0)
        if word in ("-c", "--container") and words:
            container = words.pop(0)
        elif word.startswith("--container="):
            container = word.partition("=")[2]
        else:
            raise click.UsageError(f"unknown option {word} (options stand before the pod's name)")
    if words and words[0] == "--":
        words.pop(0)
    return container, tuple(words)


@click.command()
@click.argument("pod")
@click.option("-i", "--stdin", is_flag=True)
@click.option("-t", "--tty", is_flag=True)
@click.option("-c", "--container", default="")
@verb
async def attach(session: Session, pod: str, stdin: bool, tty: bool, container: str) -> int:
    """Speak with the main process of a container."""
    name = await pod_named(session, pod)
    stream = await session.client.pods.attach(name, session.namespace, container=container, stdin=stdin, tty=tty)
    return await converse(stream, stdin, tty)


async def converse(stream: Any, stdin: bool, tty: bool) -> int:
    """Copies both ways until the command ends; its exit code."""
    tasks: list[asyncio.Task[None]] = []
    with raw_terminal(tty and stdin):
        if tty and sys.stdout.isatty():
            await follow_size(stream)
        if stdin:
            tasks.append(asyncio.create_task(copy_stdin(stream)))
        try:
            async for channel, data in stream:
                out = sys.stdout.buffer if channel == "stdout" else sys.stderr.buffer
                out.write(data)
                out.flush()
        finally:
            for task in tasks:
                task.cancel()
    return int(stream.exit_code or 0)


async def copy_stdin(stream: Any) -> None:
    """Reads the descriptor itself, so that typing never waits for a line and nothing blocks the end of the program."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()
    ready: asyncio.Queue[bytes] = asyncio.Queue()

    def readable() -> None:
        try:
            ready.put_nowait(os.read(descriptor, 32768))
        except BlockingIOError:
            return
        except OSError:
            ready.put_nowait(b"")

    try:
        loop.add_reader(descriptor, readable)
        pollable = True
    except (PermissionError, OSError):
        # A plain file cannot be polled; it can be read at once.
        pollable = False
    try:
        while data := (await ready.get() if pollable else os.read(descriptor, 32768)):
            await stream.write(data)
        await stream.close_stdin()
    finally:
        if pollable:
            loop.remove_reader(descriptor)


async def follow_size(stream: Any) -> None:
    async def send() -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        await stream.resize(size.columns, size.lines)

    tasks: set[asyncio.Task[None]] = set()

    def changed() -> None:
        task = asyncio.create_task(send())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, changed)
    await send()


@contextmanager
def raw_terminal(wanted: bool) -> Iterator[None]:
    if not wanted or not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        # What was typed before stays.
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@click.command("port-forward")
@click.argument("pod")
@click.argument("ports", nargs=-1, required=True)
@click.option("--address", default="127.0.0.1", show_default=True)
@verb
async def port_forward(session: Session, pod: str, ports: tuple[str, ...], address: str) -> None:
    """Reach ports of a pod: tiller port-forward POD [LOCAL:]REMOTE…"""
    name = await pod_named(session, pod)
    servers = []
    for text in ports:
        local, _, remote = text.rpartition(":")
        if not remote.isdigit() or (local and not local.isdigit()):
            raise click.BadParameter(f"{text!r} is not [LOCAL:]REMOTE", param_hint="ports")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = int(remote)) -> None:
            click.echo(f"Handling connection for {port}")
            await join(await session.client.pods.port_forward(name, session.namespace, port), reader, writer)

        server = await asyncio.start_server(
            serve, address, int(local) if local else (0 if ":" in text else int(remote))
        )
        bound = server.sockets[0].getsockname()[1]
        click.echo(f"Forwarding from {address}:{bound} -> {remote}")
        servers.append(server)
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def join(stream: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies both ways until both have ended."""

    async def outward() -> None:
        while data := await reader.read(65536):
            await stream.write(data)
        await stream.close_write()

    out = asyncio.create_task(outward())
    try:
        while data := await stream.read():
            writer.write(data)
            await writer.drain()
    except (ConnectionError, OSError):
        pass
    finally:
        out.cancel()
        stream.cancel()
        writer.close()
