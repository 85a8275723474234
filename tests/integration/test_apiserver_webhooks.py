"""Admission webhooks against real HTTPS servers: what they are asked, what their answers do, what failures do."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from custom_definitions import definition, definitions_of, establish, gizmo, gone
from real_apiserver import RunningApiserver, free_port
from webhook_server import WebhookServer, added, allowed, denied, patched, webhook_server

from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Target
from tillerman.api import codec
from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.k8s import admissionregistration_v1_pb2 as registration
from tillerman.pb.k8s import autoscaling_v2_pb2, meta_v1_pb2
from tillerman.pb.k8s import core_v1_pb2 as core

USER = User("alice", ("system:masters", "system:authenticated"), "u1", (("scopes", ("a", "b")),))
MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[WebhookServer]:
    async with webhook_server(tmp_path / "hooks") as server:
        yield server


@pytest.fixture
async def space(client: Client) -> AsyncIterator[str]:
    """A namespace of the test's own; no webhook outlives the test."""
    namespace = core.Namespace()
    namespace.metadata.generateName = "hooks-"
    namespace.metadata.labels["team"] = "red"
    made = await client.resource(core.Namespace).create(namespace)
    try:
        yield made.metadata.name
    finally:
        for kind in (registration.MutatingWebhookConfiguration, registration.ValidatingWebhookConfiguration):
            await client.resource(kind).delete_collection()


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> core.ConfigMap:
    found = core.ConfigMap()
    found.metadata.name = name
    found.metadata.labels.update(labels or {})
    found.data.update(data)
    return found


class Hooks:
    """Registers webhooks of one test for its own namespace."""

    def __init__(self, client: Client, server: WebhookServer, space: str) -> None:
        self._client = client
        self._server = server
        self._selector = {"matchLabels": {"kubernetes.io/metadata.name": space}}

    async def add(self, kind: str, name: str, *webhooks: dict[str, Any]) -> None:
        content = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [self._whole(webhook) for webhook in webhooks],
        }
        message: Any = codec.from_dict(content)
        await self._client.resource(type(message)).create(message)

    def _whole(self, webhook: dict[str, Any]) -> dict[str, Any]:
        path = webhook.pop("path", "/")
        bundle = base64.b64encode(self._server.ca_bundle).decode()
        return {
            "clientConfig": {"url": self._server.url + path, "caBundle": bundle},
            "rules": [MAPS],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": self._selector,
            **webhook,
        }


@pytest.fixture
def register(client: Client, hooks: WebhookServer, space: str) -> Hooks:
    return Hooks(client, hooks, space)


@pytest.fixture
def create(apiserver: RunningApiserver, space: str) -> Any:
    async def call(obj: Any, resource: str = "configmaps", api_version: str = "v1", **how: Any) -> tuple[Any, Context]:
        context = Context(USER, **how)
        written: Any = await apiserver.server.registry.create(Target(api_version, resource, space), obj, context)
        return written.entry.message(), context

    return call


async def test_a_validating_webhook_sees_the_whole_request_and_may_deny(
    hooks: WebhookServer, register: Hooks, create: Any, space: str
) -> None:
    hooks.answers["/"] = denied("not on a Friday", code=418, reason="Teapot")
    await register.add("Validating", "v1", {"name": "deny.example.com"})
    with pytest.raises(StatusError) as refused:
        await create(config_map("a", one="1"), field_manager="me")
    assert refused.value.message == 'admission webhook "deny.example.com" denied the request: not on a Friday'
    assert (refused.value.code, refused.value.reason) == (418, "Teapot")
    request = hooks.requests[0]
    assert request["kind"] == request["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["name"], request["namespace"], request["operation"]) == ("a", space, "CREATE")
    assert request["userInfo"] == {
        "username": "alice",
        "uid": "u1",
        "groups": ["system:masters", "system:authenticated"],
        "extra": {"scopes": ["a", "b"]},
    }
    assert request["object"]["data"] == {"one": "1"} and request["oldObject"] is None
    assert request["options"] == {
        "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"
    }  # fmt: skip
    assert request["dryRun"] is False


@pytest.mark.parametrize(
    ("answer", "message", "code"),
    [
        ({"allowed": False}, 'admission webhook "w.example.com" denied the request without explanation', 400),
        (denied(reason="Odd"), 'admission webhook "w.example.com" denied the request: Odd', 400),
        (denied("no", code=200), 'admission webhook "w.example.com" denied the request: no', 400),
        (500, "prevented the request from being successful", 500),
        (404, "failed to call webhook: the server could not find the requested resource", 500),
        (b"nonsense", "couldn't get version/kind; json parse error", 500),
        (b"{}", "received invalid webhook response: webhook response was absent", 500),
        (allowed(uid="other"), 'expected response.uid="', 500),
        (patched(added("/data/x", "y")), "validating webhook may not return response.patch", 500),
        (5.0, "context deadline exceeded", 500),
    ],
)
async def test_what_a_validating_webhook_answers(
    hooks: WebhookServer, register: Hooks, create: Any, answer: Any, message: str, code: int
) -> None:
    hooks.answers["/"] = answer
    await register.add("Validating", "v2", {"name": "w.example.com", "timeoutSeconds": 1})
    with pytest.raises(StatusError, match="webhook") as refused:
        await create(config_map("a"))
    assert message in refused.value.message and refused.value.code == code
    if code == 500:
        assert refused.value.message.startswith('Internal error occurred: failed calling webhook "w.example.com": ')


@pytest.mark.parametrize("broken", ["gone", "wrong-ca", "bad-answer", "slow"])
async def test_a_failure_is_ignored_where_the_policy_says_so(
    hooks: WebhookServer, register: Hooks, create: Any, tmp_path: Path, broken: str
) -> None:
    hooks.answers["/"] = {"bad-answer": b"[", "slow": 3.0}.get(broken, allowed())
    url, bundle = hooks.url, hooks.ca_bundle
    if broken == "gone":
        url = f"https://127.0.0.1:{free_port()}"
    if broken == "wrong-ca":
        async with webhook_server(tmp_path / "other") as other:
            bundle = other.ca_bundle
    where = {"clientConfig": {"url": url, "caBundle": base64.b64encode(bundle).decode()}, "timeoutSeconds": 1}
    await register.add("Validating", "v3", {"name": "w.example.com", "failurePolicy": "Ignore", **where})
    await create(config_map("fine"))
    await register.add("Mutating", "m3", {"name": "m.example.com", "failurePolicy": "Fail", **where})
    with pytest.raises(StatusError) as refused:
        await create(config_map("not-fine"))
    told = {"gone": "connection refused", "wrong-ca": "failed to verify certificate", "slow": "deadline exceeded"}
    assert told.get(broken, "json parse error") in refused.value.message


async def test_mutations_go_in_order_and_are_defaulted_and_validated_again(
    hooks: WebhookServer, register: Hooks, create: Any
) -> None:
    hooks.answers["/a"] = patched(added("/data", {"by": "a"}))
    hooks.answers["/b"] = lambda request: patched(added("/data/after", request["object"]["data"]["by"]))
    hooks.answers["/bad"] = patched(added("/data/bad~1key", "x"))
    await register.add("Mutating", "zz", {"name": "b.example.com", "path": "/b"})
    await register.add("Mutating", "aa", {"name": "a.example.com", "path": "/a"})
    made, _ = await create(config_map("x"))
    assert dict(made.data) == {"by": "a", "after": "a"}
    assert hooks.paths == ["/a", "/b"]
    await register.add("Mutating", "zzz", {"name": "c.example.com", "path": "/bad"})
    with pytest.raises(StatusError) as refused:
        await create(config_map("y"))
    assert refused.value.reason == "Invalid" and "bad/key" in refused.value.message


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (patched({"op": "remove", "path": "/data/none"}), "Internal error occurred"),
        ({**allowed(), "patch": "!!", "patchType": "JSONPatch"}, "is no JSON patch"),
        ({**allowed(), "patch": "W10=", "patchType": "Merge"}, 'unsupported patch type "Merge"'),
        ({**allowed(), "patch": "W10="}, "response.patch but not response.patchType"),
        (patched(added("/data", 7)), "Internal error occurred"),
    ],
)
async def test_bad_patches_fail_the_request(
    hooks: WebhookServer, register: Hooks, create: Any, answer: Any, told: str
) -> None:
    hooks.answers["/"] = answer
    await register.add("Mutating", "bad", {"name": "bad.example.com"})
    with pytest.raises(StatusError) as refused:
        await create(config_map("x"))
    assert refused.value.code == 500 and told in refused.value.message


async def test_reinvocation_asks_again_who_wants_it_when_a_later_webhook_changes_the_object(
    hooks: WebhookServer, register: Hooks, create: Any
) -> None:
    hooks.answers["/first"] = lambda r: patched(added("/data/seen", ",".join(sorted(r["object"].get("data", {})))))
    hooks.answers["/never"] = allowed()
    hooks.answers["/last"] = patched(added("/data/last", "1"))
    first = {"name": "a.example.com", "path": "/first", "reinvocationPolicy": "IfNeeded"}
    await register.add("Mutating", "r", first, {"name": "b.example.com", "path": "/never"},
                       {"name": "c.example.com", "path": "/last"})  # fmt: skip
    made, _ = await create(config_map("x", own="1"))
    assert hooks.paths == ["/first", "/never", "/last", "/first"]
    assert made.data["seen"] == "last,own,seen"


async def test_selectors_dry_run_and_warnings(hooks: WebhookServer, register: Hooks, create: Any) -> None:
    hooks.answers["/"] = allowed(warnings=["old thing", "older thing"])
    selector = {"matchLabels": {"ask": "yes"}}
    await register.add("Validating", "s", {"name": "s.example.com", "objectSelector": selector})
    await create(config_map("quiet"))
    assert not hooks.requests
    _, context = await create(config_map("loud", {"ask": "yes"}), dry_run=True)
    assert hooks.requests[0]["dryRun"] is True and hooks.requests[0]["options"]["dryRun"] == ["All"]
    assert context.warnings == ["old thing", "older thing"]
    elsewhere = {"matchLabels": {"no": "where"}}
    await register.add("Validating", "t", {"name": "t.example.com", "namespaceSelector": elsewhere})
    await create(config_map("quiet2"))
    assert len(hooks.requests) == 1


async def test_update_patch_delete_and_connect(
    hooks: WebhookServer, register: Hooks, create: Any, apiserver: RunningApiserver, space: str
) -> None:
    hooks.answers["/"] = allowed()
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/*"]}
    await register.add("Validating", "ud", {"name": "ud.example.com", "rules": [MAPS, pods]})
    await create(config_map("x", a="1"))
    registry, target = apiserver.server.registry, Target("v1", "configmaps", space, "x")
    await registry.patch(target, "application/merge-patch+json", b'{"data":{"a":"2"}}', Context(USER))
    hooks.answers["/"] = denied("stays")
    with pytest.raises(StatusError, match="stays"):
        await registry.delete(target, meta_v1_pb2.DeleteOptions(gracePeriodSeconds=0), Context(USER))
    update, delete = hooks.requests[1:3]
    assert (update["operation"], update["options"]["kind"]) == ("UPDATE", "UpdateOptions")
    assert (update["oldObject"]["data"], update["object"]["data"]) == ({"a": "1"}, {"a": "2"})
    assert (delete["operation"], delete["object"], delete["oldObject"]["data"]) == ("DELETE", None, {"a": "2"})
    assert delete["options"] == {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 0}
    exec_target = Target("v1", "pods", space, "p", "exec")
    with pytest.raises(StatusError, match="stays"):
        await registry.connect(exec_target, core.PodExecOptions(command=["sh"]), Context(USER))
    connect = hooks.requests[-1]
    assert (connect["operation"], connect["subResource"], connect["kind"]["kind"]) == (
        "CONNECT", "exec", "PodExecOptions"
    )  # fmt: skip
    assert connect["object"]["command"] == ["sh"] and connect["options"] is None


async def test_equivalent_versions_are_asked_in_the_webhooks_own(
    hooks: WebhookServer, register: Hooks, create: Any
) -> None:
    hooks.answers["/"] = allowed()
    rule = {
        "apiGroups": ["autoscaling"], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["horizontalpodautoscalers"],
    }  # fmt: skip
    await register.add("Validating", "eq", {"name": "eq.example.com", "rules": [rule]},
                       {"name": "ex.example.com", "rules": [rule], "matchPolicy": "Exact"})  # fmt: skip
    scaler = autoscaling_v2_pb2.HorizontalPodAutoscaler()
    scaler.metadata.name = "h"
    target = scaler.spec.scaleTargetRef
    target.kind, target.name, target.apiVersion = "Deployment", "d", "apps/v1"
    scaler.spec.maxReplicas = 3
    await create(scaler, "horizontalpodautoscalers", "autoscaling/v2")
    (request,) = hooks.requests
    assert (request["kind"]["version"], request["requestKind"]["version"]) == ("v1", "v2")
    assert request["object"]["apiVersion"] == "autoscaling/v1"
    assert "targetCPUUtilizationPercentage" in request["object"]["spec"]


async def test_a_scale_is_shown_as_a_scale(
    hooks: WebhookServer, register: Hooks, client: Client, space: str, apiserver: RunningApiserver
) -> None:
    from tillerman.pb.k8s import autoscaling_v1_pb2

    controller = core.ReplicationController()
    controller.metadata.name, controller.metadata.namespace = "rc", space
    controller.spec.replicas = 1
    controller.spec.selector["a"] = "b"
    controller.spec.template.metadata.labels["a"] = "b"
    controller.spec.template.spec.containers.add(name="c", image="i")
    await client.resource(core.ReplicationController).create(controller)
    hooks.answers["/"] = patched({"op": "replace", "path": "/spec/replicas", "value": 7})
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"],
            "resources": ["replicationcontrollers/scale"]}  # fmt: skip
    await register.add("Mutating", "scale", {"name": "sc.example.com", "rules": [rule]})
    wanted = autoscaling_v1_pb2.Scale()
    wanted.metadata.name, wanted.metadata.namespace, wanted.spec.replicas = "rc", space, 3
    target = Target("v1", "replicationcontrollers", space, "rc", "scale")
    answer: Any = await apiserver.server.registry.update(target, wanted, Context(USER))
    assert hooks.requests[0]["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (hooks.requests[0]["oldObject"]["spec"], answer.spec.replicas) == ({"replicas": 1}, 7)


async def test_configurations_are_never_asked_about_and_one_connection_serves_many_calls(
    hooks: WebhookServer, register: Hooks, create: Any, client: Client
) -> None:
    hooks.answers["/"] = denied("everything")
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
    await register.add("Validating", "all", {"name": "all.example.com", "rules": [everything]})
    for n in range(5):
        with pytest.raises(StatusError, match="everything"):
            await create(config_map(f"m{n}"))
    asked = len(hooks.requests)
    await client.resource(registration.ValidatingWebhookConfiguration).delete("all")
    assert len(hooks.requests) == asked == 5
    await create(config_map("m"))


async def test_a_service_is_reached_at_its_endpoints(tmp_path: Path, client: Client, space: str, create: Any) -> None:
    from tillerman.pb.k8s import discovery_v1_pb2

    service = core.Service()
    service.metadata.name, service.metadata.namespace = "hook", space
    service.spec.ports.add(port=443, name="https")
    await client.resource(core.Service).create(service)
    async with webhook_server(tmp_path / "svc", (f"hook.{space}.svc",)) as server:
        server.answers["/check"] = denied("by the service")
        found = discovery_v1_pb2.EndpointSlice(addressType="IPv4")
        found.metadata.name, found.metadata.namespace = "hook-1", space
        found.metadata.labels["kubernetes.io/service-name"] = "hook"
        found.ports.add(name="https", port=server.port, protocol="TCP")
        found.endpoints.add(addresses=["127.0.0.1"]).conditions.ready = True
        await client.resource(discovery_v1_pb2.EndpointSlice).create(found)
        register = Hooks(client, server, space)
        where = {
            "service": {"namespace": space, "name": "hook", "path": "/check"},
            "caBundle": base64.b64encode(server.ca_bundle).decode(),
        }
        await register.add("Validating", "svc", {"name": "svc.example.com", "clientConfig": where})
        with pytest.raises(StatusError, match="by the service"):
            await create(config_map("x"))


async def test_ssl_contexts_with_broken_bundles_are_refusals() -> None:
    from services.apiserver.webhooks.client import Endpoint, WebhookClient, WebhookError

    async def nowhere(namespace: str, name: str, port: int) -> tuple[str, int]:
        raise WebhookError("no such service")

    client = WebhookClient(nowhere)
    try:
        with pytest.raises(WebhookError, match="root certificates"):
            await client.call(Endpoint("https://127.0.0.1:1/", b"no pem"), {}, timeout=1)
        with pytest.raises(WebhookError, match="no such service"):
            await client.call(Endpoint("https://a.b.svc:443/"), {}, timeout=1)
    finally:
        await client.close()


async def test_conditions_choose_the_requests_and_are_checked_when_written(
    hooks: WebhookServer, register: Hooks, create: Any
) -> None:
    hooks.answers["/"] = denied("asked")
    conditions = [{"name": "big", "expression": "int(object.data.size) > 2 && request.userInfo.username == 'alice'"}]
    await register.add("Validating", "cond", {"name": "c.example.com", "matchConditions": conditions})
    await create(config_map("small", size="1"))
    with pytest.raises(StatusError, match="asked"):
        await create(config_map("large", size="3"))
    with pytest.raises(StatusError, match="resulted in error"):
        await create(config_map("none"))
    assert len(hooks.requests) == 1
    bad = [{"name": "bad", "expression": "object.("}]
    with pytest.raises(StatusError, match=r"matchConditions\[0\]\.expression: Invalid value: .*compilation failed"):
        await register.add("Validating", "bad", {"name": "b.example.com", "matchConditions": bad})


async def test_custom_resources_are_shown_in_the_version_that_is_asked_for(
    hooks: WebhookServer, register: Hooks, client: Client, space: str
) -> None:
    content = definition()
    (first,) = content["spec"]["versions"]
    content["spec"]["versions"] = [first, {**first, "name": "v2", "storage": False}]
    await establish(client, content)
    rule = {"apiGroups": ["example.org"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["gizmos"]}
    try:
        hooks.answers["/"] = patched({"op": "replace", "path": "/spec/color", "value": "blue"})
        await register.add("Mutating", "custom", {"name": "g.example.com", "rules": [rule]})
        wanted = {**gizmo("a"), "apiVersion": "example.org/v2"}
        wanted["metadata"] = {"name": "a", "namespace": space}
        made = await client.dynamic("example.org/v2", "gizmos", True).create(wanted)
        assert (made["apiVersion"], made["spec"]["color"]) == ("example.org/v2", "blue")
        (request,) = hooks.requests
        assert (request["kind"]["version"], request["requestKind"]["version"]) == ("v1", "v2")
        assert request["object"]["apiVersion"] == "example.org/v1"
    finally:
        await definitions_of(client).delete("gizmos.example.org")
        await gone(client, "gizmos.example.org")
