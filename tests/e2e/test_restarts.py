"""SIGKILL of each process while pods run: containers keep serving, it comes back, nothing is lost or doubled."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from tiller import Cluster, docker, eventually, fetch

from tillerman.cluster.layout import Plan

pytestmark = pytest.mark.docker
PROCESSES = [
    "etcd",
    "apiserver",
    "controller-manager",
    "scheduler",
    "cloud-controller-manager",
    "proxy",
    "node-1",
    "node-2",
]


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster], first_app: str) -> Iterator[Cluster]:
    cluster = new_cluster("kill")
    cluster.up()
    cluster("create", "deployment", "steady", "--image=first-app:1", "--replicas=4")
    cluster.wait_ready("app=steady", 4)
    cluster("expose", "deployment", "steady", "--port=80")
    eventually(lambda: fetch(f"http://{cluster.cluster_ip('steady')}/"), "the service answers", 20, cluster.tell)
    yield cluster
    cluster.down()


def containers(cluster: Cluster) -> set[str]:
    """The ids of the running app containers of this cluster."""
    identity = Plan.read(cluster.folder).pod_network.removeprefix("tillerman-")
    labels = (f"tillerman.dev/cluster={identity}", "io.kubernetes.container.name=first-app")
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    return set(docker("ps", *filters, "--format", "{{.ID}}").split())


@pytest.mark.parametrize("process", PROCESSES)
def test_sigkill(cluster: Cluster, process: str) -> None:
    before, victim = containers(cluster), cluster.pid(process)
    address = cluster.cluster_ip("steady")
    acknowledged: set[str] = set()
    stop = threading.Event()

    def keep_writing() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            name = f"{process}-{n}"
            if cluster.run("create", "configmap", name, check=None).returncode == 0:
                acknowledged.add(name)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        eventually(lambda: acknowledged, "a first write")
        os.kill(victim, signal.SIGKILL)
        served = [fetch(f"http://{address}/") for _ in range(20)]
        eventually(lambda: cluster.pid(process) != victim, f"{process} runs again", 30, cluster.tell)
        written = len(acknowledged)
        eventually(lambda: len(acknowledged) > written + 1, "writes go on", 60, cluster.tell)
    finally:
        stop.set()
        writer.join()
    assert len(served) == 20
    found = cluster("get", "configmaps", "-o", "name").split()
    assert len(found) == len(set(found))
    assert {f"configmap/{name}" for name in acknowledged} <= set(found)
    # It converges: the cluster does what it is told again, and the old containers were never touched.
    cluster("scale", "deployment", "steady", "--replicas=5")
    cluster.wait_ready("app=steady", 5, 90)
    assert len(before) == 4 and before <= containers(cluster)
    cluster("scale", "deployment", "steady", "--replicas=4")
    cluster.wait_ready("app=steady", 4, 90)
    eventually(lambda: len(containers(cluster)) == 4, "four containers again", 60)
    eventually(lambda: cluster("get", "nodes").count(" Ready ") == 2, "both nodes ready", 90, cluster.tell)


def test_the_supervisor_itself_is_replaced_by_up(cluster: Cluster) -> None:
    before = {name: cluster.pid(name) for name in PROCESSES}
    os.kill(cluster.pid("supervisor"), signal.SIGKILL)
    cluster.up()
    assert {name: cluster.pid(name) for name in PROCESSES} == before
    os.kill(cluster.pid("scheduler"), signal.SIGKILL)
    eventually(lambda: cluster.pid("scheduler") != before["scheduler"], "the scheduler runs again", 30, cluster.tell)
