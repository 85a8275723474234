"""`tiller down` leaves nothing behind, even when everything was killed before."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tiller import Cluster, Traces, eventually, fetch

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("killed", [False, True], ids=["running", "after SIGKILL of everything"])
def test_nothing_is_left(new_cluster: Callable[..., Cluster], first_app: str, tmp_path: Path, killed: bool) -> None:
    cluster = new_cluster("gone")
    cluster.home = tmp_path
    before = Traces.of(tmp_path)
    cluster.up()
    cluster("apply", "-f", "-", stdin=MANIFEST)
    cluster.wait_ready("app=traces", 2)
    assert Traces.of(tmp_path) != before
    if killed:
        for process in ["supervisor", *cluster.processes()]:
            if process != "supervisor":
                os.kill(cluster.pid(process), signal.SIGKILL)
            elif (cluster.folder / "run" / "supervisor.pid").exists():
                os.kill(cluster.pid("supervisor"), signal.SIGKILL)
    cluster.down()
    eventually(lambda: Traces.of(tmp_path) == before, f"{Traces.of(tmp_path)} equals {before}", 10)


def test_clusters_of_one_name_leave_each_other_alone(
    new_cluster: Callable[..., Cluster], first_app: str, tmp_path: Path
) -> None:
    clusters = [new_cluster("same", "--nodes", "1") for _ in range(2)]
    for cluster, home in zip(clusters, ("one", "other"), strict=True):
        cluster.home = tmp_path / home
    one, other = clusters
    before = Traces.of(tmp_path)
    try:
        for cluster in clusters:
            cluster.up()
            cluster("create", "deployment", "app", "--image=first-app:1")
        (kept,) = other.wait_ready("app=app", 1)
        one.wait_ready("app=app", 1)
    finally:
        one.down()
    assert fetch(f"http://{kept['status']['podIP']}/")
    (still,) = other.wait_ready("app=app", 1)
    assert still["status"]["containerStatuses"] == kept["status"]["containerStatuses"]
    other.down()
    eventually(lambda: Traces.of(tmp_path) == before, f"{Traces.of(tmp_path)} equals {before}", 10)


MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: traces}
spec:
  replicas: 2
  selector: {matchLabels: {app: traces}}
  template:
    metadata: {labels: {app: traces}}
    spec:
      containers:
        - name: app
          image: first-app:1
          volumeMounts: [{name: memory, mountPath: /memory}, {name: disk, mountPath: /disk}]
      volumes:
        - {name: memory, emptyDir: {medium: Memory}}
        - {name: disk, emptyDir: {}}
---
apiVersion: v1
kind: Service
metadata: {name: traces}
spec:
  type: LoadBalancer
  selector: {app: traces}
  ports: [{port: 80}]
"""
