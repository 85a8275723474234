"""Rules of pods, a row each: a manifest's part and the causes that Kubernetes gives for it."""

from __future__ import annotations

from typing import Any

import pytest
from refused import (
    CONTAINER,
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    REQUIRED,
    UNSUPPORTED,
    causes_of,
    pod,
    through,
    updated,
    volume,
    workload,
)

V, C = "spec.volumes[0]", "spec.containers[0]"
TOO_LONG = "FieldValueTooLong"
TOKEN = {"serviceAccountToken": {"path": "p"}}


def container(**fields: Any) -> dict[str, Any]:
    return pod({"containers": [{**CONTAINER, **fields}], "volumes": [{"name": "claim", **CLAIM}]})


CLAIM = {"persistentVolumeClaim": {"claimName": "c"}}


def projected(*sources: dict[str, Any]) -> dict[str, Any]:
    return pod({"serviceAccountName": "s", "volumes": [{"name": "v", "projected": {"sources": list(sources)}}]})


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (volume(nfs={"server": "s"}), {(f"{V}.nfs.path", REQUIRED), (f"{V}.nfs.path", INVALID)}),
        (
            volume(fc={"targetWWNs": ["a"], "wwids": ["b"]}),
            {(f"{V}.fc.targetWWNs", INVALID), (f"{V}.fc.lun", REQUIRED)},
        ),
        (
            volume(flocker={"datasetName": "a/b", "datasetUUID": "u"}),
            {(f"{V}.flocker", INVALID), (f"{V}.flocker.datasetName", INVALID)},
        ),
        (volume(csi={"driver": "d" * 64}), {(f"{V}.csi.driver", TOO_LONG)}),
        (
            volume(csi={"driver": "d", "nodePublishSecretRef": {"name": "Bad_"}}),
            {(f"{V}.csi.name", INVALID)},
        ),
        (
            volume(iscsi={"targetPortal": "p" * 64, "iqn": "eui." + "a" * 16, "initiatorName": "eui." + "a" * 16}),
            {(f"{V}.name", INVALID)},
        ),
        # The first that is looked for may be there; that is not the first in the order of declaration.
        (
            volume(gcePersistentDisk={"pdName": "p"}, gitRepo={"repository": "r"}),
            {(f"{V}.gcePersistentDisk", FORBIDDEN)},
        ),
        (volume(secret={"secretName": "s"}, cephfs={"monitors": ["m"]}), {(f"{V}.cephFS", FORBIDDEN)}),
        (volume(secret={"secretName": "s"}, downwardAPI={}), {(f"{V}.downwarAPI", FORBIDDEN)}),
        (
            projected({"secret": {"items": [{"path": "p"}]}}),
            {
                (f"{V}.projected.sources[0].secret.name", REQUIRED),
                (f"{V}.projected.sources[0].secret.items[0].key", REQUIRED),
            },
        ),
        (
            projected({"downwardAPI": {"items": [{"path": "/p"}]}}),
            {
                (f"{V}.projected.sources[0].downwardAPI.path", INVALID),
                (f"{V}.projected.sources[0].downwardAPI", REQUIRED),
            },
        ),
        (
            projected({"configMap": {"name": "c"}, "secret": {}}),
            {(f"{V}.projected.sources[0].secret.name", REQUIRED), (f"{V}.projected.sources[0]", FORBIDDEN)},
        ),
        (projected({"serviceAccountToken": {"path": "../t"}}), {(f"{V}.projected.path", INVALID)}),
        (projected(TOKEN, TOKEN), set()),
    ],
)
def test_volumes(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def reference(**fields: Any) -> dict[str, Any]:
    return container(env=[{"name": "A", "valueFrom": {"resourceFieldRef": fields}}])


def field_of_pod(path: str, version: str = "v1") -> dict[str, Any]:
    return container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path, "apiVersion": version}}}])


FROM = f"{C}.env[0].valueFrom"
PAGES = {"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (
            pod({"containers": [{"image": "i"}, {"image": "i"}]}),
            {
                (f"{C}.name", REQUIRED),
                ("spec.containers[1].name", REQUIRED),
                ("spec.containers[1].name", DUPLICATE),
            },
        ),
        (container(image=" i"), {(f"{C}.image", INVALID)}),
        (pod({"initContainers": [{"name": "i", "image": "i "}]}), {("spec.initContainers[0].image", INVALID)}),
        (
            container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"key": "k"}}}]),
            {(f"{FROM}.configMapKeyRef.name", INVALID)},
        ),
        (
            container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "Bad_", "key": "k"}}}]),
            {(f"{FROM}.secretKeyRef.name", INVALID)},
        ),
        (container(envFrom=[{"configMapRef": {"name": "prefix-"}}]), set()),
        (reference(resource="limits.memory", divisor="1024"), {(f"{FROM}.resourceFieldRef.divisor", INVALID)}),
        (reference(resource="limits.memory", divisor="1Ki"), set()),
        (reference(resource="limits.cpu", divisor="1000m"), set()),
        (reference(resource="limits.hugepages-2Mi", divisor="2"), {(f"{FROM}.resourceFieldRef.divisor", INVALID)}),
        (reference(resource="limits.disk", divisor="2"), {(f"{FROM}.resourceFieldRef.resource", UNSUPPORTED)}),
        (field_of_pod("spec.host"), set()),
        (field_of_pod("metadata.name['a']"), {(f"{FROM}.fieldRef.fieldPath", INVALID)}),
        (field_of_pod("metadata.name", "v2"), {(f"{FROM}.fieldRef.fieldPath", INVALID)}),
        (field_of_pod("metadata.labels"), {(f"{FROM}.fieldRef.fieldPath", UNSUPPORTED)}),
        (
            container(volumeDevices=[{"name": "claim", "devicePath": "/a/.."}]),
            {(f"{C}.volumeDevices[0].devicePath", INVALID)},
        ),
        (
            container(volumeMounts=[{"name": "claim"}, {"name": "claim"}]),
            {
                (f"{C}.volumeMounts[0].mountPath", REQUIRED),
                (f"{C}.volumeMounts[1].mountPath", REQUIRED),
                (f"{C}.volumeMounts[1].mountPath", INVALID),
            },
        ),
        (
            container(resources=PAGES),
            {(f"{C}.resources.limits[hugepages-2Mi]", INVALID), (f"{C}.resources.requests[hugepages-2Mi]", INVALID)},
        ),
        (container(resources={"limits": {"hugepages-2Mi": "4Mi", "cpu": "1"}}), set()),
        (pod({"overhead": {"pods": "1"}}), {("spec.overhead.limits[pods]", INVALID)}),
        (pod({"preemptionPolicy": "Odd"}), {("spec.preemptionPolicy", UNSUPPORTED)}),
        (pod({"preemptionPolicy": ""}), {("spec.preemptionPolicy", REQUIRED)}),
        (pod({"runtimeClassName": ""}), {("spec.runtimeClassName", INVALID)}),
        (
            pod(
                {"hostNetwork": True, "initContainers": [{"name": "i", "image": "i", "ports": [{"containerPort": 1}]}]}
            ),
            set(),
        ),
        (
            pod(annotations={"controller.kubernetes.io/pod-deletion-cost": "+1"}),
            {("metadata.annotations[controller.kubernetes.io/pod-deletion-cost]", INVALID)},
        ),
        (pod(annotations={"controller.kubernetes.io/pod-deletion-cost": "-12"}), set()),
        (
            pod(annotations={"seccomp.security.alpha.kubernetes.io/pod": "localhost//abs"}),
            {("metadata.annotations.seccomp.security.alpha.kubernetes.io/pod", INVALID)},
        ),
        (
            pod(
                {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
                annotations={"seccomp.security.alpha.kubernetes.io/pod": "runtime/default"},
            ),
            {("spec.securityContext.seccompProfile.type", FORBIDDEN)},
        ),
    ],
)
def test_containers_and_the_rest(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def test_images_of_templates_may_be_padded() -> None:
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": " "}]}}
    assert causes_of(workload("Deployment", template=template)) == set()


def addresses(*texts: str) -> dict[str, Any]:
    return {"podIPs": [{"ip": text} for text in texts]}


ENDED = {
    "name": "i",
    "image": "",
    "imageID": "",
    "ready": False,
    "restartCount": 0,
    "state": {"terminated": {"exitCode": 0}},
}
RUNS = {**ENDED, "state": {"running": {}}}


@pytest.mark.parametrize(
    ("spec", "before", "after", "causes"),
    [
        ({}, {}, addresses("10.0.0.1", "::1"), set()),
        ({}, {}, addresses("10.0.0.1", "10.0.0.2"), {("status.podIPs", INVALID)}),
        (
            {},
            {},
            addresses("10.0.0.1", "10.0.0.1"),
            {("status.podIPs", INVALID), ("status.podIPs[1]", DUPLICATE)},
        ),
        ({}, {}, {"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]}, {("status.hostIPs[0].ip", INVALID)}),
        ({}, {"nominatedNodeName": "Bad_"}, {"nominatedNodeName": "Bad_"}, set()),
        (
            {"restartPolicy": "Never"},
            {"initContainerStatuses": [ENDED]},
            {"initContainerStatuses": [RUNS]},
            {("status.initContainerStatuses[0].state", FORBIDDEN)},
        ),
        (
            {"restartPolicy": "Never", "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always"}]},
            {"initContainerStatuses": [ENDED]},
            {"initContainerStatuses": [RUNS]},
            set(),
        ),
    ],
)
def test_status(
    spec: dict[str, Any], before: dict[str, Any], after: dict[str, Any], causes: set[tuple[str, str]]
) -> None:
    assert through(pod(spec), "status", {"status": before}, {"status": after}) == causes


def test_a_deadline_that_grows_is_the_only_thing_told() -> None:
    content = pod({"activeDeadlineSeconds": 5})
    refused = updated(content, activeDeadlineSeconds=9, hostname="h")
    assert refused == {("spec.activeDeadlineSeconds", INVALID)}


def test_debugging_containers_come_through_their_subresource_alone() -> None:
    debug = [{"name": "debug", "image": "i"}]
    assert updated(pod(), ephemeralContainers=debug) == {("spec", FORBIDDEN)}
    assert through(pod(), "ephemeralcontainers", {}, {"spec": {**pod()["spec"], "ephemeralContainers": debug}}) == set()
