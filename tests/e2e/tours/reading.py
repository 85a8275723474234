"""`get` in all its forms, `describe`, `explain`, discovery and the rest that only reads."""

import itertools
import json
import urllib.request

from kubectl import Kubectl, has, read_lines

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {app: reader, tier: back}, annotations: {note: here}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: c, image: IMAGE, command: [sleep, "1000"], resources: {requests: {cpu: 10m, memory: 16Mi}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: one, labels: {set: small}}
data: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: two, labels: {set: big}}
data: {a: b, c: d}
---
apiVersion: v1
kind: Service
metadata: {name: reader}
spec: {selector: {app: reader}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: still}
spec:
  replicas: 0
  selector: {matchLabels: {app: still}}
  template:
    metadata: {labels: {app: still}}
    spec: {containers: [{name: c, image: IMAGE}]}
"""


def tour(k: Kubectl) -> None:
    k("apply", "-f", k.write("reading.yaml", MANIFEST))
    k("wait", "--for=condition=Ready", "pod/reader", "--timeout=60s")
    _forms(k)
    _selectors(k)
    _watches(k)
    _described(k)
    _explained(k)
    _discovered(k)
    _proxied(k)


def _forms(k: Kubectl) -> None:
    assert k("get", "pods").splitlines()[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert k("get", "pod", "reader", "--no-headers").split()[:4] == ["reader", "1/1", "Running", "0"]
    wide = k("get", "pods", "-o", "wide").splitlines()
    assert wide[0].split()[5:] == ["IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    has(k("get", "pod", "reader", "-o", "yaml"), "apiVersion: v1\nkind: Pod\n", "    note: here", "  phase: Running")
    assert json.loads(k("get", "pods", "-o", "json"))["kind"] == "List"
    assert k("get", "configmaps", "one", "two", "-o", "name") == "configmap/one\nconfigmap/two"
    assert k("get", "configmap", "two", "-o", "jsonpath={.data.c}{.metadata.labels.set}") == "dbig"
    columns = k("get", "pod", "reader", "-o", "custom-columns=N:.metadata.name,I:.spec.containers[*].image")
    assert [row.split() for row in columns.splitlines()] == [["N", "I"], ["reader", k.image]]
    template = "{{range .items}}{{.metadata.name}};{{end}}"
    assert k("get", "configmaps", "-l", "set", "-o", f"go-template={template}") == "one;two;"
    assert k("get", "pod/reader", "service/reader", "-o", "name") == "pod/reader\nservice/reader"
    assert k("get", "deployment", "still", "--subresource=scale").split()[:3] == ["NAME", "DESIRED", "AVAILABLE"]
    assert k("get", "deployment", "still", "--subresource=status", "-o", "name") == "deployment.apps/still"
    has(k("get", "--raw", f"/api/v1/namespaces/{k.namespace}/configmaps/one"), '"kind":"ConfigMap"', '"a":"b"')
    has(k.refused("get", "pod", "nobody"), 'Error from server (NotFound): pods "nobody" not found')
    has(k.refused("get", "nothings"), 'error: the server doesn\'t have a resource type "nothings"')
    assert k.both("get", "secrets", "-n", "nowhere").strip() == "No resources found in nowhere namespace."
    assert "managedFields" in k("get", "configmap", "one", "-o", "yaml", "--show-managed-fields")


def _selectors(k: Kubectl) -> None:
    assert k("get", "configmaps", "-l", "set in (big, huge)", "-o", "name") == "configmap/two"
    assert k("get", "configmaps", "-l", "set,set!=big", "-o", "name") == "configmap/one"
    assert k("get", "pods", "--field-selector=status.phase=Running", "-o", "name") == "pod/reader"
    assert k("get", "pods", "--field-selector=status.phase!=Running", "-o", "name") == ""
    assert k("get", "configmaps", "--field-selector", "metadata.name=two", "-o", "name") == "configmap/two"
    assert "NAMESPACE" in k("get", "pods", "-A").splitlines()[0]
    names = [
        row.split()[0] for row in k("get", "configmaps", "-l", "set", "--sort-by=.data.c", "--no-headers").splitlines()
    ]
    assert sorted(names) == ["one", "two"]
    assert "app=reader,tier=back" in k("get", "pods", "--show-labels")
    assert k("get", "pods", "-L", "tier").splitlines()[1].split()[-1] == "back"
    assert len(k("get", "configmaps", "-l", "set", "--chunk-size=1", "--no-headers").splitlines()) == 2
    has(k.refused("get", "pods", "--field-selector=spec.nothing=1"), "field label not supported: spec.nothing")


def _watches(k: Kubectl) -> None:
    with k.running("get", "configmap", "one", "--watch") as process:
        assert [line.split()[0] for line in read_lines(process, 2)] == ["NAME", "one"]
        k("label", "configmap", "one", "seen=yes")
        assert read_lines(process, 1)[0].split()[:2] == ["one", "1"]
    with k.running("get", "configmaps", "--watch-only", "--output-watch-events") as process:
        turns = itertools.count()
        label = ["label", "configmap", "one", "--overwrite"]
        seen = read_lines(process, 2, nudge=lambda: k(*label, f"turn={next(turns)}"))
        assert [line.split()[:2] for line in seen] == [["EVENT", "NAME"], ["MODIFIED", "one"]]


def _described(k: Kubectl) -> None:
    has(k("describe", "pod", "reader"), "Node:  ", "IP:  ", "cpu:        10m", "QoS Class:                   Burstable")
    k.eventually("Successfully assigned", "describe", "pod", "reader")
    has(
        k("describe", "service", "reader"),
        "Type:                     ClusterIP",
        "Port:                     <unset>  80/TCP",
    )
    has(k("describe", "deployment", "still"), "Replicas:               0 desired | 0 updated | 0 total")
    node = k("get", "pod", "reader", "-o", "jsonpath={.spec.nodeName}")
    has(k("describe", "node", node), "Lease:", "HolderIdentity:  " + node, "Allocated resources:", "reader")
    has(k("describe", "configmap", "two"), "c:\n----\nd")
    has(k("describe", "namespace", k.namespace), "Status:       Active", "No LimitRange resource.")
    has(k("describe", "endpointslices", "-l", "kubernetes.io/service-name=reader"), "AddressType:  IPv4", "Pod/reader")
    k.eventually("Started container c", "events", "--for", "pod/reader")
    k.eventually("Successfully assigned", "get", "events", "--field-selector=involvedObject.name=reader")


def _explained(k: Kubectl) -> None:
    has(k("explain", "pods"), "KIND:       Pod\nVERSION:    v1", "spec\t<PodSpec>")
    containers = k("explain", "pod.spec.containers")
    has(containers, "FIELD: containers <[]Container>", "name\t<string> -required-", "enum: Always, IfNotPresent, Never")
    has(k("explain", "deployment.spec.strategy.type"), "GROUP:      apps", "ENUM:", "RollingUpdate")
    has(k("explain", "hpa", "--api-version=autoscaling/v1"), "VERSION:    v1", "HorizontalPodAutoscalerSpec")
    has(k("explain", "service", "--recursive"), "  spec\t<ServiceSpec>\n    allocateLoadBalancerNodePorts\t<boolean>")
    has(k.refused("explain", "pod.spec.nothing"), 'error: field "nothing" does not exist')


def _discovered(k: Kubectl) -> None:
    resources = k("api-resources")
    has(resources, "deployments                       deploy       apps/v1", "horizontalpodautoscalers          hpa")
    assert "deployments.apps" in k("api-resources", "--api-group=apps", "--verbs=list", "-o", "name").splitlines()
    assert "nodes" in k("api-resources", "--namespaced=false", "-o", "name").splitlines()
    has(
        k("api-resources", "--categories=all", "-o", "wide"),
        "create,delete,deletecollection,get,list,patch,update,watch",
    )
    versions = k("api-versions").splitlines()
    assert {"v1", "apps/v1", "autoscaling/v2", "metrics.k8s.io/v1beta1"} <= set(versions)
    has(k("cluster-info"), "Kubernetes control plane", "is running at")
    has(
        k("cluster-info", "dump", "--namespaces", k.namespace), '"kind": "PodList"', "START logs for container c of pod"
    )
    has(k("version"), "Client Version: v1.", "Server Version: v1.32")
    assert k("get", "--raw", "/readyz") == k("get", "--raw", "/livez") == k("get", "--raw", "/healthz") == "ok"
    has(k("config", "view", "--minify"), "current-context: ", "DATA+OMITTED")
    assert k("config", "current-context") in k("config", "get-contexts", "-o", "name").splitlines()
    assert k("__complete", "get", "configmaps", "").splitlines()[:2] == ["kube-root-ca.crt", "one"]
    assert "pod/" not in k("__complete", "describe", "pod", "rea") and "reader" in k("__complete", "logs", "rea")


def _proxied(k: Kubectl) -> None:
    with k.running("proxy", "--port=0") as process:
        address = read_lines(process, 1)[0].split()[-1]
        with urllib.request.urlopen(
            f"http://{address}/api/v1/namespaces/{k.namespace}/configmaps/two", timeout=10
        ) as page:
            assert json.load(page)["data"] == {"a": "b", "c": "d"}
