"""README's walk-through on real Docker, through the real command line."""

import collections
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiller import TILLER, Cluster, docker, eventually, fetch

pytestmark = pytest.mark.docker
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster], first_app: str) -> Iterator[Cluster]:
    cluster = new_cluster("walk")
    cluster.up()
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def first(cluster: Cluster) -> Cluster:
    """The cluster with first-app deployed, exposed and ready."""
    created = cluster("create", "deployment", "first-app", "--image=first-app:1", "--replicas=3")
    assert created == "deployment.apps/first-app created"
    cluster.wait_ready("app=first-app", 3)
    assert cluster("expose", "deployment", "first-app", "--port=80") == "service/first-app exposed"
    eventually(lambda: fetch(f"http://{cluster.cluster_ip('first-app')}/"), "the service answers", 20, cluster.tell)
    return cluster


def container_of(pod: str) -> str:
    return docker(
        "ps",
        "-q",
        "--filter",
        f"label=io.kubernetes.pod.name={pod}",
        "--filter",
        "label=io.kubernetes.container.name=first-app",
    )


def test_pods_are_spread_over_both_nodes_with_their_own_addresses(first: Cluster) -> None:
    pods = first.ready_pods("app=first-app")
    assert {p["spec"]["nodeName"] for p in pods} == {"node-1", "node-2"}
    assert len({p["status"]["podIP"] for p in pods}) == 3
    wide = first("get", "pods", "-o", "wide").splitlines()
    assert wide[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert all("Running" in line and "1/1" in line for line in wide[1:])


def test_traffic_is_spread_evenly(first: Cluster) -> None:
    url = f"http://{first.cluster_ip('first-app')}/"
    answers = collections.Counter(fetch(url).split()[0] for _ in range(300))
    assert len(answers) == 3
    assert all(80 <= n <= 120 for n in answers.values()), answers


def test_a_pod_reaches_its_own_service_and_finds_it_by_name(first: Cluster) -> None:
    pod = first.ready_pods("app=first-app")[0]["metadata"]["name"]
    address = first.cluster_ip("first-app")
    assert address in first("exec", pod, "--", "nslookup", "first-app.default.svc.cluster.local")
    assert "search default.svc.cluster.local" in first("exec", pod, "--", "cat", "/etc/resolv.conf")
    # (wget -T crashes in a static busybox.)
    urls = [f"http://{address}:80/"] * 3 + [
        "http://first-app.default.svc.cluster.local:80/",
        "http://first-app:80/",
    ] * 2
    names = {first("exec", pod, "--", "wget", "-q", "-O", "-", url).split()[0] for url in urls}
    assert pod in names and len(names) == 3


def test_a_killed_container_is_replaced_and_counted(first: Cluster) -> None:
    pod = first.ready_pods("app=first-app")[0]["metadata"]["name"]
    killed = container_of(pod)
    docker("kill", killed)

    def restarted() -> bool:
        status = first.json("get", "pod", pod)["status"]["containerStatuses"][0]
        return bool(status["restartCount"] == 1 and status["ready"] and "running" in status["state"])

    eventually(restarted, "the container runs again", 30, first.tell)
    assert container_of(pod) not in ("", killed)


def test_a_deleted_pod_is_replaced(first: Cluster) -> None:
    gone = first.ready_pods("app=first-app")[0]["metadata"]["name"]
    assert first("delete", "pod", gone) == f'pod "{gone}" deleted'
    pods = first.wait_ready("app=first-app", 3)
    assert gone not in {p["metadata"]["name"] for p in pods}


def test_scale_update_without_a_failed_request_and_undo(first: Cluster) -> None:
    assert first("scale", "deployment", "first-app", "--replicas=6") == "deployment.apps/first-app scaled"
    first.wait_ready("app=first-app", 6)
    url = f"http://{first.cluster_ip('first-app')}/"
    stop = threading.Event()
    answers: collections.Counter[str] = collections.Counter()

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                answers[fetch(url).split()[1]] += 1
            except (OSError, IndexError) as e:
                answers[f"failed: {e}"] += 1

    clients = [threading.Thread(target=keep_asking) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        first("set", "image", "deployment/first-app", "first-app=first-app:2")
        done = first("rollout", "status", "deployment/first-app", timeout=180)
        assert done.endswith('deployment "first-app" successfully rolled out')
        eventually(lambda: all(fetch(url).endswith("first-app:2") for _ in range(12)), "only version 2 answers", 20)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert not [a for a in answers if a.startswith("failed")], answers
    assert answers["first-app:1"] and answers["first-app:2"]
    assert "rolled back" in first("rollout", "undo", "deployment/first-app")
    first("rollout", "status", "deployment/first-app", timeout=180)
    eventually(lambda: all(fetch(url).endswith("first-app:1") for _ in range(12)), "only version 1 answers", 20)
    history = first("rollout", "history", "deployment/first-app").splitlines()
    assert [line.split()[0] for line in history if line[:1].isdigit()] == ["2", "3"]


def test_manifests_declare_the_same(cluster: Cluster) -> None:
    folder = str(ROOT / "examples" / "first-app" / "manifests")
    first = cluster("apply", "-f", folder).splitlines()
    assert first == [
        "configmap/web-config created",
        "deployment.apps/web created",
        "service/web created",
        "pod/pair created",
    ]
    assert all(line.endswith(" unchanged") for line in cluster("apply", "-f", folder).splitlines())
    cluster.wait_ready("app=web", 2)
    cluster.wait_ready("app=pair", 1)
    eventually(
        lambda: "hello from a ConfigMap" in cluster("logs", "pair", "-c", "writer", "--tail=3"), "the pair talks"
    )
    pod = cluster.ready_pods("app=web")[0]["metadata"]["name"]
    assert cluster("exec", pod, "--", "sh", "-c", "echo $GREETING") == "hello from a ConfigMap"


def test_logs_follow_and_exec_with_exit_code(cluster: Cluster) -> None:
    cluster.wait_ready("app=pair", 1)
    with subprocess.Popen(
        [TILLER, "logs", "pair", "-c", "writer", "-f", "--tail=1"], env=cluster.env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()
    assert all("line" in line for line in lines)
    done = cluster.run("exec", "pair", "-c", "server", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.stdout.strip(), done.returncode) == ("out", 7)
    assert "err" in done.stderr
    assert cluster("exec", "-i", "pair", "-c", "server", "--", "cat", stdin="through stdin\n") == "through stdin"


def test_a_terminal_through_exec(cluster: Cluster) -> None:
    cluster.wait_ready("app=pair", 1)
    ours, theirs = os.openpty()
    shell = subprocess.Popen(
        [TILLER, "exec", "-it", "pair", "-c", "server", "--", "sh"],
        env=cluster.env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    read_until(ours, b"# ")
    os.write(ours, b"tty; exit 3\r")
    assert b"/dev/pts/" in read_until(ours, b"/dev/pts/")
    assert shell.wait(20) == 3
    os.close(ours)


def read_until(descriptor: int, wanted: bytes, seconds: float = 20) -> bytes:
    seen = b""
    deadline = time.monotonic() + seconds
    while wanted not in seen:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{wanted!r} did not come: {seen!r}"
        seen += os.read(descriptor, 4096)
    return seen


def test_events_and_describe_say_what_happened(first: Cluster) -> None:
    events = first("get", "events")
    for reason in ("Scheduled", "Pulled", "Created", "Started", "Killing", "ScalingReplicaSet", "SuccessfulCreate"):
        assert reason in events, reason
    pod = first.ready_pods("app=first-app")[0]["metadata"]["name"]
    text = first("describe", "pod", pod)
    for part in ("Name:", "Node:", "first-app:", "Containers:", "Conditions:", "Events:", "Successfully assigned"):
        assert part in text, part


def test_the_scheduler_says_why_a_pod_waits(cluster: Cluster) -> None:
    cluster(
        "run",
        "greedy",
        "--image=first-app:1",
        "--overrides",
        '{"spec":{"containers":[{"name":"greedy","image":"first-app:1","resources":{"requests":{"cpu":"1000"}}}]}}',
    )
    eventually(lambda: "2 Insufficient cpu" in cluster("get", "events"), "FailedScheduling", 20, cluster.tell)
    assert "0/2 nodes are available" in cluster("describe", "pod", "greedy")
    assert "Insufficient cpu" in cluster("why", "pod", "greedy")
    cluster("delete", "pod", "greedy")


def test_a_load_balancer_and_a_node_port_are_reachable(first: Cluster) -> None:
    first("expose", "deployment", "first-app", "--name=outside", "--port=80", "--type=LoadBalancer")
    path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
    address = eventually(lambda: first("get", "service", "outside", "-o", path), "an address", 20, first.tell)
    eventually(lambda: fetch(f"http://{address}/"), "the load balancer answers", 20, first.tell)
    port = first("get", "service", "outside", "-o", "jsonpath={.spec.ports[0].nodePort}")
    node = first("get", "node", "node-1", "-o", "jsonpath={.status.addresses[0].address}")
    eventually(lambda: fetch(f"http://{node}:{port}/"), "the node port answers", 20, first.tell)
    first("delete", "service", "outside")


def test_autoscaling_follows_the_load(cluster: Cluster) -> None:
    cluster("create", "deployment", "busy", "--image=first-app:1", "--replicas=2")
    cluster("set", "resources", "deployment/busy", "--requests=cpu=50m")
    cluster("rollout", "status", "deployment/busy", timeout=120)
    cluster("expose", "deployment", "busy", "--port=80")
    cluster("autoscale", "deployment", "busy", "--min=2", "--max=5", "--cpu-percent=50")
    # Kubernetes waits five minutes before it takes pods away; the test asks for ten seconds.
    patch = '{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":10}}}}'
    cluster("patch", "hpa", "busy", "--type=merge", "-p", patch)
    url = f"http://{cluster.cluster_ip('busy')}/cgi-bin/work"
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                fetch(url, 10)
            except OSError:
                time.sleep(0.1)

    workers = [threading.Thread(target=load) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        eventually(lambda: len(cluster.ready_pods("app=busy")) > 2, "more pods under load", 150, cluster.tell, 1)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    eventually(lambda: len(cluster.ready_pods("app=busy")) == 2, "fewer pods after it", 180, cluster.tell, 1)
    assert "SuccessfulRescale" in cluster("get", "events")
    cluster("delete", "deployment/busy", "service/busy", "hpa/busy")
