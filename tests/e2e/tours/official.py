"""The official Python client, `kubernetes`: every verb, watches, streams, server-side apply and discovery."""

import json
import threading
from typing import Any

import yaml
from kubectl import Kubectl
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.stream import portforward, stream

POD = """
apiVersion: v1
kind: Pod
metadata: {name: official, labels: {app: official}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: IMAGE
      command: [sh, -c, "for n in 1 2 3; do echo line $n; done; exec httpd -f -p 8080 -h /bin"]
"""


def tour(k: Kubectl) -> None:
    api = config.new_client_from_config(str(k.kubeconfig))
    core = client.CoreV1Api(api)
    _objects(core, k.namespace)
    _patches(api, k)
    _watches(core, k.namespace)
    _dynamic(api, k)
    utils.create_from_dict(api, yaml.safe_load(POD.replace("IMAGE", k.image)), namespace=k.namespace)
    _until_running(core, k.namespace)
    _logs(core, k.namespace)
    _exec(core, k.namespace)
    _forward(core, k.namespace)
    core.delete_namespaced_pod("official", k.namespace, grace_period_seconds=0)


def _objects(core: Any, namespace: str) -> None:
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="settings", labels={"a": "b"}), data={"x": "1"})
    made = core.create_namespaced_config_map(namespace, body)
    assert made.metadata.uid and made.data == {"x": "1"}
    try:
        core.create_namespaced_config_map(namespace, body)
        raise AssertionError("it was made twice")
    except client.ApiException as error:
        assert (error.status, yaml.safe_load(error.body)["reason"]) == (409, "AlreadyExists")
    made.data["x"] = "2"
    replaced = core.replace_namespaced_config_map("settings", namespace, made)
    try:
        core.replace_namespaced_config_map("settings", namespace, made)
        raise AssertionError("an old version was taken")
    except client.ApiException as error:
        assert (error.status, yaml.safe_load(error.body)["reason"]) == (409, "Conflict")
    assert core.read_namespaced_config_map("settings", namespace).metadata.resource_version == (
        replaced.metadata.resource_version
    )
    listed = core.list_namespaced_config_map(namespace, label_selector="a=b")
    assert [item.metadata.name for item in listed.items] == ["settings"]
    first = core.list_namespaced_config_map(namespace, limit=1)
    rest = core.list_namespaced_config_map(namespace, limit=10, _continue=first.metadata._continue)
    assert {i.metadata.name for i in first.items + rest.items} == {"settings", "kube-root-ca.crt"}
    status = core.delete_namespaced_config_map("settings", namespace)
    assert status.status == "Success"
    try:
        core.read_namespaced_config_map("settings", namespace)
        raise AssertionError("it is still there")
    except client.ApiException as error:
        assert error.status == 404
    secret = core.create_namespaced_secret(namespace, client.V1Secret(metadata={"name": "s"}, string_data={"a": "b"}))
    assert secret.data == {"a": "Yg=="}


def _patches(api: Any, k: Kubectl) -> None:
    apps = client.AppsV1Api(api)
    template = {
        "metadata": {"labels": {"app": "d"}},
        "spec": {"containers": [{"name": "c", "image": k.image, "command": ["sleep", "1000"]}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "d"}}, "template": template}
    apps.create_namespaced_deployment(k.namespace, {"metadata": {"name": "d"}, "spec": spec})
    strategic = {"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}]}]}}}}
    patched = apps.patch_namespaced_deployment("d", k.namespace, strategic)
    (container,) = patched.spec.template.spec.containers
    assert (container.image, container.env[0].value) == (k.image, "1")
    steps = [{"op": "add", "path": "/metadata/labels", "value": {"z": "1"}}]
    assert apps.patch_namespaced_deployment("d", k.namespace, steps).metadata.labels == {"z": "1"}
    scale = apps.read_namespaced_deployment_scale("d", k.namespace)
    # The controller may have written the deployment's status since.
    scale.metadata.resource_version = None
    scale.spec.replicas = 1
    assert apps.replace_namespaced_deployment_scale("d", k.namespace, scale).spec.replicas == 1
    scaled = apps.patch_namespaced_deployment_scale("d", k.namespace, {"spec": {"replicas": 2}})
    assert scaled.spec.replicas == 2
    assert apps.delete_namespaced_deployment("d", k.namespace, propagation_policy="Foreground")


def _watches(core: Any, namespace: str) -> None:
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    for name in ("one", "two"):
        core.create_namespaced_config_map(namespace, {"metadata": {"name": name}})
    seen = _watched(core, namespace, version, 2)
    assert [(event["type"], event["object"].metadata.name) for event in seen] == [("ADDED", "one"), ("ADDED", "two")]
    # What comes after the first event is all that a watch from there has to say.
    core.delete_namespaced_config_map("one", namespace)
    seen = _watched(core, namespace, seen[0]["object"].metadata.resource_version, 2)
    assert [(event["type"], event["object"].metadata.name) for event in seen] == [("ADDED", "two"), ("DELETED", "one")]


def _watched(core: Any, namespace: str, version: str, count: int) -> list[Any]:
    watcher, seen = watch.Watch(), []
    for event in watcher.stream(
        core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=30
    ):
        seen.append(event)
        if len(seen) == count:
            watcher.stop()
    return seen


def _dynamic(api: Any, k: Kubectl) -> None:
    """Discovery, and server-side apply with its conflicts."""
    found = dynamic.DynamicClient(api)
    maps = found.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    first = maps.server_side_apply(body=body, namespace=k.namespace, field_manager="one")
    assert first.data.a == "1"
    try:
        maps.server_side_apply(
            body=body | {"data": {"a": "2"}}, namespace=k.namespace, field_manager="two", force_conflicts=False
        )
        raise AssertionError("no conflict")
    except dynamic.exceptions.ConflictError as error:
        assert json.loads(error.body)["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    forced = maps.server_side_apply(
        body=body | {"data": {"a": "2"}}, namespace=k.namespace, field_manager="two", force_conflicts=True
    )
    assert forced.data.a == "2"
    assert found.resources.get(api_version="apps/v1", kind="Deployment").name == "deployments"
    assert {item.metadata.name for item in maps.get(namespace=k.namespace).items} >= {"applied"}


def _until_running(core: Any, namespace: str) -> None:
    watcher = watch.Watch()
    for event in watcher.stream(core.list_namespaced_pod, namespace, label_selector="app=official", timeout_seconds=60):
        statuses = event["object"].status.container_statuses or []
        if statuses and statuses[0].ready:
            watcher.stop()
            return
    raise AssertionError("the pod did not get ready")


def _logs(core: Any, namespace: str) -> None:
    watcher, lines = watch.Watch(), []
    for line in watcher.stream(core.read_namespaced_pod_log, "official", namespace, follow=True):
        lines.append(line)
        if len(lines) == 3:
            watcher.stop()
    assert lines == ["line 1", "line 2", "line 3"]
    # (The client would make the bytes' repr of the text, did it not hand them on as they are.)
    assert core.read_namespaced_pod_log("official", namespace, tail_lines=1, _preload_content=False).data == b"line 3\n"


def _exec(core: Any, namespace: str) -> None:
    def run(command: list[str], **options: Any) -> Any:
        return stream(
            core.connect_get_namespaced_pod_exec,
            "official",
            namespace,
            command=command,
            **{"stderr": True, "stdin": False, "stdout": True, "tty": False} | options,
        )

    assert run(["echo", "hello"]) == "hello\n"
    session = run(["sh", "-c", "read line; echo got $line; echo bad >&2; exit 7"], stdin=True, _preload_content=False)
    session.write_stdin("words\n")
    session.run_forever(timeout=20)
    assert (session.read_stdout(), session.read_stderr(), session.returncode) == ("got words\n", "bad\n", 7)


def _forward(core: Any, namespace: str) -> None:
    forward = portforward(core.connect_get_namespaced_pod_portforward, "official", namespace, ports="8080,9999")
    connection = forward.socket(8080)
    connection.settimeout(20)
    connection.sendall(b"GET /missing HTTP/1.0\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 404")
    stop = threading.Event()
    for _ in range(100):
        if forward.error(9999):
            break
        stop.wait(0.1)
    assert "refused" in forward.error(9999)
    connection.close()
