"""Rules of single fields, a row each: a manifest's part and the causes that Kubernetes gives for it.

Those of pods and of workloads have files of their own."""

from __future__ import annotations

from typing import Any

import pytest
from refused import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    REQUIRED,
    UNSUPPORTED,
    causes_of,
    cron,
    through,
    updated,
    workload,
)

from services.apiserver import strategy
from tillerman.api import codec


def service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}], **spec}}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (service(type="LoadBalancer", ports=[{"port": 10250}]), {("spec.ports[0]", INVALID)}),
        (service(ipFamilies=["IPv5"]), {("spec.ipFamilies[0]", UNSUPPORTED)}),
        (service(ipFamilies=["IPv4", "IPv4"]), {("spec.ipFamilies[1]", DUPLICATE)}),
        (service(ipFamilies=["IPv6"], clusterIP="10.0.0.1"), {("spec.clusterIPs[0]", INVALID)}),
        (service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1", "10.0.0.2"]), {("spec.clusterIPs", INVALID)}),
        (
            service(ipFamilyPolicy="SingleStack", ipFamilies=["IPv4", "IPv6"]),
            {("spec.ipFamilyPolicy", INVALID)},
        ),
        (
            service(type="ExternalName", externalName="a.b", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack"),
            {("spec.ipFamilies", FORBIDDEN), ("spec.ipFamilyPolicy", FORBIDDEN)},
        ),
        (service(allocateLoadBalancerNodePorts=True), {("spec.allocateLoadBalancerNodePorts", FORBIDDEN)}),
        (service(loadBalancerClass="a/b"), {("spec.loadBalancerClass", FORBIDDEN)}),
        (service(trafficDistribution="Far"), {("spec.trafficDistribution", UNSUPPORTED)}),
        (service(clusterIPs=["10.0.0.1"]), {("spec.clusterIPs", INVALID)}),
        (service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.2"]), {("spec.clusterIPs", INVALID)}),
        (service(clusterIP="None", clusterIPs=["None", "10.0.0.1"]), {("spec.clusterIPs", INVALID)}),
        (service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1", "None"]), {("spec.clusterIPs[1]", INVALID)}),
        (service(type="ExternalName", externalName="a.b", clusterIP="None"), {("spec.clusterIPs", FORBIDDEN)}),
        (service(externalTrafficPolicy="Local"), {("spec.externalTrafficPolicy", INVALID)}),
        # Alone, once all else is right.
        (service(externalTrafficPolicy="Local", sessionAffinity="x"), {("spec.sessionAffinity", UNSUPPORTED)}),
        (service(healthCheckNodePort=30001), {("spec.healthCheckNodePort", INVALID)}),
        (service(healthCheckNodePort=-1), {("spec.healthCheckNodePort", INVALID)}),
        (
            service(sessionAffinity="x", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 1}}),
            {("spec.sessionAffinity", UNSUPPORTED)},
        ),
        (
            service(loadBalancerSourceRanges=["here"]),
            {("spec.LoadBalancerSourceRanges", FORBIDDEN), ("spec.LoadBalancerSourceRanges", INVALID)},
        ),
    ],
)
def test_services(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def event(version: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": "Event", **fields}


MODERN = {
    "eventTime": "2026-01-01T00:00:00.000000Z",
    "reportingController": "a.b/c",
    "reportingInstance": "i",
    "action": "A",
    "reason": "R",
    "type": "Normal",
    "regarding": {"kind": "Pod", "name": "p", "namespace": "n"},
}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (event("v1", involvedObject={"namespace": "n"}), set()),
        (event("v1", involvedObject={"namespace": "m"}), {("involvedObject.namespace", INVALID)}),
        (event("v1"), {("involvedObject.namespace", INVALID)}),
        (event("events.k8s.io/v1", **MODERN), set()),
        (
            event("events.k8s.io/v1", regarding={"namespace": "n"}),
            {("eventTime", REQUIRED), ("type", INVALID)},
        ),
        (
            event("events.k8s.io/v1", **{**MODERN, "action": "", "reason": "r" * 129, "note": "n" * 1025}),
            {("action", REQUIRED), ("reason", INVALID), ("message", INVALID)},
        ),
        (
            event("events.k8s.io/v1", **MODERN, series={"count": 1}, deprecatedCount=2),
            {("series.count", INVALID), ("series.lastObservedTime", REQUIRED), ("count", INVALID)},
        ),
    ],
)
def test_events(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


ALLOTTED = service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1"], ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
BALANCED = service(
    type="LoadBalancer",
    externalTrafficPolicy="Local",
    healthCheckNodePort=30100,
    clusterIP="10.0.0.1",
    ipFamilies=["IPv4"],
    loadBalancerClass="a/b",
)


@pytest.mark.parametrize(
    ("content", "changes", "causes"),
    [
        (ALLOTTED, {"ipFamilies": []}, set()),
        (ALLOTTED, {"clusterIP": "", "clusterIPs": []}, {("spec.clusterIPs[0]", INVALID)}),
        (
            ALLOTTED,
            {"ipFamilies": ["IPv6"], "clusterIP": "::1", "clusterIPs": ["::1"]},
            {("spec.ipFamilies[0]", INVALID), ("spec.clusterIPs[0]", INVALID)},
        ),
        (ALLOTTED, {"type": "ExternalName", "externalName": "a.b", "ports": []}, set()),
        (BALANCED, {"healthCheckNodePort": 30101}, {("spec.healthCheckNodePort", INVALID)}),
        (BALANCED, {"loadBalancerClass": "c/d"}, {("spec.loadBalancerClass", INVALID)}),
        (BALANCED, {"type": "ClusterIP"}, set()),
    ],
)
def test_updates(content: dict[str, Any], changes: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert updated(content, **changes) == causes


def test_claims_name_their_source_in_both_fields() -> None:
    source = {"kind": "PersistentVolumeClaim", "name": "other"}
    claim: Any = codec.from_dict(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "x"}, "spec": {"dataSource": source}}
    )
    strategy.prepare_for_create(claim)
    assert codec.to_dict(claim.spec.dataSourceRef) == {**source, "apiGroup": None}


@pytest.mark.parametrize(
    ("before", "after", "causes"),
    [
        ([], ["Approved"], set()),
        (["Approved"], [], {("status.conditions", FORBIDDEN)}),
        ([], ["Approved", "Denied"], {("status.conditions", INVALID)}),
    ],
)
def test_approvals(before: list[str], after: list[str], causes: set[tuple[str, str]]) -> None:
    request = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    states = [{"status": {"conditions": [{"type": t, "status": "True"} for t in kinds]}} for kinds in (before, after)]
    assert through(request, "approval", *states) == causes


def stateful(**spec: Any) -> dict[str, Any]:
    return workload("StatefulSet", serviceName="s", **spec)


def slice_with(**endpoint: Any) -> dict[str, Any]:
    content = {"addresses": ["10.0.0.1"], **endpoint}
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [content]}


ROLLING = "spec.updateStrategy.rollingUpdate"
ZONES = "endpoints[0].hints.forZones"


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (cron(timeZone="Europe/Berlin"), set()),
        (cron(timeZone="Nowhere/At-All"), {("spec.timeZone", INVALID)}),
        (cron(schedule="TZ=UTC * * * * *"), {("spec.schedule", INVALID)}),
        (stateful(ordinals={"start": -1}), {("spec.ordinals.start", INVALID)}),
        (
            stateful(persistentVolumeClaimRetentionPolicy={"whenScaled": "Odd"}),
            {("spec.persistentVolumeClaimRetentionPolicy.whenScaled", UNSUPPORTED)},
        ),
        (
            stateful(updateStrategy={"rollingUpdate": {"maxUnavailable": 0}}),
            {(f"{ROLLING}.maxUnavailable", INVALID)},
        ),
        (slice_with(hints={"forZones": [{"name": "a"}, {"name": "b"}]}), set()),
        (slice_with(hints={"forZones": [{"name": ""}]}), {(f"{ZONES}[0].name", REQUIRED)}),
        (slice_with(hints={"forZones": [{"name": "a"}] * 2}), {(f"{ZONES}[1].name", DUPLICATE)}),
        (slice_with(hints={"forZones": [{"name": "a"}] * 9}), {(ZONES, "FieldValueTooMany")}),
    ],
)
def test_newer_fields_of_other_kinds(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def test_drivers_and_leases() -> None:
    driver = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "spec": {"nodeAllocatableUpdatePeriodSeconds": 9}}
    assert causes_of(driver, namespaced=False) == {("spec.nodeAllocatableUpdatePeriodSeconds", INVALID)}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"preferredHolder": "a"}}
    assert causes_of(lease) == {("spec.preferredHolder", FORBIDDEN)}
    lease["spec"] = {"strategy": "Odd"}
    assert causes_of(lease) == {("spec.strategy", INVALID)}


def test_a_claim_keeps_a_class_of_attributes() -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {**spec, "volumeAttributesClassName": "a"}}
    assert updated(claim, volumeAttributesClassName="b") == set()
    assert updated(claim, volumeAttributesClassName=None) == {("spec.volumeAttributesClassName", FORBIDDEN)}


def quota(scope: str, operator: str, **hard: str) -> dict[str, Any]:
    requirement = {"scopeName": scope, "operator": operator, **({"values": ["v"]} if operator == "In" else {})}
    spec = {"hard": hard, "scopeSelector": {"matchExpressions": [requirement]}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "spec": spec}


SELECTED = "spec.scopeSelector.matchExpressions"


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (quota("CrossNamespacePodAffinity", "Exists", pods="1"), set()),
        (quota("CrossNamespacePodAffinity", "In", pods="1"), {(f"{SELECTED}.operator", INVALID)}),
        (quota("VolumeAttributesClass", "In", persistentvolumeclaims="1"), set()),
        (quota("VolumeAttributesClass", "In", pods="1"), {(SELECTED, INVALID)}),
    ],
)
def test_scopes_of_quotas(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def test_an_ingress_class_names_a_namespace_as_namespaces_are_named() -> None:
    parameters = {"kind": "K", "name": "n", "scope": "Namespace", "namespace": "Bad_"}
    spec = {"controller": "a.b/c", "parameters": parameters}
    ingress_class = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "spec": spec}
    assert causes_of(ingress_class, namespaced=False) == {("spec.parameters.namespace", INVALID)}


def test_errors_of_attachments_are_short() -> None:
    attachment = {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment"}
    error = {"status": {"attached": False, "attachError": {"message": "m" * 1025}}}
    assert through(attachment, "status", {}, error) == {("status.attachError.message", "FieldValueTooLong")}


@pytest.mark.parametrize(
    ("finalizers", "causes"),
    [
        ([], set()),
        (["kubernetes", "ex.test/f"], set()),
        (["kubernetes", "bad"], {("spec.finalizers[1]", INVALID)}),
        (["not good/x"], {("spec.finalizers[0]", INVALID)}),
    ],
)
def test_what_the_finalize_of_a_namespace_takes(finalizers: list[str], causes: set[tuple[str, str]]) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    old, new = {"spec": {"finalizers": ["kubernetes"]}}, {"spec": {"finalizers": finalizers}}
    assert through(namespace, "finalize", old, new) == causes


@pytest.mark.parametrize(
    ("api_version", "kind", "kept"),
    [
        ("storage.k8s.io/v1", "VolumeAttachment", True),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", True),
        ("apiregistration.k8s.io/v1", "APIService", True),
        ("v1", "PersistentVolume", False),
        ("v1", "Node", False),
    ],
)
def test_whose_metadata_a_write_of_the_status_leaves_alone(api_version: str, kind: str, kept: bool) -> None:
    def labelled(text: str) -> Any:
        metadata = {"name": "x", "labels": {"l": text}, "finalizers": [f"ex.test/{text}"]}
        return codec.from_dict({"apiVersion": api_version, "kind": kind, "metadata": metadata})

    old, new = labelled("old"), labelled("new")
    strategy.prepare_for_update(new, old, "status")
    told = "old" if kept else "new"
    assert (dict(new.metadata.labels), list(new.metadata.finalizers)) == ({"l": told}, [f"ex.test/{told}"])


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("a.b", ""),
        ("a.b.", ""),
        ("", "Required value"),
        ("a", 'Invalid value: "a": should be a domain with at least two segments separated by dots'),
        ("A.b", 'Invalid value: "A.b": a lowercase RFC 1123 subdomain must consist of'),
    ],
)
def test_names_in_slices_are_whole_domains(address: str, problem: str) -> None:
    content = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s", "namespace": "a"},
    }
    found: Any = codec.from_dict({**content, "addressType": "FQDN", "endpoints": [{"addresses": [address]}]})
    causes = strategy.validate_create(found)
    assert [cause.field for cause in causes] == (["endpoints[0].addresses[0]"] if problem else [])
    assert all(cause.message.startswith(problem) for cause in causes)


def test_too_many_are_not_looked_at_one_by_one() -> None:
    content = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4"}
    assert causes_of({**content, "endpoints": [{}] * 1001}) == {("endpoints", "FieldValueTooMany")}
    assert causes_of({**content, "ports": [{"name": "A_"}] * 101}) == {("ports", "FieldValueTooMany")}


def test_protocols_of_endpoints_have_names_of_their_own() -> None:
    content = {"apiVersion": "v1", "kind": "Endpoints"}
    subset = {"addresses": [{"ip": "1.2.3.4"}], "ports": [{"port": 80, "appProtocol": "a/b/c"}]}
    assert causes_of({**content, "subsets": [subset]}) == {("subsets[0].ports[0].appProtocol", INVALID)}


@pytest.mark.parametrize(("phase", "right"), [("Active", True), ("Terminating", False), ("Gone", False)])
def test_a_namespace_that_stays_is_active(phase: str, right: bool) -> None:
    content = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}
    old: Any = codec.from_dict({**content, "status": {"phase": "Active"}})
    new: Any = codec.from_dict({**content, "status": {"phase": phase}})
    causes = strategy.validate_update(new, old, "status")
    assert [cause.field for cause in causes] == ([] if right else ["status.Phase"])


def ingress(**path: Any) -> dict[str, Any]:
    rule = {"host": "a.b", "http": {"paths": [path]}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"rules": [rule]}}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        # Nothing else is said of a path that does not say how it is meant.
        (ingress(path="a"), {("pathType", REQUIRED)}),
        (ingress(pathType="Prefix", path="/"), {("backend", INVALID)}),
        (
            ingress(pathType="Prefix", path="/", backend={"resource": {"apiGroup": "", "kind": "K", "name": "n"}}),
            {("backend.resource.apiGroup", INVALID)},
        ),
    ],
)
def test_paths_of_ingresses(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == {(f"spec.rules[0].http.paths[0].{field}", reason) for field, reason in causes}


def test_the_first_exception_that_is_no_network_is_the_last_that_is_looked_at() -> None:
    block = {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16", "here", "12.0.0.0/16"]}
    policy = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": block}]}]}
    content = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": policy}
    where = "spec.ingress[0].from[0].ipBlock.except"
    assert causes_of(content) == {(f"{where}[0]", INVALID), (f"{where}[1]", INVALID)}
