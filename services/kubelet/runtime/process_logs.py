"""Reading the shim's log files: lines "<time> <stream> <F|P> <text>", the older file first."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

from services.kubelet.runtime.interface import LogOptions

_POLL_SECONDS = 0.1


def parse_line(line: bytes) -> tuple[bytes, bytes, bool]:
    """(time, text with its newline if it ends there, whether it is stderr). Raises ValueError."""
    stamp, stream, tag, text = line.rstrip(b"\n").split(b" ", 3)
    return stamp, text + (b"\n" if tag == b"F" else b""), stream == b"stderr"


def stamp_seconds(stamp: bytes) -> float:
    whole, _, fraction = stamp.rstrip(b"Z").partition(b".")
    seconds = datetime.fromisoformat(whole.decode()).replace(tzinfo=UTC).timestamp()
    return seconds + float(b"0." + (fraction or b"0"))


async def read_logs(log: Path, options: LogOptions, *, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Follows until the container has ended. A log that is not there is empty."""
    left = options.limit_bytes
    async for line in _lines(log, options, ended):
        try:
            stamp, text, _ = parse_line(line)
        except ValueError:
            continue
        if options.since is not None and stamp_seconds(stamp) < options.since:
            continue
        data = stamp + b" " + text if options.timestamps else text
        if left is not None:
            data = data[:left]
            left -= len(data)
        if data:
            yield data
        if left is not None and left <= 0:
            return


async def _lines(log: Path, options: LogOptions, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    text, offset = await asyncio.to_thread(_read_all, log)
    lines = text.splitlines(keepends=True)
    if options.tail_lines is not None:
        lines = lines[len(lines) - min(options.tail_lines, len(lines)) :]
    for line in lines:
        yield line
    if not options.follow:
        return
    inode = _inode(log)
    while True:
        over = ended()
        if _inode(log) != inode:
            # It was rotated: the rest of the older file, then the new one.
            for line in _read_from(log.with_name(log.name + ".1"), offset):
                yield line
            inode, offset = _inode(log), 0
        fresh = _read_from(log, offset)
        for line in fresh:
            offset += len(line)
            yield line
        if over and not fresh:
            return
        if not fresh:
            await asyncio.sleep(_POLL_SECONDS)


def _read_all(log: Path) -> tuple[bytes, int]:
    older = log.with_name(log.name + ".1")
    before = older.read_bytes() if older.exists() else b""
    try:
        now = log.read_bytes()
    except OSError:
        now = b""
    return before + now, len(now)


def _read_from(log: Path, offset: int) -> list[bytes]:
    try:
        with log.open("rb") as file:
            file.seek(offset)
            return [line for line in file.read(1 << 20).splitlines(keepends=True) if line.endswith(b"\n")]
    except OSError:
        return []


def _inode(log: Path) -> int:
    try:
        return log.stat().st_ino
    except OSError:
        return 0
