"""Writes a volume's files so that a reader sees all of them old or all of them new.

The files are in a directory with a fresh name; the symlink `..data` points to it and is replaced by rename; what the
container sees are symlinks through `..data`. Blocking: call it in a thread.
"""

import contextlib
import os
import secrets
import shutil
from pathlib import Path, PurePosixPath

from services.kubelet.volumes.payload import Payload, VolumeError

_DATA = "..data"


def write_payload(folder: Path, payload: Payload, *, group: int | None = None) -> bool:
    """False when nothing had changed. Raises VolumeError for a path that leaves the volume, and OSError."""
    for name in payload:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or parts[0].startswith(".."):
            raise VolumeError(f'path "{name}" must be relative and must not leave the volume')
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / _DATA
    old = folder / os.readlink(link) if link.is_symlink() else None
    if old is not None and _read(old) == {name: (file.data, file.mode) for name, file in payload.items()}:
        return False
    fresh = folder / f"..{secrets.token_hex(8)}"
    fresh.mkdir(mode=0o755)
    for name, file in payload.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        if group is not None:
            os.chown(path, -1, group)
        os.chmod(path, file.mode | (0o040 if group is not None else 0))
    swap = folder / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        swap.unlink()
    swap.symlink_to(fresh.name)
    swap.rename(link)
    tops = {PurePosixPath(name).parts[0] for name in payload}
    for top in tops:
        visible = folder / top
        if not visible.is_symlink():
            visible.symlink_to(f"{_DATA}/{top}")
    for entry in folder.iterdir():
        if entry.is_symlink() and entry.name != _DATA and entry.name not in tops:
            entry.unlink()
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _read(folder: Path) -> dict[str, tuple[bytes, int]]:
    result = {}
    for path in folder.rglob("*"):
        if path.is_file():
            result[path.relative_to(folder).as_posix()] = (path.read_bytes(), path.stat().st_mode & 0o7777)
    return result
