"""Images from a real registry: one that exists is pulled and runs, one that does not ends in the registry's words."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiller import Cluster, docker, eventually

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry on loopback, which Docker trusts without TLS."""
    binary = shutil.which("docker-registry")
    assert binary, "docker-registry is not installed (Debian package docker-registry)"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\nhttp: {{addr: {address}}}\n"
    )
    with Path(os.devnull).open("wb") as nowhere:
        process = subprocess.Popen([binary, "serve", str(config)], stdout=nowhere, stderr=nowhere)
    eventually(lambda: socket.create_connection(address.split(":"), 1).close() is None, "the registry listens", 20)
    yield address
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    cluster = new_cluster("pull", "--nodes=1")
    cluster.up()
    yield cluster
    cluster.down()


def test_a_pushed_image_is_pulled_and_runs(cluster: Cluster, registry: str, first_app: str) -> None:
    image = f"{registry}/team/first-app:1"
    docker("tag", first_app, image)
    docker("push", image)
    docker("rmi", image)
    try:
        cluster("create", "deployment", "pulled", f"--image={image}")
        cluster.wait_ready("app=pulled", 1)
        events = cluster("get", "events")
        assert f'Pulling image "{image}"' in events
        assert f'Successfully pulled image "{image}"' in events
        cluster("delete", "deployment", "pulled")
        eventually(lambda: not cluster.json("get", "pods", "-l", "app=pulled")["items"], "its pod is gone")
    finally:
        eventually(lambda: docker("rmi", "-f", image, check=False) is not None, "the image is removed")


def test_an_image_that_does_not_exist(cluster: Cluster, registry: str) -> None:
    cluster("create", "deployment", "nothing", f"--image={registry}/team/nothing:9")

    def reason() -> str:
        pods = cluster.pods("app=nothing")
        return str(pods[0]["status"]["containerStatuses"][0]["state"]["waiting"]["reason"])

    seen = set()
    eventually(lambda: seen.add(reason()) or "ErrImagePull" in seen, "ErrImagePull", 30, cluster.tell, 0.05)
    eventually(lambda: reason() == "ImagePullBackOff", "ImagePullBackOff", 30, cluster.tell)
    assert "ImagePullBackOff" in cluster("get", "pods") or "ErrImagePull" in cluster("get", "pods")
    events = cluster("get", "events")
    assert "Failed to pull image" in events and "manifest unknown" in events
    cluster("delete", "deployment", "nothing")
