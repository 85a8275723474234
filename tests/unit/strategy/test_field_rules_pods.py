"""Rules of single fields of pods, a row each: a manifest's part and the causes that Kubernetes gives for it."""

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
    REQUIRED,
    SPREAD,
    UNSUPPORTED,
    causes_of,
    narrowed,
    pod,
    through,
    updated,
    volume,
)

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
