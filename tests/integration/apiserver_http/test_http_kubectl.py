"""An unmodified kubectl against the HTTPS front: every call it makes, over a real etcd."""

from __future__ import annotations

import asyncio
import json
import uuid

import aiohttp
import pytest
from real_apiserver import RunningApiserver
from real_kubectl import Kubectl

from tillerman.pb.k8s import core_v1_pb2 as core


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: web, image: "nginx:1"}}]}}
"""


async def test_version_and_discovery(kubectl: Kubectl) -> None:
    version = json.loads(await kubectl("version", "-o", "json"))
    assert version["serverVersion"]["minor"] == "32"
    listed = await kubectl("api-resources", "--no-headers", "-o", "name")
    assert {"pods", "deployments.apps", "horizontalpodautoscalers.autoscaling"} <= set(listed.split())
    versions = (await kubectl("api-versions")).split()
    assert {"v1", "apps/v1", "autoscaling/v1", "autoscaling/v2"} <= set(versions)
    for check in ("healthz", "livez", "readyz", "readyz?verbose"):
        assert await kubectl("get", "--raw", f"/{check}") == "ok"


async def test_discovery_without_aggregation(kubectl: Kubectl) -> None:
    groups = json.loads(await kubectl("get", "--raw", "/apis"))
    assert groups["kind"] == "APIGroupList"
    resources = json.loads(await kubectl("get", "--raw", "/api/v1"))["resources"]
    eviction = next(r for r in resources if r["name"] == "pods/eviction")
    assert (eviction["group"], eviction["version"], eviction["kind"]) == ("policy", "v1", "Eviction")


BETA = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
NEWEST = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@pytest.mark.parametrize(
    ("accept", "kind", "api_version"),
    [
        (f"{NEWEST},{BETA},application/json", "APIGroupDiscoveryList", "apidiscovery.k8s.io/v2"),
        (f"{BETA},application/json", "APIGroupDiscoveryList", "apidiscovery.k8s.io/v2beta1"),
        ("application/json, */*", "APIGroupList", "v1"),
    ],
    ids=["1.30 and newer", "1.27 to 1.29", "1.26 and older"],
)
async def test_discovery_as_each_kubectl_asks_for_it(
    kubectl: Kubectl, accept: str, kind: str, api_version: str
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{kubectl.url}/apis", headers={"Accept": accept}, ssl=kubectl.tls()) as response,
    ):
        content = await response.json()
    assert (content["kind"], content["apiVersion"]) == (kind, api_version)
    if kind != "APIGroupList":
        assert f"v={api_version.partition('/')[2]};" in response.headers["Content-Type"]


async def test_who_is_not_known_is_told_so(kubectl: Kubectl) -> None:
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer nonsense"}) as session,
        session.get(f"{kubectl.url}/api/v1/pods", ssl=kubectl.anonymous_tls()) as response,
    ):
        assert (response.status, (await response.json())["reason"]) == (401, "Unauthorized")


async def test_a_kind_that_nobody_serves(kubectl: Kubectl) -> None:
    """kubectl looks into /openapi/v2 before it says so."""
    thing = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: x}\n"
    code, _, err = await kubectl.run("apply", "-f", "-", stdin=thing)
    assert code == 1 and 'no matches for kind "Thing" in version "example.org/v1"' in err


async def test_impersonation(kubectl: Kubectl) -> None:
    assert "jane" in await kubectl("auth", "whoami", "--as=jane")
    mine, hers = await kubectl("auth", "can-i", "--list"), await kubectl("auth", "can-i", "--list", "--as=jane")
    assert "*.*" in mine and "*.*" not in hers
    assert "selfsubjectrulesreviews.authorization.k8s.io" in hers


async def test_create_get_scale_label_delete(kubectl: Kubectl, name: str) -> None:
    assert await kubectl("create", "deployment", name, "--image=nginx:1") == f"deployment.apps/{name} created\n"
    lines = (await kubectl("get", "deployments", name)).splitlines()
    assert lines[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert lines[1].split()[:2] == [name, "0/1"]
    wide = await kubectl("get", "deployments", name, "-o", "wide")
    assert "nginx:1" in wide and "SELECTOR" in wide
    await kubectl("scale", "deployment", name, "--replicas=3")
    await kubectl("label", "deployment", name, "tier=front")
    found = json.loads(await kubectl("get", "deployment", name, "-o", "json"))
    assert found["spec"]["replicas"] == 3
    assert found["metadata"]["labels"]["tier"] == "front"
    assert name in await kubectl("get", "deploy", "-l", "tier=front", "-o", "name")
    assert name in await kubectl("describe", "deployment", name)
    assert "deleted" in await kubectl("delete", "deployment", name)
    code, _, err = await kubectl.run("get", "deployment", name)
    assert (code, err) == (1, f'Error from server (NotFound): deployments.apps "{name}" not found\n')


async def test_apply(kubectl: Kubectl, name: str) -> None:
    created = await kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name=name, replicas=1))
    assert created == f"deployment.apps/{name} created\n"
    changed = await kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name=name, replicas=2))
    assert changed == f"deployment.apps/{name} configured\n"
    again = await kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name=name, replicas=2))
    assert again == f"deployment.apps/{name} unchanged\n"
    served = await kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=DEPLOYMENT.format(name=name, replicas=4)
    )
    assert served == f"deployment.apps/{name} serverside-applied\n"
    assert await kubectl("get", "deployment", name, "-o", "jsonpath={.spec.replicas}") == "4"


async def test_unknown_fields_are_refused(kubectl: Kubectl, name: str) -> None:
    manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndta:\n  a: b\n"
    code, _, err = await kubectl.run("create", "-f", "-", stdin=manifest)
    assert code == 1
    assert (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"' in err
    )
    out = await kubectl.run("create", "--validate=warn", "-f", "-", stdin=manifest)
    assert 'Warning: unknown field "dta"' in out[2]


async def test_dry_run_stores_nothing(kubectl: Kubectl, name: str) -> None:
    assert "created (server dry run)" in await kubectl("create", "configmap", name, "--dry-run=server")
    assert (await kubectl.run("get", "configmap", name))[0] == 1


async def test_create_commands_that_send_protobuf(kubectl: Kubectl, name: str) -> None:
    for command in (
        ("namespace", name),
        ("configmap", name, "--from-literal=a=b"),
        ("secret", "generic", name, "--from-literal=a=b"),
        ("job", name, "--image=i"),
        ("cronjob", name, "--image=i", "--schedule=* * * * *"),
        ("role", name, "--verb=get", "--resource=pods"),
        ("rolebinding", name, f"--role={name}", "--user=u"),
        ("serviceaccount", name),
        ("service", "clusterip", name, "--tcp=80:80"),
        ("ingress", name, "--rule=a.b/=s:80"),
        ("quota", name, "--hard=pods=5"),
        ("poddisruptionbudget", name, "--selector=a=b", "--min-available=1"),
        ("deployment", name, "--image=i"),
    ):
        assert "created" in await kubectl("create", *command)
    await kubectl("autoscale", "deployment", name, "--max=3", "--cpu-percent=50")
    assert name in await kubectl("get", "hpa", name)
    assert "yes" in await kubectl("auth", "can-i", "create", "pods")
    assert "admin" in await kubectl("auth", "whoami")


async def test_watch_prints_a_row_per_change(kubectl: Kubectl, name: str) -> None:
    await kubectl("create", "configmap", name)
    watching = await kubectl.start("get", "configmaps", "--field-selector", f"metadata.name={name}", "-w")
    assert watching.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert (await watching.stdout.readline()).split()[:2] == [b"NAME", b"DATA"]
            assert (await watching.stdout.readline()).split()[:2] == [name.encode(), b"0"]
            await kubectl("patch", "configmap", name, "-p", '{"data":{"a":"b"}}')
            assert (await watching.stdout.readline()).split()[:2] == [name.encode(), b"1"]
    finally:
        watching.kill()
        await watching.communicate()


async def test_watch_as_json_with_initial_events(kubectl: Kubectl, name: str) -> None:
    await kubectl("create", "configmap", name)
    path = (
        f"/api/v1/namespaces/default/configmaps?watch=true&fieldSelector=metadata.name%3D{name}&sendInitialEvents=true"
        "&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    )
    events = [json.loads(line) for line in (await kubectl("get", "--raw", path)).splitlines()]
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_list_in_chunks(kubectl: Kubectl, name: str) -> None:
    for number in range(5):
        await kubectl("create", "configmap", f"{name}-{number}")
        await kubectl("label", "configmap", f"{name}-{number}", f"set={name}")
    out = await kubectl("get", "configmaps", "-l", f"set={name}", "--chunk-size=2", "--no-headers")
    assert [line.split()[0] for line in out.splitlines()] == [f"{name}-{number}" for number in range(5)]
    assert "deleted" in await kubectl("delete", "configmaps", "-l", f"set={name}")


async def test_explain(kubectl: Kubectl) -> None:
    assert "containerPort" in await kubectl("explain", "pod.spec.containers.ports")
    assert "replicas" in await kubectl("explain", "deployment.spec", "--recursive")


async def test_describe_shows_events(kubectl: Kubectl, apiserver: RunningApiserver, name: str) -> None:
    await kubectl("create", "configmap", name)
    await kubectl("run", name, "--image=nginx:1")
    pod = await apiserver.client.resource(core.Pod).get(name, "default")
    event = core.Event()
    event.metadata.name = f"{name}.1"
    event.metadata.namespace = "default"
    event.involvedObject.kind, event.involvedObject.name = "Pod", name
    event.involvedObject.namespace, event.involvedObject.uid = "default", pod.metadata.uid
    event.reason, event.message, event.type = "Pulled", "the image is here", "Normal"
    await apiserver.client.resource(core.Event).create(event)
    assert "the image is here" in await kubectl("describe", "pod", name)
    # A pod on no node has no log, and that is no failure.
    assert await kubectl("logs", name) == ""


async def test_replace_edit_set_and_rollout(kubectl: Kubectl, name: str) -> None:
    await kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name=name, replicas=1))
    await kubectl("set", "image", f"deployment/{name}", "web=nginx:2")
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    assert await kubectl("get", "deployment", name, "-o", image) == "nginx:2"
    await kubectl("rollout", "restart", f"deployment/{name}")
    stored = await kubectl("get", "deployment", name, "-o", "yaml")
    assert "restartedAt" in stored
    await kubectl("replace", "-f", "-", stdin=stored.replace("nginx:2", "nginx:3"))
    code, _, err = await kubectl.run("replace", "-f", "-", stdin=stored)
    assert code == 1
    assert "the object has been modified" in err


async def test_component_statuses(kubectl: Kubectl) -> None:
    listed = (await kubectl("get", "cs")).splitlines()
    assert listed[0].split() == ["NAME", "STATUS", "MESSAGE", "ERROR"]
    assert listed[1].split() == [
        "scheduler",
        "Unhealthy",
        *["there", "is", "no", "Lease", "kube-system/kube-scheduler"],
    ]
    assert listed[3].split() == ["etcd-0", "Healthy", "ok"]
    assert json.loads(await kubectl("get", "cs", "etcd-0", "-o", "json"))["conditions"] == [
        {"type": "Healthy", "status": "True", "message": "ok"}
    ]
    _, _, warned = await kubectl.run("get", "cs", "etcd-0")
    assert "v1 ComponentStatus is deprecated in v1.19+" in warned


NOT_ALLOWED = (405, "the server does not allow this method on the requested resource")
NOT_THERE = (404, "the server could not find the requested resource")
NOT_WATCHED = (405, 'watch is not supported on resources of kind "componentstatuses"')


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/api/v1/componentstatuses?watch=true", NOT_WATCHED),
        ("DELETE", "/api/v1/componentstatuses/etcd-0", NOT_ALLOWED),
        ("GET", "/api/v1/componentstatuses/etcd-0/status", NOT_THERE),
        ("POST", "/apis/apps/v1/namespaces/default/deployments/d/scale", NOT_ALLOWED),
        ("GET", "/api/v1/namespaces/default/pods/p/eviction", NOT_ALLOWED),
        ("DELETE", "/api/v1/namespaces/default/pods/p/status", NOT_ALLOWED),
        ("PATCH", "/api/v1/namespaces/default/finalize", NOT_ALLOWED),
        ("GET", "/api/v1/namespaces/default/pods/p/nothing", NOT_THERE),
    ],
)
async def test_what_a_path_does_not_take(kubectl: Kubectl, method: str, path: str, answer: tuple[int, str]) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, kubectl.url + path, ssl=kubectl.tls()) as response,
    ):
        content = await response.json()
    assert (response.status, content["message"]) == answer
