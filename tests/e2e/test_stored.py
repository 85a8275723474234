"""What a running cluster leaves in etcd is what a kube-apiserver would have written: read by an independent decoder."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tiller import Cluster, eventually

from tests.integration.etcd_decoder import decode_all
from tests.integration.etcd_reading import stored_pairs

ROOT = Path(__file__).resolve().parents[2]
WORKLOADS = Path(__file__).parent / "workloads.yaml"
WIDGET = """
apiVersion: example.com/v1
kind: Widget
metadata: {name: one, namespace: stored}
spec: {size: 3}
"""
# Kinds that a cluster with these workloads must hold, most of them written by its own components.
EXPECTED = {
    "Namespace",
    "Node",
    "Lease",
    "Service",
    "Endpoints",
    "EndpointSlice",
    "RangeAllocation",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "Pod",
    "Event",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "ControllerRevision",
    "Job",
    "CronJob",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "Ingress",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "StorageClass",
    "PersistentVolume",
    "PriorityClass",
    "CustomResourceDefinition",
    "Widget",
}
# What every Kubernetes cluster holds from its start.
ALWAYS = (
    *(f"namespaces/{name}" for name in ("default", "kube-system", "kube-public", "kube-node-lease")),
    "services/specs/default/kubernetes",
    "services/endpoints/default/kubernetes",
    "endpointslices/default/kubernetes",
    "ranges/serviceips",
    "ranges/servicenodeports",
    "configmaps/default/kube-root-ca.crt",
    "configmaps/kube-system/kube-root-ca.crt",
    "serviceaccounts/default/default",
    "clusterroles/cluster-admin",
    "priorityclasses/system-node-critical",
    "priorityclasses/system-cluster-critical",
)


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    cluster = new_cluster("stored", "--runtime=process", f"--process-image-path={ROOT / 'examples'}")
    cluster.up()
    yield cluster
    cluster.down()


def test_everything_in_etcd_is_kubernetes_own(cluster: Cluster) -> None:
    cluster("apply", "-f", str(WORKLOADS))
    eventually(lambda: cluster("apply", "-f", "-", stdin=WIDGET), "the definition is in force", 30, cluster.tell)

    def running() -> bool:
        pods = cluster.json("get", "pods", "-n", "stored")["items"]
        return len([pod for pod in pods if pod["status"].get("phase") == "Running"]) >= 5

    eventually(running, "the workloads run", 90, cluster.tell)
    pairs = asyncio.run(stored_pairs(*etcd_of(cluster)))
    objects, faults = decode_all(pairs)
    assert not faults, f"{len(faults)} of {len(pairs)}\n" + "\n".join(faults[:20])
    kinds = collections.Counter(kind for kind, _ in objects.values())
    assert kinds.keys() >= EXPECTED, EXPECTED - kinds.keys()
    assert not {f"/registry/{key}" for key in ALWAYS} - objects.keys()
    leased = [pair.key for pair in pairs if pair.lease]
    assert len(leased) == kinds["Event"]
    check_ranges(objects)


def check_ranges(objects: dict[str, tuple[str, Any]]) -> None:
    """The bitmaps hold exactly what the Services have."""
    services = [obj for kind, obj in objects.values() if kind == "Service"]
    addresses = {obj.get("spec.clusterIP") for obj in services} - {"None", ""}
    assert bits(objects["/registry/ranges/serviceips"]) == len(addresses)
    ports = [port for obj in services for port in obj.get("spec.ports", []) if port.get("nodePort")]
    assert bits(objects["/registry/ranges/servicenodeports"]) == len(ports)


def bits(found: tuple[str, Any]) -> int:
    return int.from_bytes(found[1].get("data", b""), "big").bit_count()


def etcd_of(cluster: Cluster) -> tuple[str, grpc.ChannelCredentials]:
    """Where etcd listens, and what it takes to be let in: as `tiller status` says."""
    lines = cluster("status").splitlines()
    address, files = (
        next(line for line in lines if line.startswith(f"{what}  ")).removeprefix(what).split()
        for what in ("etcd", "etcd files")
    )
    ca, certificate, key = (Path(path).read_bytes() for path in files)
    return address[0].removeprefix("https://"), grpc.ssl_channel_credentials(ca, key, certificate)
