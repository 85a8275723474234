"""cordon, drain and taint, on the one node that other tours keep off (see test_kubectl.py)."""

from kubectl import Kubectl, has

NODE = "node-3"
TAINT = "tour=nodes:NoExecute"
WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: guarded}
spec:
  replicas: 2
  selector: {matchLabels: {app: guarded}}
  template:
    metadata: {labels: {app: guarded}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{key: tour, operator: Exists}]
      nodeSelector: {tour: nodes}
      containers: [{name: c, image: IMAGE, command: [sleep, "1000"]}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guarded}
spec: {minAvailable: 2, selector: {matchLabels: {app: guarded}}}
---
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  terminationGracePeriodSeconds: 1
  tolerations: [{key: tour, operator: Exists}]
  nodeSelector: {tour: nodes}
  containers: [{name: c, image: IMAGE, command: [sleep, "1000"]}]
"""


def tour(k: Kubectl) -> None:
    assert k("label", "node", NODE, "tour=nodes") == f"node/{NODE} labeled"
    k("apply", "-f", k.write("nodes.yaml", WORKLOAD))
    k("rollout", "status", "deployment/guarded", "--timeout=60s")
    k("wait", "--for=condition=Ready", "pod/alone", "--timeout=60s")
    assert k("taint", "node", NODE, "more=yes:NoSchedule") == f"node/{NODE} tainted"
    has(k("describe", "node", NODE), "Taints:  ", "more=yes:NoSchedule")
    assert k("taint", "node", NODE, "more-") == f"node/{NODE} untainted"
    assert k("cordon", NODE) == f"node/{NODE} cordoned"
    assert "Ready,SchedulingDisabled" in k("get", "node", NODE)
    assert k("uncordon", NODE) == f"node/{NODE} uncordoned"
    _drained(k)
    assert k("annotate", "node", NODE, "tour-") == f"node/{NODE} annotated"


def _drained(k: Kubectl) -> None:
    has(k.refused("drain", NODE), "cannot delete Pods that declare no controller (use --force to override)")
    selected = ["drain", NODE, "--force", "--ignore-daemonsets", "--delete-emptydir-data"]
    k("wait", "--for=jsonpath={.status.currentHealthy}=2", "pdb/guarded", "--timeout=30s")
    blocked = k.refused(*selected, "--timeout=8s")
    has(blocked, "Cannot evict pod as it would violate the pod's disruption budget.")
    k("patch", "pdb", "guarded", "--type=merge", "-p", '{"spec":{"minAvailable":0}}')
    k("wait", "--for=jsonpath={.status.disruptionsAllowed}=2", "pdb/guarded", "--timeout=30s")
    done = k.both(*selected, "--timeout=60s", timeout=90)
    has(done, f"node/{NODE} already cordoned", f"node/{NODE} drained", "evicting pod")
    assert k("get", "pods", "--field-selector=status.phase=Running", "-o", "name") == ""
    k("uncordon", NODE)
