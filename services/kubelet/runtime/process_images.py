"""Images of the process runtime: a command of this machine, described by a folder with an image.json, or by its name.

`registry:5000/team/first-app:2` is looked for, in this order:
  1. <folder>/first-app/2/image.json, then <folder>/first-app/image.json, for each folder of --process-image-path and
     for <root-dir>/images;
  2. a base image (alpine, busybox, debian, ubuntu, …): this machine as it is, no command of its own;
  3. a command on PATH by that name (python, nginx, …): that command.
image.json: {"entrypoint": [...], "cmd": [...], "env": {...}, "workdir": "...", "user": "...", "stopSignal": "..."}.
$(IMAGE_DIR), $(IMAGE_TAG) and $(CONTAINER_DIR) in it stand for the folder, the tag, and a directory of the container's
own; an entrypoint that starts with ./ is in the folder.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.kubelet.runtime.interface import ImageState, InvalidImageName, RuntimeFailure
from services.kubelet.runtime.references import is_reference, split_reference

BASE_IMAGES = ("alpine", "busybox", "centos", "debian", "fedora", "host", "scratch", "ubuntu")


@dataclass(frozen=True, slots=True)
class ProcessImage:
    id: str
    name: str
    tag: str
    folder: Path | None = None
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    stop_signal: str = ""

    @property
    def state(self) -> ImageState:
        return ImageState(self.id, (f"{self.name}:{self.tag}",), user=self.user)

    def expanded(self, text: str, container_dir: Path) -> str:
        values = {"IMAGE_DIR": str(self.folder or ""), "IMAGE_TAG": self.tag, "CONTAINER_DIR": str(container_dir)}
        for name, value in values.items():
            text = text.replace(f"$({name})", value)
        return text

    def command(self, words: Sequence[str], container_dir: Path) -> list[str]:
        expanded = [self.expanded(word, container_dir) for word in words]
        if expanded and expanded[0].startswith("./") and self.folder is not None:
            expanded[0] = str(self.folder / expanded[0])
        return expanded


class ProcessImages:
    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [folder.absolute() for folder in folders]

    def find(self, reference: str) -> ProcessImage | None:
        """Raises InvalidImageName, and RuntimeFailure for an image.json that cannot be used."""
        if not is_reference(reference):
            raise InvalidImageName(f'couldn\'t parse image name "{reference}": invalid reference format')
        name, tag = split_reference(reference)
        short = name.rpartition("/")[2]
        for root in self.folders:
            for folder in (root / name / tag, root / name, root / short / tag, root / short):
                if (folder / "image.json").is_file():
                    return _read(folder, name, tag)
        if short in BASE_IMAGES:
            return ProcessImage(_id(name, tag, ""), name, tag)
        command = shutil.which(short)
        if command:
            return ProcessImage(_id(name, tag, command), name, tag, entrypoint=(command,))
        return None

    def all(self) -> list[ImageState]:
        found = []
        for root in self.folders:
            if root.is_dir():
                found += [_safe(folder) for folder in sorted(root.iterdir()) if (folder / "image.json").is_file()]
        return [state for state in found if state is not None]

    def missing(self, reference: str) -> str:
        """Words for an image that is not here."""
        places = ", ".join(str(folder) for folder in self.folders)
        return (
            f'the process runtime pulls no images, and there is no "{reference}": no folder of that name with an '
            f"image.json in {places}, and no command of that name on this machine"
        )


def _read(folder: Path, name: str, tag: str) -> ProcessImage:
    try:
        text = (folder / "image.json").read_text()
        data: dict[str, Any] = json.loads(text)
        return ProcessImage(
            id=_id(name, tag, text),
            name=name,
            tag=tag,
            folder=folder,
            entrypoint=tuple(map(str, data.get("entrypoint", ()))),
            cmd=tuple(map(str, data.get("cmd", ()))),
            env={str(key): str(value) for key, value in data.get("env", {}).items()},
            workdir=str(data.get("workdir", "")),
            user=str(data.get("user", "")),
            stop_signal=str(data.get("stopSignal", "")),
        )
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RuntimeFailure(f"{folder / 'image.json'} cannot be used: {error}") from error


def _safe(folder: Path) -> ImageState | None:
    try:
        return _read(folder, folder.name, "latest").state
    except RuntimeFailure:
        return None


def _id(*parts: str) -> str:
    return "process:" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
