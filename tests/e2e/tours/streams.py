"""logs, exec, attach, cp, port-forward, run and top: what goes through to the containers."""

import contextlib
import filecmp
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

from kubectl import Kubectl, has, read_lines
from tiller import eventually

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: pair, labels: {app: pair}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: server
      image: IMAGE
      command: [sh, -c, "echo from-server; echo oops >&2; exec httpd -f -p 8080 -h /bin"]
    - {name: ticker, image: IMAGE, command: [sh, -c, "while true; do echo tick; sleep 1; done"]}
---
apiVersion: v1
kind: Pod
metadata: {name: reborn, labels: {app: reborn}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: c, image: IMAGE, command: [sh, -c, "echo life; sleep 2; exit 3"]}
---
apiVersion: v1
kind: Pod
metadata: {name: listener}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: c, image: IMAGE, stdin: true, command: [sh, -c, "while read line; do echo heard $line; done"]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: IMAGE, command: [httpd, -f, -p, "8080", -h, /bin]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""


def tour(k: Kubectl) -> None:
    k("apply", "-f", k.write("streams.yaml", PODS))
    k("wait", "--for=condition=Ready", "pod/pair", "pod/listener", "--timeout=60s")
    _logs(k)
    _exec(k)
    _exec(k.with_env(KUBECTL_REMOTE_COMMAND_WEBSOCKETS="false"))
    _attach(k)
    _attach(k.with_env(KUBECTL_REMOTE_COMMAND_WEBSOCKETS="false"))
    _copy(k)
    k("rollout", "status", "deployment/web", "--timeout=60s")
    _forward(k)
    _forward(k.with_env(KUBECTL_PORT_FORWARD_WEBSOCKETS="false"))
    _proxied(k)
    _run(k)
    _top(k)


def _logs(k: Kubectl) -> None:
    done = k.run("logs", "pair")
    has(done.stdout, "from-server", "oops")
    has(done.stderr, 'Defaulted container "server" out of: server, ticker')
    k.eventually("tick\ntick", "logs", "pair", "-c", "ticker", "--tail=2")
    assert re.fullmatch(r"\d{4}-\S+Z tick", k("logs", "pair", "-c", "ticker", "--tail=1", "--timestamps"))
    assert set(k("logs", "pair", "-c", "ticker", "--since=2s").split()) == {"tick"}
    has(k("logs", "pair", "--all-containers"), "from-server", "tick")
    has(k("logs", "-l", "app=pair", "--all-containers", "--prefix", "--tail=1"), "[pod/pair/ticker] tick")
    assert len(k("logs", "pair", "-c", "ticker", "--limit-bytes=7")) <= 7
    with k.running("logs", "pair", "-c", "ticker", "--follow", "--tail=1") as process:
        assert read_lines(process, 3) == ["tick"] * 3
    has(k.refused("logs", "pair", "-c", "nobody"), "container nobody is not valid for pod pair")
    has(
        k.refused("logs", "pair", "-c", "server", "--previous"),
        'previous terminated container "server" in pod "pair" not found',
    )
    has(k.refused("logs", "nobody"), 'error from server (NotFound): pods "nobody" not found in namespace')
    k(
        "wait",
        "--for=jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}=3",
        "pod/reborn",
        "--timeout=60s",
    )
    assert k("logs", "reborn", "--previous") == "life"
    k("delete", "pod", "reborn")


def _exec(k: Kubectl) -> None:
    done = k.run("exec", "pair", "-c", "server", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert done.stdout == "out\n"
    has(done.stderr, "err\n", "command terminated with exit code 7")
    assert k("exec", "-i", "pair", "-c", "ticker", "--", "cat", stdin="through\n") == "through"
    big = "0123456789abcdef" * 65536
    assert k("exec", "-i", "pair", "-c", "ticker", "--", "wc", "-c", stdin=big) == str(len(big))
    assert k("exec", "deployment/web", "--", "hostname").startswith("web-")
    seen = k.terminal("exec", "-it", "pair", "-c", "ticker", "--", "sh", "-c", "tty; exit 5", code=5)
    assert "/dev/pts/" in seen
    has(k.refused("exec", "nobody", "--", "ls"), 'pods "nobody" not found')
    has(
        k.refused("exec", "pair", "-c", "server", "--", "no-such-command", code=126),
        "executable file not found in $PATH",
    )


def _attach(k: Kubectl) -> None:
    with k.running("attach", "pair", "-c", "ticker") as process:
        lines = read_lines(process, 3)
        assert lines[-1] == "tick", lines
    process = subprocess.Popen(
        ["kubectl", f"--namespace={k.namespace}", "attach", "-i", "listener"],
        env=k._environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write("hello\n")
        process.stdin.flush()
        assert read_lines(process, 1) == ["heard hello"]
    finally:
        process.kill()
        process.communicate()


def _copy(k: Kubectl) -> None:
    k.write("tree/below/file.txt", "in a folder\n")
    (k.folder / "random").write_bytes(bytes(range(256)) * 4096)
    k("cp", "random", "pair:/tmp/random", "-c", "server")
    k("cp", f"{k.namespace}/pair:/tmp/random", "returned", "-c", "server")
    assert filecmp.cmp(k.folder / "random", k.folder / "returned", shallow=False)
    k("cp", "tree", "pair:/tmp/tree", "-c", "server")
    assert k("exec", "pair", "-c", "server", "--", "cat", "/tmp/tree/below/file.txt") == "in a folder"
    k("cp", "pair:/tmp/tree", "copied", "-c", "server")
    assert (k.folder / "copied/below/file.txt").read_text() == "in a folder\n"
    # kubectl ends with the archive, which may be before it has printed what tar says.
    eventually(
        lambda: "tar: /nowhere: No such file" in k.both("cp", "pair:/nowhere", "x", "-c", "server"), "tar's words", 60
    )


@contextlib.contextmanager
def forwarded(k: Kubectl, target: str, *ports: str) -> Iterator[list[int]]:
    """The local ports that kubectl chose."""
    with k.running("port-forward", target, *(f":{port}" for port in ports), "--address=127.0.0.1") as process:
        found = []
        while len(found) < len(ports):
            line = read_lines(process, 1)[0]
            if match := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ->", line):
                found.append(int(match[1]))
        yield found


def fetch(port: int, path: str = "/busybox") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as page:
        return bytes(page.read())


def _forward(k: Kubectl) -> None:
    size = int(k("exec", "pair", "-c", "server", "--", "wc", "-c", "/bin/busybox").split()[0])
    with forwarded(k, "pod/pair", "8080", "9999") as (good, bad), forwarded(k, "deployment/web", "8080") as (other,):
        assert len(fetch(good)) == size
        with socket.create_connection(("127.0.0.1", bad), timeout=10) as refused:
            refused.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert refused.recv(1) == b""
        if k.env.get("KUBECTL_PORT_FORWARD_WEBSOCKETS") != "false":
            assert len(fetch(good)) == size
        assert len(fetch(other)) == size
    with forwarded(k, "service/web", "http") as (port,):
        try:
            fetch(port, "/missing")
            raise AssertionError("a page that is not there was found")
        except urllib.error.HTTPError as error:
            assert error.code == 404


def _proxied(k: Kubectl) -> None:
    base = f"/api/v1/namespaces/{k.namespace}"
    size = int(k("exec", "pair", "-c", "server", "--", "wc", "-c", "/bin/busybox").split()[0])
    with k.running("proxy", "--port=0") as proxy:
        (line,) = read_lines(proxy, 1)
        port = int(line.rsplit(":", 1)[1])
        for path in (f"{base}/pods/pair:8080/proxy/busybox", f"{base}/services/web:http/proxy/busybox"):
            assert len(fetch(port, path)) == size
    has(k.refused("get", "--raw", f"{base}/services/web:81/proxy/"), 'no service port 81 found for service "web"')
    has(k.refused("get", "--raw", f"{base}/pods/pair:8080/proxy/missing"), "could not find the requested resource")
    node = k("get", "pod", "pair", "-o", "jsonpath={.spec.nodeName}")
    assert k("get", "--raw", f"/api/v1/nodes/{node}/proxy/healthz") == "ok"
    has(k("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics"), "kubelet_running_pods")
    has(k("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"), f'"nodeName":"{node}"')
    has(k("get", "--raw", f"/api/v1/nodes/{node}/proxy/pods"), '"name":"pair"')
    has(k("cluster-info"), "Kubernetes control plane", "is running at")


def _run(k: Kubectl) -> None:
    flags = ["--restart=Never", f"--image={k.image}"]
    done = k.run("run", "brief", "-i", "--rm", *flags, "--", "sh", "-c", "cat; echo bye", stdin="hi\n")
    has(done.stdout, "hi\n", "bye\n", 'pod "brief" deleted')
    failed = k.run("run", "failing", "-i", "--rm", *flags, "--", "sh", "-c", "cat; exit 3", stdin="hi\n", code=3)
    has(failed.stdout + failed.stderr, 'pod "failing" deleted', "terminated (Error)")
    assert "falling back to streaming logs" not in failed.stderr
    seen = k.terminal("run", "shell", "-it", "--rm", *flags, "--", "sh", "-c", "tty; sleep 1")
    assert 'pod "shell" deleted' in seen
    assert k("run", "alone", *flags, "--labels=a=b", "--env=X=y", "--", "env") == "pod/alone created"
    k("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/alone", "--timeout=60s")
    has(k("logs", "alone"), "X=y", "HOSTNAME=alone")
    dry = k("run", "dry", f"--image={k.image}", "--dry-run=client", "-o", "jsonpath={.spec.containers[0].image}")
    assert dry == k.image


def _top(k: Kubectl) -> None:
    def measured() -> str:
        return k("top", "pod", "pair", "--containers")

    rows = eventually(measured, "usage of pod pair", 60).splitlines()
    assert rows[0].split() == ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert {tuple(row.split()[:2]) for row in rows[1:]} == {("pair", "server"), ("pair", "ticker")}
    nodes = k("top", "node").splitlines()
    assert nodes[0].split() == ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    assert len(nodes) == 1 + len(k("get", "nodes", "-o", "name").splitlines())
    has(k("top", "pods", "--sort-by=cpu"), "pair")
