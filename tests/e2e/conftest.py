"""Clusters and images for the end-to-end tests. Every test module has a cluster of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("kubectl", "tours")

from tiller import Cluster, docker, docker_answers  # noqa: E402 - it is beside this file

ROOT = Path(__file__).resolve().parents[2]
FIRST_APP = ROOT / "examples" / "first-app"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a Docker Engine its tests are skipped, unless TILLERMAN_REQUIRE_DOCKER=1: then they run, and fail."""
    if docker_answers() or os.environ.get("TILLERMAN_REQUIRE_DOCKER") == "1":
        return
    for item in items:
        if item.get_closest_marker("docker"):
            item.add_marker(pytest.mark.skip(reason="no Docker Engine answers"))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tillerman")


@pytest.fixture(scope="session")
def new_cluster(home: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters that are torn down at the end, whatever the test did."""
    made: list[Cluster] = []

    def make(name: str, *flags: str) -> Cluster:
        cluster = Cluster(f"{name}-{os.getpid()}", home, list(flags))
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.run("down", "--name", cluster.name, check=None, timeout=180)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image busybox:latest, made from Debian's static busybox if the Engine has none."""
    name = "busybox:latest"
    if docker("images", "-q", name):
        yield name
        return
    root = tmp_path_factory.mktemp("busybox")
    (root / "bin").mkdir()
    (root / "tmp").mkdir(mode=0o1777)
    (root / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["docker", "import", "-c", "ENV PATH=/bin", "-c", 'CMD ["sh"]', "-", name],
            stdin=tar.stdout,
            check=True,
            capture_output=True,
        )
    yield name
    docker("rmi", name, check=False)


@pytest.fixture(scope="session")
def tools(busybox: str) -> Iterator[str]:
    """busybox under a tag that no kubelet would pull again."""
    name = f"tools-{os.getpid()}:1"
    docker("tag", busybox, name)
    yield name
    docker("rmi", name, check=False)


@pytest.fixture(scope="session")
def first_app(busybox: str) -> Iterator[str]:
    """The images first-app:1 and first-app:2, built as README.md says."""
    made = []
    for version in ("1", "2"):
        tag = f"first-app:{version}"
        if not docker("images", "-q", tag):
            made.append(tag)
        subprocess.run(
            ["docker", "build", "-q", "-t", tag, "--build-arg", f"VERSION={version}", str(FIRST_APP)],
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
            check=True,
            capture_output=True,
        )
    yield "first-app:1"
    for tag in made:
        docker("rmi", tag, check=False)
