"""apply in all its forms, diff, kustomize, create, replace, edit and patch."""

from kubectl import Kubectl, has

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: kept, labels: {set: applied}}
spec:
  replicas: 1
  selector: {matchLabels: {app: kept}}
  template:
    metadata: {labels: {app: kept}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: IMAGE, command: [sleep, "1000"]}]
"""
SETTINGS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {set: applied}}
data: {a: b}
"""
KUSTOMIZATION = """
namePrefix: kz-
resources: [settings.yaml]
configMapGenerator: [{name: made, literals: [x=y]}]
"""


def tour(k: Kubectl) -> None:
    one = k.write("one.yaml", f"{MANIFEST}---{SETTINGS}")
    changed = f"{MANIFEST}---{SETTINGS}".replace("replicas: 1", "replicas: 2").replace("a: b", "a: c")
    two = k.write("two.yaml", changed)
    _client_side(k, one, two)
    _server_side(k, one, two)
    _pruned(k, two)
    _kustomized(k)
    _strict(k)
    _replaced(k, two)
    _edited(k)
    _patched(k)


def _client_side(k: Kubectl, one: str, two: str) -> None:
    said = [f"{name} {{}}" for name in ("deployment.apps/kept", "configmap/settings")]
    assert k("apply", "-f", one).splitlines() == [line.format("created") for line in said]
    assert k("apply", "-f", one).splitlines() == [line.format("unchanged") for line in said]
    # Until then its status changes between what kubectl reads and what it is answered.
    k("rollout", "status", "deployment/kept", "--timeout=60s")
    assert k("diff", "-f", one) == ""
    difference = k.refused("diff", "-f", two)
    has(difference, "-  replicas: 1\n+  replicas: 2", "-  a: b\n+  a: c")
    dry = k("apply", "-f", two, "--dry-run=server").splitlines()
    assert dry == [line.format("configured (server dry run)") for line in said]
    assert k("get", "configmap", "settings", "-o", "jsonpath={.data.a}") == "b"
    assert k("apply", "-f", two).splitlines() == [line.format("configured") for line in said]
    has(k("apply", "view-last-applied", "configmap/settings"), "data:\n  a: c")


def _server_side(k: Kubectl, one: str, two: str) -> None:
    # What kubectl has applied before, as the annotation tells, is its own on this side too.
    applied = k("apply", "-f", one, "--server-side").splitlines()
    assert applied == ["deployment.apps/kept serverside-applied", "configmap/settings serverside-applied"]
    other = k.refused("apply", "-f", two, "--server-side", "--field-manager=other")
    has(other, 'conflict with "kubectl": .spec.replicas', 'conflict with "kubectl": .data.a')
    managers = k("get", "configmap", "settings", "-o", "jsonpath={.metadata.managedFields[*].manager}")
    # kubectl has taken over what its client side owned.
    assert sorted(managers.split()) == ["kubectl", "kubectl-last-applied"]
    assert k("apply", "set-last-applied", "-f", two).splitlines()[0] == "deployment.apps/kept configured"


def _pruned(k: Kubectl, two: str) -> None:
    only = k.write("only.yaml", MANIFEST.replace("replicas: 1", "replicas: 2"))
    k("apply", "-f", two)
    pruned = k("apply", "-f", only, "-l", "set=applied", "--prune", "--prune-allowlist=core/v1/ConfigMap")
    assert pruned.splitlines()[-1] == "configmap/settings pruned"


def _kustomized(k: Kubectl) -> None:
    k.write("kz/kustomization.yaml", KUSTOMIZATION)
    k.write("kz/settings.yaml", SETTINGS)
    has(k("kustomize", "kz"), "name: kz-settings", 'x: "y"')
    created = k("apply", "-k", "kz").splitlines()
    assert created[1] == "configmap/kz-settings created" and created[0].startswith("configmap/kz-made-")
    assert len(k("delete", "-k", "kz").splitlines()) == 2


def _strict(k: Kubectl) -> None:
    typo = SETTINGS.replace("settings", "typo").replace("\ndata:", "\ndatas:")
    refused = k.refused("apply", "-f", "-", stdin=typo)
    has(
        refused,
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "datas"',
    )
    done = k.run("create", "-f", "-", "--validate=warn", stdin=typo)
    assert done.stdout == "configmap/typo created\n" and done.stderr == 'Warning: unknown field "datas"\n'
    has(k.refused("create", "-f", "-", stdin=typo, code=1), 'unknown field "datas"')
    ignored = typo.replace("typo", "typo2")
    assert k("create", "-f", "-", "--validate=ignore", stdin=ignored) == "configmap/typo2 created"
    wrong = MANIFEST.replace("replicas: 1", "replicas: -1").replace("kept", "wrong")
    has(
        k.refused("apply", "-f", "-", stdin=wrong),
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
    )
    has(
        k.refused("create", "-f", "-", stdin="kind: Thing\napiVersion: example.org/v1\nmetadata: {name: x}"),
        "no matches for kind",
    )


def _replaced(k: Kubectl, two: str) -> None:
    has(k.refused("replace", "-f", two), "deployment.apps/kept replaced", 'configmaps "settings" not found')
    settings = k.write("settings.yaml", SETTINGS)
    assert k("create", "-f", settings) == "configmap/settings created"
    has(
        k.refused("create", "-f", settings), "Error from server (AlreadyExists)", 'configmaps "settings" already exists'
    )
    assert k("replace", "-f", settings) == "configmap/settings replaced"
    before = k("get", "configmap", "settings", "-o", "jsonpath={.metadata.uid}")
    forced = k("replace", "--force", "-f", settings).splitlines()
    assert forced == ['configmap "settings" deleted', "configmap/settings replaced"]
    assert k("get", "configmap", "settings", "-o", "jsonpath={.metadata.uid}") != before


def _edited(k: Kubectl) -> None:
    editor = k.with_env(KUBE_EDITOR="sed -i 's/a: b/a: edited/'")
    assert editor("edit", "configmap", "settings") == "configmap/settings edited"
    assert k("get", "configmap", "settings", "-o", "jsonpath={.data.a}") == "edited"
    idle = k.with_env(KUBE_EDITOR="true")
    has(idle.both("edit", "configmap", "settings"), "Edit cancelled, no changes made.")
    status = k.with_env(KUBE_EDITOR="sed -i 's/replicas: 2/replicas: 1/'")
    assert status("edit", "deployment", "kept") == "deployment.apps/kept edited"


def _patched(k: Kubectl) -> None:
    strategic = '{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"1"}]}]}}}}'
    assert k("patch", "deployment", "kept", "-p", strategic) == "deployment.apps/kept patched"
    k("rollout", "status", "deployment/kept", "--timeout=60s")
    assert k("patch", "deployment", "kept", "-p", strategic) == "deployment.apps/kept patched (no change)"
    has(k("get", "deployment", "kept", "-o", "jsonpath={.spec.template.spec.containers[0]}"), k.image, '"value":"1"')
    merge = '{"metadata":{"labels":{"z":"1"}}}'
    assert k("patch", "deployment", "kept", "--type=merge", "-p", merge) == "deployment.apps/kept patched"
    steps = '[{"op":"test","path":"/metadata/labels/z","value":"1"},{"op":"remove","path":"/metadata/labels/z"}]'
    assert k("patch", "deployment", "kept", "--type=json", "-p", steps) == "deployment.apps/kept patched"
    has(k.refused("patch", "deployment", "kept", "--type=json", "-p", steps), "The request is invalid")
    scale = ["patch", "deployment", "kept", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":2}}']
    assert k(*scale) == "scale.autoscaling/kept patched"
    assert k("get", "deployment", "kept", "-o", "jsonpath={.spec.replicas}") == "2"
    immutable = '{"spec":{"selector":{"matchLabels":{"app":"other"}}}}'
    has(k.refused("patch", "deployment", "kept", "--type=merge", "-p", immutable), "field is immutable")
