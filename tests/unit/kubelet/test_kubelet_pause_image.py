"""The sandbox's image, made without a registry."""

import hashlib
import io
import json
import tarfile

from services.kubelet.runtime.docker_pause import pause_image


def test_the_image_has_the_same_id_every_time() -> None:
    first = pause_image("x86_64", "example/pause:1")
    assert first == pause_image("x86_64", "example/pause:1")
    assert first != pause_image("aarch64", "example/pause:1")


def test_the_image_is_as_docker_saves_them() -> None:
    with tarfile.open(fileobj=io.BytesIO(pause_image("x86_64", "example/pause:1"))) as tar:
        content = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    (manifest,) = json.loads(content["manifest.json"])
    config = json.loads(content[manifest["Config"]])
    assert manifest["RepoTags"] == ["example/pause:1"]
    assert manifest["Config"] == f"{hashlib.sha256(content[manifest['Config']]).hexdigest()}.json"
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(content[manifest['Layers'][0]]).hexdigest()}"]
    assert config["architecture"] == "amd64"
