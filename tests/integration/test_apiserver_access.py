"""Who may do what: RBAC, the node authorizer, service account tokens, reviews."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from real_apiserver import Etcd, RunningApiserver, serving

from services.apiserver.auth.tokens import BearerTokens
from services.apiserver.options import ApiserverOptions
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Target, named
from services.apiserver.server import token_keys
from tillerman.api.status import StatusError
from tillerman.pb.k8s import authentication_v1_pb2 as authentication
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import rbac_v1_pb2 as rbac
from tillerman.service import pki


def user(name: str, *groups: str) -> User:
    return User(name, (*groups, "system:authenticated"))


def may(apiserver: RunningApiserver, who: User, verb: str, target: Target) -> bool:
    return apiserver.server.authorizer.allows(who, verb, target)


async def test_bootstrap_policy(apiserver: RunningApiserver) -> None:
    pods = Target("v1", "pods", "default", "p")
    assert may(apiserver, user("boss", "system:masters"), "delete", pods)
    assert not may(apiserver, user("nobody"), "get", pods)
    assert may(apiserver, user("system:kube-scheduler"), "create", Target("v1", "pods", "default", "p", "binding"))
    assert not may(apiserver, user("system:kube-scheduler"), "get", Target("v1", "secrets", "default", "s"))
    assert may(apiserver, user("system:kube-controller-manager"), "delete", pods)
    assert may(apiserver, user("system:kube-proxy"), "watch", Target("discovery.k8s.io/v1", "endpointslices"))
    assert not may(apiserver, user("system:kube-proxy"), "update", Target("v1", "services", "default", "s"))
    with pytest.raises(StatusError) as caught:
        await apiserver.server.registry.get(pods, Context(user("nobody")))
    assert caught.value.message == (
        'pods "p" is forbidden: User "nobody" cannot get resource "pods" in API group "" in the namespace "default"'
    )


async def test_a_role_binding_takes_effect_and_ends(apiserver: RunningApiserver) -> None:
    ann = user(f"ann-{uuid.uuid4().hex[:6]}")
    wanted = Target("v1", "configmaps", "default", "c")
    assert not may(apiserver, ann, "get", wanted)
    binding = rbac.RoleBinding()
    binding.metadata.name = ann.name
    binding.metadata.namespace = "default"
    binding.roleRef.apiGroup = "rbac.authorization.k8s.io"
    binding.roleRef.kind = "ClusterRole"
    binding.roleRef.name = "view"
    binding.subjects.add(kind="User", apiGroup="rbac.authorization.k8s.io", name=ann.name)
    bindings = apiserver.client.resource(rbac.RoleBinding)
    await bindings.create(binding)
    await bindings.get(ann.name)
    assert may(apiserver, ann, "get", wanted)
    assert not may(apiserver, ann, "update", wanted)
    assert not may(apiserver, ann, "get", Target("v1", "configmaps", "kube-system", "c"))
    await bindings.delete(ann.name)
    await apiserver.server.registry.reader.confirm()
    assert not may(apiserver, ann, "get", wanted)


async def test_a_kubelet_reads_only_what_its_pods_need(apiserver: RunningApiserver) -> None:
    node = user("system:node:node-7", "system:nodes")
    name = f"p-{uuid.uuid4().hex[:6]}"
    pod = core.Pod()
    pod.metadata.name = name
    pod.metadata.namespace = "default"
    pod.spec.nodeName = "node-7"
    container = pod.spec.containers.add(name="c", image="i")
    container.env.add(name="A").valueFrom.secretKeyRef.localObjectReference.name = "mine"
    container.env[0].valueFrom.secretKeyRef.key = "k"
    pods = apiserver.client.resource(core.Pod)
    await pods.create(pod)
    await pods.get(name)
    assert may(apiserver, node, "get", Target("v1", "secrets", "default", "mine"))
    assert not may(apiserver, node, "get", Target("v1", "secrets", "default", "other"))
    assert not may(apiserver, node, "list", Target("v1", "secrets", "default"))
    assert may(apiserver, node, "patch", Target("v1", "pods", "default", name, "status"))
    other = user("system:node:node-8", "system:nodes")
    assert not may(apiserver, other, "patch", Target("v1", "pods", "default", name, "status"))
    assert may(apiserver, node, "update", Target("v1", "nodes", "", "node-7", "status"))
    assert not may(apiserver, node, "update", Target("v1", "nodes", "", "node-8", "status"))


async def test_service_account_tokens(etcd: Etcd, tmp_path: Path) -> None:
    key = tmp_path / "sa.key"
    key.write_bytes(pki.make_signing_key())
    options = ApiserverOptions(
        insecure=True, etcd_servers=[etcd.address], service_account_signing_key_file=key, service_account_key_file=[]
    )
    async with serving(options) as apiserver:
        accounts = apiserver.client.resource(core.ServiceAccount)
        account = core.ServiceAccount()
        account.metadata.name = f"sa-{uuid.uuid4().hex[:6]}"
        account.metadata.namespace = "default"
        await accounts.create(account)
        name = account.metadata.name
        made = await accounts.subresource_create(name, "default", "token", authentication.TokenRequest())
        assert isinstance(made, authentication.TokenRequest)
        who = await apiserver.server.tokens.user_of(made.status.token)
        assert who is not None and who.name == f"system:serviceaccount:default:{name}"
        assert "system:serviceaccounts:default" in who.groups
        assert await apiserver.server.tokens.user_of(made.status.token[:-4] + "AAAA") is None
        await accounts.delete(name)
        await apiserver.server.registry.reader.confirm()
        later = BearerTokens(token_keys(options), apiserver.server.catalog)
        assert await later.user_of(made.status.token) is None


def test_a_watch_of_one_name_is_authorized_by_that_name() -> None:
    everything = Target("v1", "secrets", "default")
    assert named(everything, "metadata.name=s").name == "s"
    assert named(everything, "metadata.name!=s").name == ""
    assert named(everything, "").name == ""
