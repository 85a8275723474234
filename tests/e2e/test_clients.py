"""A tour of kubectl, and of Python clients, over a cluster with Docker pods.

The tours run side by side, each in a namespace of its own.
"""

import gc
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from kubectl import Kubectl, Ledger
from tiller import Cluster
from tours import (
    access,
    applying,
    asynchronous,
    changing,
    creating,
    debugging,
    nodes,
    official,
    reading,
    rollouts,
    streams,
)

pytestmark = [
    pytest.mark.docker,
    # The official client and kr8s leave connections to the garbage collector; `started` calls it before it ends.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
TOURS: dict[str, Callable[[Kubectl], None]] = {
    "streams": streams.tour,
    "rollouts": rollouts.tour,
    "creating": creating.tour,
    "changing": changing.tour,
    "nodes": nodes.tour,
    "debugging": debugging.tour,
    "reading": reading.tour,
    "applying": applying.tour,
    "access": access.tour,
    "kubernetes": official.tour,
    "kr8s": asynchronous.tour,
}
AT_ONCE = 4
WANTED_COMMANDS = 200


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster], tools: str) -> Iterator[Cluster]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    cluster = new_cluster("tours", "--nodes", "3")
    cluster.up()
    cluster("taint", "node", nodes.NODE, nodes.TAINT)
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture(scope="module")
def started(
    cluster: Cluster, tools: str, ledger: Ledger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[None]"]]:
    """Every tour, under way or waiting for its turn."""
    kubeconfig = Path(cluster("kubeconfig", "--path", "--name", cluster.name))

    def begin(name: str) -> None:
        kubectl = Kubectl(kubeconfig, tmp_path_factory.mktemp(name), f"tour-{name}", tools, ledger)
        kubectl("create", "namespace", kubectl.namespace)
        TOURS[name](kubectl)

    # The Python clients write certificates to files that they leave.
    tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="tour") as pool:
        yield {name: pool.submit(begin, name) for name in TOURS}
        pool.shutdown(wait=True, cancel_futures=True)
    tempfile.tempdir = None
    gc.collect()  # what a tour left is warned about here, where that is expected, and not in a later test


@pytest.mark.parametrize("name", TOURS)
def test_tour(started: dict[str, "Future[None]"], name: str) -> None:
    started[name].result(timeout=300)


def test_the_tours_ran_many_distinct_commands(started: dict[str, "Future[None]"], ledger: Ledger) -> None:
    failed = [name for name, tour in started.items() if tour.exception(timeout=300)]
    if failed:
        pytest.skip(f"tours failed: {', '.join(failed)}")
    assert len(ledger.commands) >= WANTED_COMMANDS


def test_a_client_of_etcd_finds_what_it_needs(cluster: Cluster) -> None:
    """`tiller status` names etcd's endpoint and files; with them etcdctl reads Kubernetes' keys."""
    lines = cluster("status", "--name", cluster.name).splitlines()
    running = {line.split()[0] for line in lines if " running, pid " in line}
    assert {"etcd", "apiserver", "scheduler", "node-1", "node-2", "node-3"} <= running
    endpoint = next(line.split()[1] for line in lines if line.startswith("etcd ") and "://" in line)
    ca, certificate, key = next(line.split()[2:] for line in lines if line.startswith("etcd files"))
    etcdctl = shutil.which("etcdctl") or str(Path(sys.executable).parent / "etcdctl")
    flags = [f"--endpoints={endpoint}", f"--cacert={ca}", f"--cert={certificate}", f"--key={key}"]
    done = subprocess.run(
        [etcdctl, *flags, "get", "--keys-only", "/registry/minions/node-1"], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["/registry/minions/node-1"], done.stderr


def test_the_kubeconfig_is_printed_and_named(cluster: Cluster) -> None:
    path = Path(cluster("kubeconfig", "--path", "--name", cluster.name))
    assert path.read_text().strip() == cluster("kubeconfig", "--name", cluster.name)
    assert path.stat().st_mode & 0o077 == 0
