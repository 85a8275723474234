"""rollout of Deployments, DaemonSets and StatefulSets."""

from kubectl import Kubectl, has

SETS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: IMAGE, command: [sleep, "1000"]}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ordered}
spec:
  serviceName: ordered
  replicas: 2
  selector: {matchLabels: {app: ordered}}
  template:
    metadata: {labels: {app: ordered}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: IMAGE, command: [sleep, "1000"]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: rolled}
spec:
  replicas: 2
  selector: {matchLabels: {app: rolled}}
  template:
    metadata: {labels: {app: rolled}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: IMAGE, command: [sleep, "1000"]}]
"""


def tour(k: Kubectl) -> None:
    k("apply", "-f", k.write("sets.yaml", SETS))
    _deployment(k)
    _others(k)


def _status(k: Kubectl, name: str) -> str:
    return k("rollout", "status", name, "--timeout=90s", timeout=120).splitlines()[-1]


def _revisions(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line[:1].isdigit()]


def _deployment(k: Kubectl) -> None:
    name = "deployment/rolled"
    assert _status(k, name) == 'deployment "rolled" successfully rolled out'
    k("set", "env", name, "V=2")
    assert _status(k, name) == 'deployment "rolled" successfully rolled out'
    k("annotate", name, "kubernetes.io/change-cause=two it is")
    history = k("rollout", "history", name)
    assert _revisions(history) == ["1", "2"] and history.splitlines()[0] == "deployment.apps/rolled "
    k.eventually("two it is", "rollout", "history", name)
    has(k("rollout", "history", name, "--revision=2"), "deployment.apps/rolled with revision #2", "V:\t2")
    assert k("rollout", "restart", name) == "deployment.apps/rolled restarted"
    assert _status(k, name) == 'deployment "rolled" successfully rolled out'
    assert k("rollout", "undo", name, "--to-revision=1") == "deployment.apps/rolled rolled back"
    assert _status(k, name) == 'deployment "rolled" successfully rolled out'
    assert "V" not in k("get", name, "-o", "jsonpath={.spec.template.spec.containers[0].env}")
    assert k("rollout", "pause", name) == "deployment.apps/rolled paused"
    has(k.refused("rollout", "restart", name), "can't restart paused deployment")
    has(k.refused("rollout", "pause", name), "is already paused")
    assert k("rollout", "resume", name) == "deployment.apps/rolled resumed"
    has(k.refused("rollout", "undo", name, "--to-revision=99"), "unable to find specified revision 99 in history")


def _others(k: Kubectl) -> None:
    assert _status(k, "daemonset/each") == 'daemon set "each" successfully rolled out'
    assert _status(k, "statefulset/ordered").startswith(
        ("partitioned roll out complete: 2", "statefulset rolling update")
    )
    k("set", "env", "daemonset/each", "V=2")
    k("set", "env", "statefulset/ordered", "V=2")
    assert _status(k, "daemonset/each") == 'daemon set "each" successfully rolled out'
    _status(k, "statefulset/ordered")
    assert _revisions(k("rollout", "history", "daemonset/each")) == ["1", "2"]
    assert _revisions(k("rollout", "history", "statefulset/ordered")) == ["1", "2"]
    has(k("rollout", "history", "statefulset/ordered", "--revision=1"), "statefulset.apps/ordered with revision #1")
    assert k("rollout", "undo", "daemonset/each") == "daemonset.apps/each rolled back"
    assert k("rollout", "undo", "statefulset/ordered") == "statefulset.apps/ordered rolled back"
    assert k("rollout", "restart", "daemonset/each") == "daemonset.apps/each restarted"
    assert k("rollout", "restart", "statefulset/ordered") == "statefulset.apps/ordered restarted"
    assert _status(k, "daemonset/each") == 'daemon set "each" successfully rolled out'
    _status(k, "statefulset/ordered")
    assert k("scale", "statefulset", "ordered", "--replicas=1") == "statefulset.apps/ordered scaled"
    k("wait", "--for=delete", "pod/ordered-1", "--timeout=60s")
