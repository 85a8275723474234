"""`tiller describe` and `tiller explain`."""

from collections.abc import Callable
from typing import Any

from click.testing import Result

Run = Callable[..., Result]


def test_a_pod_with_its_events(run: Run, server: Any, make_pod: Callable[..., dict[str, Any]]) -> None:
    pod = make_pod("web-1", app="web")
    pod["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}
    ]
    pod["spec"]["containers"][0] |= {
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"memory": "1Gi"}},
        "env": [{"name": "A", "value": "b"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "livenessProbe": {"httpGet": {"path": "/ok", "port": 80}, "periodSeconds": 10},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True}],
    }
    pod["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "cm"}}]
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    server.add(
        pod,
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web-1", "uid": "uid-web-1"},
            "type": "Normal",
            "reason": "Scheduled",
            "message": "Successfully assigned default/web-1 to node-1",
            "lastTimestamp": "2026-01-01T00:00:00Z",
            "source": {"component": "default-scheduler"},
        },
    )
    text = run("describe", "pod", "web-1").stdout
    for part in (
        "web-1",
        "Controlled By:",
        "ReplicaSet/web",
        "Containers:",
        "c:",
        "80/TCP",
        "memory:  1Gi",
        "<set to the key 'k' in secret 's'>",
        "http-get http://:80/ok",
        "/v from v (ro)",
        "ConfigMap",
        "QoS Class:",
        "Scheduled",
        "Successfully assigned default/web-1 to node-1",
    ):
        assert part in text, part


def test_a_name_may_be_the_beginning_of_names(run: Run, server: Any, make_pod: Callable[..., dict[str, Any]]) -> None:
    server.add(make_pod("web-1"), make_pod("web-2"), make_pod("other"))
    text = run("describe", "pod", "web").stdout
    assert "web-1" in text
    assert "web-2" in text
    assert "other" not in text
    result = run("describe", "pod", "nobody")
    assert (result.exit_code, result.stderr) == (1, 'Error from server (NotFound): pods "nobody" not found\n')


def test_every_describer_takes_an_almost_empty_object(run: Run, server: Any) -> None:
    from tillerman.cli.describe import DESCRIBERS

    for kind in DESCRIBERS:
        api_version = {"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "StatefulSet": "apps/v1"}.get(kind, "v1")
        api_version = {"DaemonSet": "apps/v1", "Job": "batch/v1", "HorizontalPodAutoscaler": "autoscaling/v2"}.get(
            kind, api_version
        )
        metadata = {"name": "x"} if kind in ("Node", "Namespace") else {"name": "x", "namespace": "default"}
        server.add({"apiVersion": api_version, "kind": kind, "metadata": metadata})
        result = run("describe", kind.lower(), "x")
        assert (result.exit_code, result.exception) == (0, None), kind
        assert "Name:" in result.stdout


def test_explain(run: Run) -> None:
    text = run("explain", "deployment.spec.strategy").stdout
    assert "FIELD:      strategy <DeploymentStrategy>" in text
    assert "Allowed values: Recreate, RollingUpdate" in text
    assert "containers\t<[]Container>" in run("explain", "pod", "--recursive").stdout
    assert "httpGet" in run("explain", "pod.spec.containers.livenessProbe").stdout
    assert 'field "nope" does not exist' in run("explain", "pod.spec.nope").output
    assert run("explain", "gadgets").exit_code == 1


def test_completion_scripts(run: Run) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_TILLER_COMPLETE" in run("completion", shell).stdout
