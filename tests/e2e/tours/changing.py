"""scale, set, label, annotate, wait and the ways to delete."""

from kubectl import Kubectl, has

POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: stubborn}}
spec:
  terminationGracePeriodSeconds: 30
  containers: [{name: c, image: IMAGE, command: [sh, -c, "trap '' TERM; while true; do sleep 1; done"]}]
"""


def tour(k: Kubectl) -> None:
    k("create", "deployment", "web", f"--image={k.image}", "--replicas=2", "--", "sleep", "1000")
    k("patch", "deployment", "web", "-p", '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":1}}}}')
    k("rollout", "status", "deployment/web", "--timeout=60s")
    _scaled(k)
    _set(k)
    _labelled(k)
    _waited(k)
    _deleted(k)


def _scaled(k: Kubectl) -> None:
    assert k("scale", "deployment", "web", "--replicas=3") == "deployment.apps/web scaled"
    assert k("scale", "deployment", "web", "--current-replicas=3", "--replicas=2") == "deployment.apps/web scaled"
    refused = k.refused("scale", "deployment", "web", "--current-replicas=9", "--replicas=5")
    assert refused == "error: Expected replicas to be 9, was 2"
    has(k.refused("scale", "deployment", "nobody", "--replicas=1"), 'deployments.apps "nobody" not found')


def _set(k: Kubectl) -> None:
    assert k("set", "env", "deployment/web", "A=b") == "deployment.apps/web env updated"
    has(k("set", "env", "deployment/web", "--list"), "# Deployment web, container", "A=b")
    assert k("set", "env", "deployment/web", "A-") == "deployment.apps/web env updated"
    container = k("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].name}")
    image = k("set", "image", "deployment/web", f"{container}={k.image}-none")
    assert image == "deployment.apps/web image updated"
    assert k("set", "image", "deployment/web", f"*={k.image}") == "deployment.apps/web image updated"
    limits = k("set", "resources", "deployment/web", "--requests=cpu=10m", "--limits=cpu=100m,memory=64Mi")
    assert limits == "deployment.apps/web resource requirements updated"
    k("create", "serviceaccount", "robot")
    assert k("set", "serviceaccount", "deployment/web", "robot") == "deployment.apps/web serviceaccount updated"
    k("create", "service", "clusterip", "front", "--tcp=80")
    assert k("set", "selector", "service", "front", "app=web") == "service/front selector updated"
    k("create", "role", "reader", "--verb=get", "--resource=pods")
    k("create", "rolebinding", "readers", "--role=reader", "--user=bob")
    subject = k("set", "subject", "rolebinding", "readers", "--user=alice")
    assert subject == "rolebinding.rbac.authorization.k8s.io/readers subjects updated"
    users = "jsonpath={.subjects[*].name}"
    assert k("get", "rolebinding", "readers", "-o", users) == "bob alice"


def _labelled(k: Kubectl) -> None:
    assert k("label", "deployment", "web", "x=y") == "deployment.apps/web labeled"
    refused = k.refused("label", "deployment", "web", "x=z")
    assert refused == "error: 'x' already has a value (y), and --overwrite is false"
    assert k("label", "deployment", "web", "x=z", "--overwrite") == "deployment.apps/web labeled"
    assert k("label", "deployment", "web", "x-") == "deployment.apps/web unlabeled"
    assert k("annotate", "deployment", "web", "why=because") == "deployment.apps/web annotated"
    assert k("annotate", "deployment", "web", "why-") == "deployment.apps/web annotated"
    has(
        k.refused("label", "deployment", "web", "bad=under_score_"),
        "a valid label must be an empty string or consist of",
    )


def _waited(k: Kubectl) -> None:
    k("rollout", "status", "deployment/web", "--timeout=90s", timeout=120)
    met = k("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
    assert met == "deployment.apps/web condition met"
    assert k("wait", "--for=jsonpath={.spec.replicas}=2", "deployment/web") == "deployment.apps/web condition met"
    refused = k.refused("wait", "--for=condition=Nothing", "deployment/web", "--timeout=1s")
    assert refused == "error: timed out waiting for the condition on deployments/web"
    assert k("wait", "--for=create", "deployment/web") == "deployment.apps/web condition met"
    has(k.refused("wait", "--for=condition=Ready", "pod/nobody"), 'pods "nobody" not found')


def _deleted(k: Kubectl) -> None:
    first, second = (k.write(f"{name}.yaml", POD.replace("NAME", name)) for name in ("first", "second"))
    k("apply", "-f", first, "-f", second)
    k("wait", "--for=condition=Ready", "pod", "-l", "app=stubborn", "--timeout=60s")
    done = k.run("delete", "pod", "first", "--grace-period=0", "--force")
    has(done.stderr, "Warning: Immediate deletion does not wait for confirmation")
    has(done.stdout, 'pod "first" force deleted' if "force deleted" in done.stdout else 'pod "first" deleted')
    assert k("delete", "-f", second, "--wait=false", "--grace-period=2") == 'pod "second" deleted'
    has(k("get", "pod", "second"), "Terminating")
    assert k("wait", "--for=delete", "pod/second", "--timeout=40s") == "pod/second condition met"
    assert k("delete", "deployment", "web", "--cascade=orphan") == 'deployment.apps "web" deleted'
    left = k("get", "replicasets", "-l", "app=web", "-o", "name").splitlines()
    assert left and all(name.startswith("replicaset.apps/web-") for name in left)
    assert len(k("delete", "replicasets", "-l", "app=web", "--now").splitlines()) == len(left)
    k("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=60s")
    assert k("delete", "all", "-l", "app=front") == 'service "front" deleted'
