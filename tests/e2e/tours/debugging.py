"""Ephemeral containers, copies and node shells of `debug`; containers that get other resources in place."""

import json

from kubectl import Kubectl, has

POD = """
apiVersion: v1
kind: Pod
metadata: {name: subject}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: IMAGE
      command: [httpd, -f, -p, "8080", -h, /bin]
      resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}
      resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
"""
NO_ROOM = "jsonpath={.status.conditions[?(@.type=='PodResizePending')].reason}"
HAS_CPU = "jsonpath={.status.containerStatuses[0].resources.limits.cpu}"
LIMIT = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us"


def tour(k: Kubectl) -> None:
    k("apply", "-f", k.write("subject.yaml", POD))
    k("wait", "--for=condition=Ready", "pod/subject", "--timeout=60s")
    _ephemeral(k)
    _resized(k)
    _copied(k)
    _node(k)


def _ephemeral(k: Kubectl) -> None:
    debug = ["debug", "subject", f"--image={k.image}", "--profile=general", "--target=main", "-c"]
    has(k.both(*debug, "looker", "--", "ps"), 'Targeting container "main".')
    code = "jsonpath={.status.ephemeralContainerStatuses[?(@.name=='looker')].state.terminated.exitCode}"
    k.eventually("0", "get", "pod", "subject", "-o", code)
    seen = k.terminal(*debug, "shell", "-it", "--", "sh", "-c", "sleep 1; tty; wget -q -O - http://127.0.0.1:8080/none")
    has(seen, "/dev/", "404 Not Found")
    has(k("logs", "subject", "-c", "looker"), "httpd -f -p 8080")
    described = k("describe", "pod", "subject")
    has(described, "Ephemeral Containers:", "looker:", "Started container looker")
    assert k("get", "pod", "subject", "--no-headers").split()[1:3] == ["1/1", "Running"]


def _resize(k: Kubectl, **resources: dict[str, str]) -> str:
    patch = {"spec": {"containers": [{"name": "main", "resources": resources}]}}
    return k("patch", "pod", "subject", "--subresource=resize", "--patch", json.dumps(patch))


def _resized(k: Kubectl) -> None:
    assert _resize(k, limits={"cpu": "200m"}, requests={"cpu": "20m"}) == "pod/subject patched"
    k.eventually("200m", "get", "pod", "subject", "-o", HAS_CPU)
    has(k("get", "pod", "subject", "-o", "jsonpath={.status.containerStatuses[0].allocatedResources}"), '"cpu":"20m"')
    has(k("exec", "subject", "--", "sh", "-c", LIMIT), "20000")
    restarts = "jsonpath={.status.containerStatuses[0].restartCount}"
    assert k("get", "pod", "subject", "-o", restarts) == "0"
    _resize(k, requests={"cpu": "1000"}, limits={"cpu": "1000"})
    k.eventually("Infeasible", "get", "pod", "subject", "-o", NO_ROOM)
    assert k("get", "pod", "subject", "-o", HAS_CPU) == "200m"
    _resize(k, requests={"cpu": "20m"}, limits={"cpu": "300m"})
    k.eventually("300m", "get", "pod", "subject", "-o", HAS_CPU)
    assert k("get", "pod", "subject", "-o", NO_ROOM) == ""
    _resize(k, limits={"memory": "96Mi"})
    k.eventually("1", "get", "pod", "subject", "-o", restarts)
    k.eventually(
        "96Mi", "get", "pod", "subject", "-o", "jsonpath={.status.containerStatuses[0].resources.limits.memory}"
    )
    image = '{"spec":{"containers":[{"name":"main","image":"other:1"}]}}'
    assert k("patch", "pod", "subject", "--subresource=resize", "--patch", image) == "pod/subject patched (no change)"


def _copied(k: Kubectl) -> None:
    copy = ["debug", "subject", "--copy-to=copy", f"--image={k.image}", "--profile=general", "-c", "extra"]
    k(*copy, "--", "sleep", "1000")
    k("wait", "--for=condition=Ready", "pod/copy", "--timeout=60s")
    assert k("get", "pod", "copy", "-o", "jsonpath={.spec.containers[*].name}") == "main extra"


def _node(k: Kubectl) -> None:
    node = k("get", "pod", "subject", "-o", "jsonpath={.spec.nodeName}")
    said = k.both("debug", f"node/{node}", f"--image={k.image}", "--profile=general", "--", "ls", "/host")
    has(said, "Creating debugging pod node-debugger-")
    name = next(word for word in said.split() if word.startswith("node-debugger-"))
    k("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=60s")
    has(k("logs", name), "etc", "proc")
