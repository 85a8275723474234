"""Rules of single fields, a row each: a manifest's part and the causes that Kubernetes gives for it."""

from __future__ import annotations

from typing import Any

import pytest
from refused import (
    CONTAINER,
    DUPLICATE,
    FORBIDDEN,
    HOST_PORT,
    INVALID,
    LABELS,
    LABELS_FIELD,
    REQUIRED,
    SPREAD,
    UNSUPPORTED,
    causes_of,
    cron,
    job,
    pod,
    through,
    updated,
    volume,
    workload,
)

from services.apiserver import strategy
from tillerman.api import codec

SOURCE = "spec.volumes[0]"


@pytest.mark.parametrize(
    ("source", "causes"),
    [
        ({"gitRepo": {"repository": "r", "directory": "../up"}}, {(f"{SOURCE}.gitRepo.directory", INVALID)}),
        ({"flocker": {"datasetName": "a/b"}}, {(f"{SOURCE}.flocker.datasetName", INVALID)}),
        ({"quobyte": {"registry": "host", "volume": "v"}}, {(f"{SOURCE}.quobyte.registry", INVALID)}),
        (
            {"quobyte": {"registry": "h:1", "volume": "v", "tenant": "t" * 65}},
            {(f"{SOURCE}.quobyte.tenant", REQUIRED)},
        ),
        (
            {"flexVolume": {"driver": "d", "options": {"x.kubernetes.io/a": "1", "mine/a": "1"}}},
            {(f"{SOURCE}.flexVolume.options[x.kubernetes.io/a]", INVALID)},
        ),
        ({"cinder": {"volumeID": "i", "secretRef": {}}}, {(f"{SOURCE}.cinder.secretRef.name", REQUIRED)}),
        ({"storageos": {"volumeName": "Bad_"}}, {(f"{SOURCE}.storageos.volumeName", INVALID)}),
        ({"storageos": {}}, {(f"{SOURCE}.storageos.volumeName", REQUIRED)}),
        (
            {"azureDisk": {"diskName": "d", "diskURI": "ftp://x"}},
            {(f"{SOURCE}.azureDisk.diskURI", UNSUPPORTED)},
        ),
        (
            {"azureDisk": {"diskName": "d", "diskURI": "/subscriptions/x", "kind": "Managed"}},
            set(),
        ),
        (
            {"csi": {"driver": "d.example", "nodePublishSecretRef": {}}},
            {(f"{SOURCE}.csi.nodePublishSecretRef.name", REQUIRED)},
        ),
        (
            {"iscsi": {"targetPortal": "p", "iqn": "iqn.bad", "lun": 0}},
            {(f"{SOURCE}.iscsi.iqn", INVALID)},
        ),
        (
            {"iscsi": {"targetPortal": "p", "iqn": "iqn.2001-04.com.example:x", "lun": 0, "initiatorName": "x"}},
            {(f"{SOURCE}.iscsi.initiatorname", INVALID)},
        ),
        ({"image": {"pullPolicy": "Always"}}, {(f"{SOURCE}.image.reference", REQUIRED)}),
        ({"secret": {"secretName": "s", "items": [{"key": "any key", "path": "p"}]}}, set()),
    ],
)
def test_volume_sources(source: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(volume(**source)) == causes


WINDOWS = "spec.securityContext.windowsOptions"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"runAsUserName": ""}, "runAsUserName"),
        ({"runAsUserName": "a\\b\\c"}, "runAsUserName"),
        ({"runAsUserName": "a\tb"}, "runAsUserName"),
        ({"runAsUserName": "DOMAIN\\"}, "runAsUserName"),
        ({"runAsUserName": "..."}, "runAsUserName"),
        ({"runAsUserName": "us:er"}, "runAsUserName"),
        ({"runAsUserName": ".net\\user"}, "runAsUserName"),
        ({"runAsUserName": "u" * 105}, "runAsUserName"),
        ({"gmsaCredentialSpecName": "Bad_"}, "gmsaCredentialSpecName"),
        ({"gmsaCredentialSpec": ""}, "gmsaCredentialSpec"),
    ],
)
def test_windows_options(options: dict[str, Any], field: str) -> None:
    refused = causes_of(pod({"securityContext": {"windowsOptions": options}}))
    assert refused == {(f"{WINDOWS}.{field}", INVALID)}


def test_windows_user_of_a_domain() -> None:
    options = {"runAsUserName": "NT AUTHORITY\\Local Service"}
    assert causes_of(pod({"securityContext": {"windowsOptions": options}})) == set()


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (
            pod({"containers": [{**CONTAINER, "terminationMessagePolicy": "Odd"}]}),
            {("spec.containers[0].terminationMessagePolicy", INVALID)},
        ),
        (
            pod({"securityContext": {"appArmorProfile": {"type": "Localhost"}}}),
            {("spec.securityContext.appArmorProfile.localhostProfile", REQUIRED)},
        ),
        (
            pod({"initContainers": [{"name": n, "image": "i", "ports": HOST_PORT} for n in "ab"]}),
            set(),
        ),
        (pod({"nodeName": "n", "schedulingGates": [{"name": "a/b"}]}), {("spec.nodeName", FORBIDDEN)}),
        (
            pod({"topologySpreadConstraints": [{**SPREAD, "nodeTaintsPolicy": "Odd", "matchLabelKeys": ["a b"]}]}),
            {
                ("spec.topologySpreadConstraints[0].matchLabelKeys", FORBIDDEN),
                ("spec.topologySpreadConstraints[0].nodeTaintsPolicy", UNSUPPORTED),
                ("spec.topologySpreadConstraints[0].matchLabelKeys[0]", INVALID),
            },
        ),
        (
            pod(annotations={"kubernetes.io/config.mirror": "m"}),
            {("metadata.annotations[kubernetes.io/config.mirror]", INVALID)},
        ),
        (
            pod(annotations={"seccomp.security.alpha.kubernetes.io/pod": "mine"}),
            {("metadata.annotations.seccomp.security.alpha.kubernetes.io/pod", INVALID)},
        ),
        (
            pod(annotations={"container.apparmor.security.beta.kubernetes.io/d": "runtime/default"}),
            {("metadata.annotations[container.apparmor.security.beta.kubernetes.io/d]", INVALID)},
        ),
    ],
)
def test_pods(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


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
    ],
)
def test_services(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


DISK = {"containers": [CONTAINER], "volumes": [{"name": "v", "gcePersistentDisk": {"pdName": "p"}}]}
WITH_DISK = {"metadata": {"labels": LABELS}, "spec": DISK}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (workload("DaemonSet", selector=None), {(LABELS_FIELD, INVALID)}),
        (workload("StatefulSet", selector=None), {("spec.selector", REQUIRED), (LABELS_FIELD, INVALID)}),
        (workload("Deployment", replicas=1, template=WITH_DISK), set()),
        (
            workload("Deployment", replicas=2, template=WITH_DISK),
            {("spec.template.spec.volumes[0].gcePersistentDisk.readOnly", INVALID)},
        ),
        (
            workload("DaemonSet", template=WITH_DISK),
            {("spec.template.spec.volumes[0].gcePersistentDisk.readOnly", INVALID)},
        ),
    ],
)
def test_workloads(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
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


DEBUG = {"name": "debug", "image": "i"}


@pytest.mark.parametrize(
    ("before", "after", "causes"),
    [
        ([], [DEBUG], set()),
        ([], [{**DEBUG, "ports": [{"containerPort": 1}]}], {("spec.ephemeralContainers[0].ports", FORBIDDEN)}),
        ([], [{**DEBUG, "name": "c"}], {("spec.ephemeralContainers[0].name", DUPLICATE)}),
        ([DEBUG], [], {("spec.ephemeralContainers", FORBIDDEN)}),
        ([DEBUG], [{**DEBUG, "image": "j"}], {("spec.ephemeralContainers", FORBIDDEN)}),
    ],
)
def test_debugging_containers(before: list[Any], after: list[Any], causes: set[tuple[str, str]]) -> None:
    specs = [pod({"ephemeralContainers": part})["spec"] for part in (before, after)]
    refused = through(pod(), "ephemeralcontainers", {"spec": specs[0]}, {"spec": specs[1]})
    assert refused == causes


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


def indexed(**spec: Any) -> dict[str, Any]:
    return job(completionMode="Indexed", **{"completions": 5, "parallelism": 2, **spec})


def failure_rule(**rule: Any) -> dict[str, Any]:
    return job(podFailurePolicy={"rules": [{"action": "FailJob", **rule}]})


def success_rule(**rule: Any) -> dict[str, Any]:
    return indexed(successPolicy={"rules": [rule]})


FAILURE, SUCCESS = "spec.podFailurePolicy.rules[0]", "spec.successPolicy.rules[0]"
RESTARTING = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER], "restartPolicy": "OnFailure"}}
IN = {"operator": "In", "values": [1]}


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (failure_rule(onExitCodes=IN), set()),
        (failure_rule(onPodConditions=[{"type": "DisruptionTarget"}]), set()),
        (failure_rule(), {(FAILURE, INVALID)}),
        (failure_rule(onExitCodes=IN, onPodConditions=[{"type": "A"}]), {(FAILURE, INVALID)}),
        (failure_rule(onExitCodes=IN, action=""), {(f"{FAILURE}.action", REQUIRED)}),
        (failure_rule(onExitCodes=IN, action="Odd"), {(f"{FAILURE}.action", UNSUPPORTED)}),
        (failure_rule(onExitCodes=IN, action="FailIndex"), {(f"{FAILURE}.action", INVALID)}),
        (
            failure_rule(onExitCodes={"operator": "Odd", "values": [], "containerName": "d"}),
            {
                (f"{FAILURE}.onExitCodes.operator", UNSUPPORTED),
                (f"{FAILURE}.onExitCodes.containerName", INVALID),
                (f"{FAILURE}.onExitCodes.values", INVALID),
            },
        ),
        (
            failure_rule(onExitCodes={"operator": "In", "values": [2, 0, 2]}),
            {
                (f"{FAILURE}.onExitCodes.values", INVALID),
                (f"{FAILURE}.onExitCodes.values[1]", INVALID),
                (f"{FAILURE}.onExitCodes.values[2]", DUPLICATE),
            },
        ),
        (
            failure_rule(onPodConditions=[{"type": "a b", "status": "Odd"}]),
            {
                (f"{FAILURE}.onPodConditions[0].type", INVALID),
                (f"{FAILURE}.onPodConditions[0].status", UNSUPPORTED),
            },
        ),
        (
            job(podFailurePolicy={"rules": []}, template=RESTARTING),
            {("spec.template.spec.restartPolicy", INVALID)},
        ),
        (
            job(podFailurePolicy={"rules": []}, podReplacementPolicy="TerminatingOrFailed"),
            {("spec.podReplacementPolicy", UNSUPPORTED)},
        ),
        (job(podReplacementPolicy="Odd"), {("spec.podReplacementPolicy", UNSUPPORTED)}),
        (job(managedBy="me"), {("spec.managedBy", INVALID)}),
        (job(managedBy="a.b/" + "c" * 60), {("spec.managedBy", "FieldValueTooLong")}),
        (job(backoffLimitPerIndex=1), {("spec.backoffLimitPerIndex", INVALID)}),
        (
            indexed(maxFailedIndexes=6),
            {("spec.maxFailedIndexes", INVALID), ("spec.backoffLimitPerIndex", REQUIRED)},
        ),
        (indexed(completions=200_000, backoffLimitPerIndex=1), {("spec.maxFailedIndexes", REQUIRED)}),
        (indexed(completions=200_000, parallelism=100_001), {("spec.parallelism", INVALID)}),
        (
            indexed(completions=200_000, parallelism=10_001, backoffLimitPerIndex=1, maxFailedIndexes=10_001),
            {("spec.parallelism", INVALID), ("spec.maxFailedIndexes", INVALID)},
        ),
        (job(successPolicy={"rules": [{"succeededCount": 1}]}), {("spec.successPolicy", INVALID)}),
        (indexed(successPolicy={"rules": []}), {("spec.successPolicy.rules", REQUIRED)}),
        (success_rule(succeededIndexes="0,2-4", succeededCount=4), set()),
        (success_rule(), {(SUCCESS, REQUIRED)}),
        (success_rule(succeededCount=6), {(f"{SUCCESS}.succeededCount", INVALID)}),
        (success_rule(succeededIndexes="0-1", succeededCount=3), {(f"{SUCCESS}.succeededCount", INVALID)}),
        (success_rule(succeededIndexes="3,1"), {(f"{SUCCESS}.succeededIndexes", INVALID)}),
        (success_rule(succeededIndexes="1-2-3"), {(f"{SUCCESS}.succeededIndexes", INVALID)}),
        (success_rule(succeededIndexes="1-5"), {(f"{SUCCESS}.succeededIndexes", INVALID)}),
        (success_rule(succeededIndexes="a"), {(f"{SUCCESS}.succeededIndexes", INVALID)}),
    ],
)
def test_jobs(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def test_limits_by_index_lift_the_limit_of_the_whole_job() -> None:
    made: Any = codec.from_dict(indexed(backoffLimitPerIndex=1, podFailurePolicy={"rules": []}))
    strategy.default(made)
    assert (made.spec.backoffLimit, made.spec.podReplacementPolicy) == (2**31 - 1, "Failed")


def claimed(*claims: dict[str, Any]) -> dict[str, Any]:
    return pod({"resourceClaims": list(claims)})


def contained(**fields: Any) -> dict[str, Any]:
    return pod({"containers": [{**CONTAINER, **fields}]})


FIRST = "spec.containers[0]"
WINDOWS_OS = {"os": {"name": "windows"}}
HOST_PROCESS = {"windowsOptions": {"hostProcess": True}}
MOUNT = {"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}
TERM = {"topologyKey": "zone", "matchLabelKeys": ["a"]}
AFFINITY = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"


def near(**term: Any) -> dict[str, Any]:
    terms = [{**TERM, **term}]
    return pod({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})


@pytest.mark.parametrize(
    ("content", "causes"),
    [
        (claimed({"name": "c", "resourceClaimName": "r"}), set()),
        (claimed({"name": "c"}), {("spec.resourceClaims[0]", INVALID)}),
        (
            claimed({"name": "c", "resourceClaimName": "r", "resourceClaimTemplateName": "Bad_"}),
            {("spec.resourceClaims[0]", INVALID), ("spec.resourceClaims[0].resourceClaimTemplateName", INVALID)},
        ),
        (
            claimed(*[{"name": "c", "resourceClaimName": "r"}] * 2),
            {("spec.resourceClaims[1].name", DUPLICATE)},
        ),
        (contained(resources={"claims": [{"name": "c"}]}), {(f"{FIRST}.resources.claims[0]", "FieldValueNotFound")}),
        (
            pod({"resources": {"requests": {"cpu": "1"}}, **contained(resources={"requests": {"cpu": 2}})["spec"]}),
            {("spec.resources.requests[cpu]", INVALID)},
        ),
        (
            pod({"hostUsers": False, "hostNetwork": True, "hostPID": True}),
            {(f"spec.{n}", FORBIDDEN) for n in ("hostNetwork", "HostPID")},
        ),
        (pod({"hostnameOverride": "a", "hostNetwork": True}), {("spec.hostnameOverride", FORBIDDEN)}),
        (pod({"hostnameOverride": "a" * 65}), {("spec.hostnameOverride", INVALID)}),
        (pod({"os": {"name": "odd"}}), {("spec.os.name", UNSUPPORTED)}),
        (
            pod({"os": {"name": "linux"}, "securityContext": HOST_PROCESS, "hostNetwork": True}),
            {("spec.securityContext.windowsOptions", FORBIDDEN)},
        ),
        (
            pod({**WINDOWS_OS, "hostPID": True, "securityContext": {"runAsUser": 1}}),
            {("spec.securityContext.hostPID", FORBIDDEN), ("spec.securityContext.runAsUser", FORBIDDEN)},
        ),
        (pod({"securityContext": HOST_PROCESS}), {("spec.hostNetwork", INVALID)}),
        (
            pod({"securityContext": {"supplementalGroupsPolicy": "Odd", "seLinuxChangePolicy": "Odd"}}),
            {
                ("spec.securityContext.supplementalGroupsPolicy", UNSUPPORTED),
                ("spec.securityContext.seLinuxChangePolicy", UNSUPPORTED),
            },
        ),
        (contained(securityContext={"procMount": "Unmasked"}), {(f"{FIRST}.securityContext.procMount", INVALID)}),
        (
            contained(securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": " p"}}),
            {(f"{FIRST}.securityContext.appArmorProfile.localhostProfile", INVALID)},
        ),
        (contained(restartPolicy="Odd"), {(f"{FIRST}.restartPolicy", UNSUPPORTED)}),
        (
            contained(restartPolicyRules=[{"action": "Odd"}]),
            {
                (f"{FIRST}.restartPolicy", REQUIRED),
                (f"{FIRST}.restartPolicyRules[0].action", UNSUPPORTED),
                (f"{FIRST}.restartPolicyRules[0].exitCodes", REQUIRED),
            },
        ),
        (
            contained(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}] * 2),
            {(f"{FIRST}.resizePolicy[1]", DUPLICATE)},
        ),
        (
            contained(resizePolicy=[{"resourceName": "pods", "restartPolicy": "Odd"}]),
            {(f"{FIRST}.resizePolicy", UNSUPPORTED)},
        ),
        (contained(lifecycle={"preStop": {"sleep": {"seconds": 31}}}), {(f"{FIRST}.lifecycle.preStop.sleep", INVALID)}),
        (contained(lifecycle={"preStop": {"sleep": {"seconds": 0}}}), set()),
        (
            pod({"containers": [{**CONTAINER, "volumeMounts": [MOUNT]}], "volumes": [{"name": "v"}]}),
            {(f"{FIRST}.volumeMounts[0].recursiveReadOnly", FORBIDDEN)},
        ),
        (near(), {(f"{AFFINITY}.matchLabelKeys", FORBIDDEN)}),
        (near(labelSelector={}, mismatchLabelKeys=["a"]), {(f"{AFFINITY}.matchLabelKeys[0]", INVALID)}),
        (
            pod(
                {
                    "topologySpreadConstraints": [
                        {**SPREAD, "labelSelector": {"matchLabels": LABELS}, "matchLabelKeys": ["app"]}
                    ]
                }
            ),
            {("spec.topologySpreadConstraints[0].matchLabelKeys[0]", INVALID)},
        ),
    ],
)
def test_newer_fields_of_pods(content: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert causes_of(content) == causes


def narrowed(*names: str) -> dict[str, Any]:
    expressions = [{"key": name, "operator": "Exists"} for name in names]
    terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


GATED = pod({"schedulingGates": [{"name": "a/b"}], "nodeSelector": {"a": "b"}, "affinity": narrowed("a")})
NODE_TERMS = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"


@pytest.mark.parametrize(
    ("changes", "causes"),
    [
        ({"schedulingGates": []}, set()),
        ({"schedulingGates": [{"name": "c/d"}]}, {("spec.schedulingGates[0]", FORBIDDEN)}),
        ({"nodeSelector": {"a": "b", "c": "d"}, "affinity": narrowed("a", "b")}, set()),
        ({"nodeSelector": {"c": "d"}}, {("spec.nodeSelector", INVALID)}),
        ({"affinity": narrowed("b")}, {(f"{NODE_TERMS}[0]", INVALID)}),
        ({"affinity": None}, {(NODE_TERMS, INVALID)}),
        ({"hostname": "other"}, {("spec", FORBIDDEN)}),
    ],
)
def test_updates_of_gated_pods(changes: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert updated(GATED, **changes) == causes


def template_with(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER], "restartPolicy": "Never", **spec}}


MANUAL = {"manualSelector": True, "selector": {"matchLabels": LABELS}}


@pytest.mark.parametrize(
    ("content", "changes", "causes"),
    [
        (job(**MANUAL, suspend=True), {"template": template_with(nodeSelector={"a": "b"})}, set()),
        (job(**MANUAL, suspend=True), {"template": template_with(affinity=narrowed("a"))}, set()),
        (job(**MANUAL, suspend=True), {"template": template_with(hostname="h")}, {("spec.template", INVALID)}),
        (job(**MANUAL), {"template": template_with(nodeSelector={"a": "b"})}, {("spec.template", INVALID)}),
        (job(**MANUAL), {"suspend": True, "parallelism": 3}, set()),
        (job(**MANUAL), {"completions": 3}, {("spec.completions", INVALID)}),
        (indexed(**MANUAL), {"completions": 3}, {("spec.completions", INVALID)}),
        (indexed(**MANUAL), {"completions": 3, "parallelism": 3}, set()),
        (indexed(**MANUAL), {"backoffLimitPerIndex": 1}, {("spec.backoffLimitPerIndex", INVALID)}),
        (job(**MANUAL), {"managedBy": "a.b/c"}, {("spec.managedBy", INVALID)}),
    ],
)
def test_updates_of_jobs(content: dict[str, Any], changes: dict[str, Any], causes: set[tuple[str, str]]) -> None:
    assert updated(content, **changes) == causes


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


def test_a_daemon_set_always_shows_its_templates_generation() -> None:
    made: Any = codec.from_dict({**workload("DaemonSet"), "metadata": {"name": "x"}})
    name = "deprecated.daemonset.template.generation"
    strategy.default(made)
    assert made.metadata.annotations[name] == "0"
    strategy.prepare_for_create(made)
    assert made.metadata.annotations[name] == "1"


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
