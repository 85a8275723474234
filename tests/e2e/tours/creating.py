"""Every kind that kubectl makes by itself (with protobuf bodies), and what `run`, `expose` and `autoscale` make."""

import base64
import json
import subprocess

from kubectl import Kubectl, has

CREATED = [
    ("deployment", "web", "deployment.apps/web", ["--image=IMAGE", "--replicas=2", "--", "sleep", "1000"]),
    ("configmap", "settings", "configmap/settings", ["--from-literal=a=b", "--from-file=page.txt"]),
    ("job", "once", "job.batch/once", ["--image=IMAGE", "--", "echo", "done"]),
    ("cronjob", "often", "cronjob.batch/often", ["--image=IMAGE", "--schedule=*/5 * * * *", "--", "date"]),
    ("role", "reader", "role.rbac.authorization.k8s.io/reader", ["--verb=get,list", "--resource=pods"]),
    ("rolebinding", "readers", "rolebinding.rbac.authorization.k8s.io/readers", ["--role=reader", "--user=bob"]),
    ("serviceaccount", "robot", "serviceaccount/robot", []),
    ("ingress", "door", "ingress.networking.k8s.io/door", ["--rule=example.org/path=web:80"]),
    ("quota", "few", "resourcequota/few", ["--hard=pods=20"]),
    ("pdb", "budget", "poddisruptionbudget.policy/budget", ["--selector=app=web", "--min-available=1"]),
]
CLUSTER_WIDE = [
    (
        "clusterrole",
        "tour-nodes",
        "clusterrole.rbac.authorization.k8s.io/tour-nodes",
        ["--verb=get", "--resource=nodes"],
    ),
    (
        "clusterrolebinding",
        "tour-nodes",
        "clusterrolebinding.rbac.authorization.k8s.io/tour-nodes",
        ["--clusterrole=tour-nodes", "--user=bob"],
    ),
    (
        "priorityclass",
        "tour-first",
        "priorityclass.scheduling.k8s.io/tour-first",
        ["--value=100", "--description=first"],
    ),
    ("namespace", "tour-empty", "namespace/tour-empty", []),
]
SERVICES = [
    ("clusterip", "inside", ["--tcp=80:8080"]),
    ("nodeport", "ported", ["--tcp=80:80"]),
    ("loadbalancer", "balanced", ["--tcp=80:80"]),
    ("externalname", "elsewhere", ["--external-name=example.org"]),
]


def tour(k: Kubectl) -> None:
    k.write("page.txt", "a page\n")
    for kind, name, said, flags in CREATED + CLUSTER_WIDE:
        words = [flag.replace("IMAGE", k.image) for flag in flags]
        assert k("create", kind, name, *words) == f"{said} created"
    assert k("create", "job", "now", "--from=cronjob/often") == "job.batch/now created"
    _services(k)
    _secrets(k)
    _tokens(k)
    assert k("expose", "deployment", "web", "--port=80") == "service/web exposed"
    scaled = k("autoscale", "deployment", "web", "--min=2", "--max=4", "--cpu-percent=80")
    assert scaled == "horizontalpodautoscaler.autoscaling/web autoscaled"
    _refusals(k)
    assert "successfully rolled out" in k("rollout", "status", "deployment/web", "--timeout=60s")
    assert k("wait", "--for=condition=Complete", "job/once", "job/now", "--timeout=60s").count("condition met") == 2
    listed = k("get", "all")
    has(listed, "pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-", "job.batch/once")
    has(listed, "cronjob.batch/often", "horizontalpodautoscaler.autoscaling/web")
    _deletes(k)


def _services(k: Kubectl) -> None:
    for kind, name, flags in SERVICES:
        assert k("create", "service", kind, name, *flags) == f"service/{name} created"
    rows = {row.split()[0]: row.split() for row in k("get", "services").splitlines()[1:]}
    assert rows["inside"][1] == "ClusterIP" and rows["inside"][4] == "80/TCP"
    assert rows["ported"][1] == "NodePort" and rows["ported"][4].startswith("80:3")
    assert rows["balanced"][1] == "LoadBalancer"
    assert rows["elsewhere"][1:5] == ["ExternalName", "<none>", "example.org", "<none>"]


def _secrets(k: Kubectl) -> None:
    assert k("create", "secret", "generic", "words", "--from-literal=user=me") == "secret/words created"
    key, certificate = str(k.folder / "tls.key"), str(k.folder / "tls.crt")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tour"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    assert k("create", "secret", "tls", "pair", f"--cert={certificate}", f"--key={key}") == "secret/pair created"
    registry = ["--docker-server=r.example.org", "--docker-username=u", "--docker-password=p"]
    assert k("create", "secret", "docker-registry", "login", *registry) == "secret/login created"
    rows = {row.split()[0]: row.split()[1:3] for row in k("get", "secrets").splitlines()[1:]}
    assert rows["words"] == ["Opaque", "1"]
    assert rows["pair"] == ["kubernetes.io/tls", "2"]
    assert rows["login"] == ["kubernetes.io/dockerconfigjson", "1"]
    encoded = k("get", "secret", "words", "-o", "jsonpath={.data.user}")
    assert base64.b64decode(encoded) == b"me"


def _tokens(k: Kubectl) -> None:
    payload = k("create", "token", "robot", "--duration=1h").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims["sub"] == f"system:serviceaccount:{k.namespace}:robot"
    assert claims["exp"] - claims["iat"] == 3600


def _refusals(k: Kubectl) -> None:
    again = k.refused("create", "configmap", "settings")
    assert again == 'error: failed to create configmap: configmaps "settings" already exists'
    bad = k.refused("create", "configmap", "Not_A_Name")
    has(bad, 'ConfigMap "Not_A_Name" is invalid: metadata.name: Invalid value: "Not_A_Name"', "RFC 1123")
    lost = k.refused("create", "token", "nobody")
    has(lost, 'serviceaccounts "nobody" not found')
    dry = k("create", "deployment", "dry", f"--image={k.image}", "--dry-run=server", "-o", "name")
    assert dry == "deployment.apps/dry"
    has(k.refused("get", "deployment", "dry"), 'Error from server (NotFound): deployments.apps "dry" not found')


def _deletes(k: Kubectl) -> None:
    assert k("delete", "service", "inside", "ported").splitlines() == [
        'service "inside" deleted',
        'service "ported" deleted',
    ]
    for kind, name, said, _ in CLUSTER_WIDE:
        assert k("delete", kind, name) == f'{said.partition("/")[0]} "{name}" deleted'
    assert k("delete", "configmap", "gone", "--ignore-not-found") == ""
    has(k.refused("delete", "configmap", "gone"), 'Error from server (NotFound): configmaps "gone" not found')
    assert 'configmap "settings" deleted' in k("delete", "configmap", "--all")
    assert k("delete", "deployment", "web", "--cascade=foreground", timeout=120) == 'deployment.apps "web" deleted'
    assert "web-" not in k("get", "replicasets,pods", "-o", "name")
