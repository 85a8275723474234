"""The walk-through once without Docker: pods as plain processes, services through the userspace proxy."""

import collections
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiller import Cluster, eventually, fetch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    cluster = new_cluster("plain", "--runtime=process", f"--process-image-path={ROOT / 'examples'}")
    cluster.up()
    yield cluster
    cluster.down()


def test_deploy_expose_scale_update_and_undo(cluster: Cluster) -> None:
    cluster("create", "deployment", "first-app", "--image=first-app:1", "--replicas=3")
    pods = cluster.wait_ready("app=first-app", 3)
    assert {p["spec"]["nodeName"] for p in pods} == {"node-1", "node-2"}
    assert len({p["status"]["podIP"] for p in pods}) == 3
    cluster("expose", "deployment", "first-app", "--port=80")
    url = f"http://{cluster.cluster_ip('first-app')}/"
    eventually(lambda: fetch(url), "the service answers", 20, cluster.tell)
    answers = collections.Counter(fetch(url).split()[0] for _ in range(60))
    assert len(answers) == 3 and all(14 <= n <= 26 for n in answers.values()), answers
    cluster("scale", "deployment", "first-app", "--replicas=5")
    cluster.wait_ready("app=first-app", 5)
    cluster("set", "image", "deployment/first-app", "first-app=first-app:2")
    cluster("rollout", "status", "deployment/first-app", timeout=180)
    eventually(lambda: all(fetch(url).endswith("first-app:2") for _ in range(10)), "only version 2", 20, cluster.tell)
    cluster("rollout", "undo", "deployment/first-app")
    cluster("rollout", "status", "deployment/first-app", timeout=180)
    eventually(lambda: all(fetch(url).endswith("first-app:1") for _ in range(10)), "only version 1", 20, cluster.tell)


def test_a_killed_process_is_replaced_and_counted(cluster: Cluster) -> None:
    pod = cluster.ready_pods("app=first-app")[0]
    name = pod["metadata"]["name"]
    pid = int(cluster("exec", name, "--", "sh", "-c", "echo $PPID") or 0)
    assert pid
    victim = int(pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2].split("-")[0] or 0)
    os.kill(victim, signal.SIGKILL)

    def restarted() -> bool:
        status = cluster.json("get", "pod", name)["status"]["containerStatuses"][0]
        return bool(status["restartCount"] >= 1 and status["ready"])

    eventually(restarted, "the process runs again", 30, cluster.tell)


def test_logs_exec_and_a_pair_that_shares_a_volume_and_localhost(cluster: Cluster) -> None:
    cluster("apply", "-f", str(ROOT / "examples" / "first-app" / "manifests"))
    cluster.wait_ready("app=pair", 1)
    eventually(
        lambda: "hello from a ConfigMap" in cluster("logs", "pair", "-c", "writer", "--tail=3"),
        "the pair talks",
        30,
        cluster.tell,
    )
    done = cluster.run("exec", "pair", "-c", "server", "--", "sh", "-c", "echo out; exit 7", check=False)
    assert (done.stdout.strip(), done.returncode) == ("out", 7)
