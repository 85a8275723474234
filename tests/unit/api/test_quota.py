"""What quotas limit and what objects use, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from tillerman.api import codec, quota
from tillerman.pb.k8s import core_v1_pb2 as core

NOW = 1_700_000_000.0


def of(kind: str, **content: Any) -> Any:
    return codec.from_dict({"apiVersion": "v1", "kind": kind, **content})


def container(**resources: dict[str, str]) -> dict[str, Any]:
    return {"name": "c", "image": "i", "resources": resources}


def pod(*containers: dict[str, Any], status: dict[str, Any] | None = None, **spec: Any) -> Any:
    return of("Pod", spec={"containers": list(containers) or [container()], **spec}, status=status or {})


def used(kind: tuple[str, str], obj: Any) -> dict[str, str]:
    return {name: str(amount) for name, amount in quota.usage(*kind, obj, now=NOW).items()}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (pod(), {"pods": "1"}),
        (pod(status={"phase": "Succeeded"}), {}),
        (
            pod(container(requests={"cpu": "500m", "memory": "1G"}), container(limits={"memory": "1Gi"})),
            {
                "pods": "1",
                "cpu": "500m",
                "requests.cpu": "500m",
                "memory": "1G",
                "requests.memory": "1G",
                "limits.memory": "1073741824",
            },
        ),
        (
            pod(container(requests={"cpu": "1"}), initContainers=[container(requests={"cpu": "3"})]),
            {"pods": "1", "cpu": "3", "requests.cpu": "3"},
        ),
        (
            pod(container(requests={"example.com/gpu": "2"}, limits={"example.com/gpu": "2"})),
            {"pods": "1", "requests.example.com/gpu": "2"},
        ),
        (
            pod(container(requests={"cpu": "1"}), overhead={"cpu": "250m"}),
            {"pods": "1", "cpu": "1250m", "requests.cpu": "1250m"},
        ),
    ],
)
def test_what_pods_use(obj: Any, expected: dict[str, str]) -> None:
    assert used(quota.PODS, obj) == {"count/pods": "1", **expected}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "ClusterIP", "ports": [{"port": 1}]}, {}),
        ({"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}, {"services.nodeports": "2"}),
        (
            {"type": "LoadBalancer", "ports": [{"port": 1}]},
            {"services.nodeports": "1", "services.loadbalancers": "1"},
        ),
        (
            {
                "type": "LoadBalancer",
                "allocateLoadBalancerNodePorts": False,
                "ports": [{"port": 1}, {"port": 2, "nodePort": 30000}],
            },
            {"services.nodeports": "1", "services.loadbalancers": "1"},
        ),
    ],
)
def test_what_services_use(spec: dict[str, Any], expected: dict[str, str]) -> None:
    assert used(quota.SERVICES, of("Service", spec=spec)) == {"count/services": "1", "services": "1", **expected}


def test_what_claims_use() -> None:
    claim = of(
        "PersistentVolumeClaim", spec={"storageClassName": "gold", "resources": {"requests": {"storage": "2Gi"}}}
    )
    expected = {
        "count/persistentvolumeclaims": "1",
        "persistentvolumeclaims": "1",
        "requests.storage": "2Gi",
        "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
        "gold.storageclass.storage.k8s.io/requests.storage": "2Gi",
    }
    assert used(quota.CLAIMS, claim) == expected
    claim.status.allocatedResources["storage"].string = "3Gi"
    assert used(quota.CLAIMS, claim)["requests.storage"] == "3Gi"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pods", ("", "pods")),
        ("requests.example.com/gpu", ("", "pods")),
        ("requests.hugepages-2Mi", ("", "pods")),
        ("services.nodeports", ("", "services")),
        ("gold.storageclass.storage.k8s.io/requests.storage", ("", "persistentvolumeclaims")),
        ("requests.storage", ("", "persistentvolumeclaims")),
        ("secrets", ("", "secrets")),
        ("count/deployments.apps", ("apps", "deployments")),
        ("count/crontabs.stable.example.com", ("stable.example.com", "crontabs")),
        ("odd", None),
    ],
)
def test_what_names_are_about(name: str, kind: tuple[str, str] | None) -> None:
    assert quota.kind_counted(name) == kind
    if kind is not None:
        assert quota.matching([name, "odd"], *kind) == [name]


def selecting(operator: str, *values: str, scope: str = "PriorityClass") -> Any:
    expression = {"scopeName": scope, "operator": operator, "values": list(values)}
    return of("ResourceQuota", spec={"scopeSelector": {"matchExpressions": [expression]}}).spec


TERM = {"topologyKey": "t", "namespaces": ["x"]}


@pytest.mark.parametrize(
    ("spec", "obj", "fits"),
    [
        (of("ResourceQuota", spec={"scopes": ["Terminating"]}).spec, pod(activeDeadlineSeconds=1), True),
        (of("ResourceQuota", spec={"scopes": ["NotTerminating"]}).spec, pod(activeDeadlineSeconds=1), False),
        (of("ResourceQuota", spec={"scopes": ["BestEffort", "NotTerminating"]}).spec, pod(), True),
        (of("ResourceQuota", spec={"scopes": ["NotBestEffort"]}).spec, pod(), False),
        (selecting("In", "a", "b"), pod(priorityClassName="a"), True),
        (selecting("In", "a", "b"), pod(), False),
        (selecting("NotIn", "a"), pod(), True),
        (selecting("NotIn", "a"), pod(priorityClassName="a"), False),
        (selecting("Exists"), pod(), False),
        (selecting("DoesNotExist"), pod(), True),
        (
            selecting("Exists", scope="CrossNamespacePodAffinity"),
            pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}}),
            True,
        ),
        (selecting("Exists", scope="CrossNamespacePodAffinity"), pod(), False),
    ],
)
def test_scopes(spec: Any, obj: Any, fits: bool) -> None:
    assert quota.in_scopes(spec, *quota.PODS, obj) is fits
    assert quota.in_scopes(spec, "", "configmaps", core.ConfigMap()) is False


def test_the_scope_of_claims() -> None:
    spec = selecting("In", "fast", scope="VolumeAttributesClass")
    claims = [of("PersistentVolumeClaim", spec={"volumeAttributesClassName": name}) for name in ("fast", "slow")]
    assert [quota.in_scopes(spec, *quota.CLAIMS, claim) for claim in claims] == [True, False]
    assert not quota.in_scopes(spec, *quota.PODS, pod())


def test_what_a_pod_leaves_unsaid() -> None:
    obj = pod(container(requests={"cpu": "1"}), container(requests={"cpu": "1"}, limits={"memory": "1Gi"}))
    assert quota.unspecified(obj, ["requests.cpu", "limits.memory", "pods"]) == ["limits.memory"]
    assert quota.unspecified(obj, ["cpu", "requests.storage"]) == []


def test_sums_keep_their_notation() -> None:
    total: quota.Usage = {}
    for amount in ("1Gi", "1Gi"):
        quota.add(total, quota.amounts_of(of("Pod", spec={"overhead": {"memory": amount}}).spec.overhead))
    assert quota.shown(total, ["memory", "cpu"]) == "cpu=0,memory=2Gi"
