"""Rules of single fields of volumes, claims and storage.k8s.io, and the path types of Ingresses."""

from __future__ import annotations

from typing import Any

import pytest
from refused import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, UNSUPPORTED, causes_of, updated

STORAGE = "storage.k8s.io/v1"
CSI = {"driver": "a.test", "volumeHandle": "h"}
INLINE = "spec.source.inlineVolumeSpec"


def volume(**spec: Any) -> dict[str, Any]:
    content = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "spec": content}


def claim(**spec: Any) -> dict[str, Any]:
    resources = {"requests": {"storage": "2Gi"}}
    content = {"accessModes": ["ReadWriteOnce"], "resources": resources, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": content}


def storage_class(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": STORAGE, "kind": "StorageClass", "provisioner": "a.test/p", **fields}


def term(*values: str) -> dict[str, Any]:
    return {"matchLabelExpressions": [{"key": "zone", "values": list(values)}]}


def attachment(source: dict[str, Any], **spec: Any) -> dict[str, Any]:
    content = {"attacher": "a.test", "nodeName": "n", "source": source, **spec}
    return {"apiVersion": STORAGE, "kind": "VolumeAttachment", "spec": content}


def inline(**spec: Any) -> dict[str, Any]:
    return attachment({"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "csi": CSI, **spec}})


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (volume(hostPath={"path": "/a"}, capacity={}), {("spec.capacity", REQUIRED), ("spec.capacity", UNSUPPORTED)}),
        (volume(hostPath={"path": "/a"}, gcePersistentDisk={"pdName": "p"}), {("spec.gcePersistentDisk", FORBIDDEN)}),
        (
            volume(hostPath={"path": "/./"}, persistentVolumeReclaimPolicy="Recycle"),
            {("spec.persistentVolumeReclaimPolicy", FORBIDDEN)},
        ),
        (
            volume(hostPath={"path": ""}, persistentVolumeReclaimPolicy="Recycle"),
            {("spec.hostPath.path", REQUIRED)},
        ),
        (
            volume(glusterfs={"endpoints": "e", "path": "p", "endpointsNamespace": ""}),
            {("spec.glusterfs.endpointsNamespace", REQUIRED)},
        ),
        (
            volume(glusterfs={"endpoints": "e", "path": "p", "endpointsNamespace": "Bad_"}),
            {("spec.glusterfs.endpointsNamespace", INVALID)},
        ),
        (
            volume(iscsi={"targetPortal": "t", "iqn": "iqn.2001-04.com.example:a", "secretRef": {}}),
            {("spec.iscsi.secretRef.name", REQUIRED)},
        ),
        (
            volume(csi={**CSI, "nodeExpandSecretRef": {"name": "s"}}),
            {("spec.csi.nodeExpandSecretRef.namespace", REQUIRED)},
        ),
    ],
)
def test_volumes(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content, namespaced=False) == causes


def test_a_claim_shrinks_neither_before_it_is_bound_nor_after() -> None:
    smaller = {"requests": {"storage": "1Gi"}}
    refused = {("spec", FORBIDDEN), ("spec.resources.requests.storage", FORBIDDEN)}
    assert updated(claim(), resources=smaller) == refused


def test_the_mode_of_a_claim_is_refused_as_a_part_and_as_a_field() -> None:
    assert updated(claim(), volumeMode="Block") == {("spec", FORBIDDEN), ("volumeMode", INVALID)}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (storage_class(reclaimPolicy=""), set()),
        (storage_class(allowedTopologies=[term("not a label!")]), set()),
        (storage_class(allowedTopologies=[term("a", "b"), term("a")]), set()),
        (
            storage_class(allowedTopologies=[term("a", "b"), term("b", "a")]),
            {("allowedTopologies[1].matchLabelExpressions", DUPLICATE)},
        ),
        (storage_class(allowedTopologies=[{}]), {("allowedTopologies[0].matchLabelExpressions", DUPLICATE)}),
    ],
)
def test_classes(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content, namespaced=False) == causes


@pytest.mark.parametrize(
    ("requests", "causes"),
    [
        (
            [{"audience": "a"}, {"audience": "a", "expirationSeconds": 1}],
            {("spec.tokenRequests[1].audience", DUPLICATE)},
        ),
        (
            [{"audience": "a", "expirationSeconds": (1 << 32) + 1}],
            {("spec.tokenRequests[0].expirationSeconds", INVALID)},
        ),
    ],
)
def test_tokens_of_drivers(requests: list[dict[str, Any]], causes: set[tuple[str, str]]) -> None:
    driver = {"apiVersion": STORAGE, "kind": "CSIDriver", "spec": {"tokenRequests": requests}}
    assert causes_of(driver, namespaced=False) == causes


@pytest.mark.parametrize(
    ("changed", "causes"),
    [
        ({"nodeID": "other"}, {("CSINodeDriver", INVALID)}),
        ({"topologyKeys": ["zone"]}, {("CSINodeDriver", INVALID)}),
        ({"allocatable": {"count": 3}}, set()),
        ({"name": "b.test"}, set()),
    ],
)
def test_changes_of_a_nodes_drivers(changed: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    driver = {"name": "a.test", "nodeID": "n"}
    node = {"apiVersion": STORAGE, "kind": "CSINode", "spec": {"drivers": [driver]}}
    assert updated(node, drivers=[{**driver, **changed}]) == causes


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (attachment({}), {("spec.source", REQUIRED)}),
        (
            attachment({"persistentVolumeName": "p", "inlineVolumeSpec": {}}),
            {("spec.source", FORBIDDEN)},
        ),
        (
            attachment({"persistentVolumeName": ""}),
            {("spec.source.persistentVolumeName", REQUIRED), ("spec.source.persistentVolumeName", INVALID)},
        ),
        (attachment({"persistentVolumeName": "p"}, nodeName=""), {("spec.nodeName", INVALID)}),
        (
            attachment({"persistentVolumeName": "p"}, attacher=""),
            {("spec.attacher", REQUIRED), ("spec.attacher", INVALID)},
        ),
        (inline(), set()),
        (
            attachment({"inlineVolumeSpec": {}}),
            {(INLINE, REQUIRED), (f"{INLINE}.accessModes", REQUIRED), (f"{INLINE}.csi", REQUIRED)},
        ),
        (
            inline(
                capacity={"storage": "1Gi"},
                claimRef={"name": "c"},
                nodeAffinity={},
                storageClassName="s",
                persistentVolumeReclaimPolicy="Delete",
                volumeMode="Block",
            ),
            {
                (f"{INLINE}.{field}", FORBIDDEN)
                for field in (
                    "capacity",
                    "claimRef",
                    "nodeAffinity",
                    "storageClassName",
                    "persistentVolumeReclaimPolicy",
                    "volumeMode",
                )
            },
        ),
    ],
)
def test_attachments(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content, namespaced=False) == causes


def test_a_path_without_a_type_is_looked_at_no_further() -> None:
    rule = {"http": {"paths": [{"path": "/", "backend": {}}]}}
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"rules": [rule]}}
    assert causes_of(ingress) == {("spec.rules[0].http.paths[0].pathType", REQUIRED)}
