"""A real Prometheus scrapes a running cluster: every target up, no scrape errors."""

import json
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiller import Cluster, eventually

ROOT = Path(__file__).resolve().parents[2]
METRICS = {
    "apiserver": [
        "apiserver_request_total",
        "apiserver_request_duration_seconds_count",
        "etcd_request_duration_seconds_count",
    ],
    "scheduler": ["scheduler_pending_pods", "scheduler_scheduling_attempt_duration_seconds_count"],
    "controller-manager": ["workqueue_depth", "workqueue_adds_total"],
    "cloud-controller-manager": ["workqueue_depth"],
    "kubelet": ["kubelet_running_pods", "kubelet_pod_start_duration_seconds_count"],
    "proxy": ["kubeproxy_sync_proxy_rules_duration_seconds_count"],
    "etcd": ["etcd_server_has_leader"],
}


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    cluster = new_cluster("metrics", "--runtime=hollow")
    cluster.up()
    cluster("create", "deployment", "measured", "--image=any", "--replicas=2")
    cluster.wait_ready("app=measured", 2)
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = shutil.which("prometheus")
    assert binary, "Prometheus is not installed (Debian package prometheus)"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [
            binary,
            f"--config.file={cluster.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path_factory.mktemp('prometheus')}",
            f"--web.listen-address={address}",
            "--log.level=warn",
        ],
    )
    yield f"http://{address}"
    process.terminate()
    process.wait(20)


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)["data"]


def test_every_target_is_up(prometheus: str) -> None:
    def all_up() -> list[dict[str, Any]]:
        targets = ask(f"{prometheus}/api/v1/targets")["activeTargets"]
        return targets if targets and all(t["health"] == "up" for t in targets) else []

    def tell() -> str:
        return json.dumps(
            [
                (t["scrapeUrl"], t["health"], t["lastError"])
                for t in ask(f"{prometheus}/api/v1/targets")["activeTargets"]
            ]
        )

    targets = eventually(all_up, "all targets up", 60, tell)
    assert len(targets) == 8
    assert {t["labels"]["job"] for t in targets} == set(METRICS)
    assert all(t["lastError"] == "" for t in targets)


@pytest.mark.parametrize("job", list(METRICS))
def test_kubernetes_metric_names(prometheus: str, job: str) -> None:
    for metric in METRICS[job]:
        url = f"{prometheus}/api/v1/query?query={metric}%7Bjob%3D%22{job}%22%7D"
        eventually(lambda url=url: ask(url)["result"], f"{metric} of {job}", 30)


def test_the_shipped_configuration_scrapes_the_same_jobs(cluster: Cluster) -> None:
    shipped = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    made = yaml.safe_load((cluster.folder / "prometheus.yml").read_text())["scrape_configs"]
    assert {c["job_name"] for c in shipped} == {c["job_name"] for c in made}
