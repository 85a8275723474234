"""The Pod Security Standards as a table of pods, and what namespaces ask of them."""

from __future__ import annotations

from typing import Any

import pytest
from admitted import Shelf, pod

from services.apiserver.admission.chain import CREATE, UPDATE
from services.apiserver.admission.pod_security import PodSecurity
from services.apiserver.admission.pod_security_checks import told, violations
from tillerman.api.status import StatusError
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def container(name: str = "c", **context: Any) -> dict[str, Any]:
    return {"name": name, "image": "i", "securityContext": context}


def restricted(**more: Any) -> dict[str, Any]:
    """A spec that the strictest level takes."""
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **more.pop("securityContext", {})}
    return {"securityContext": context, "containers": [container(**SAFE)], **more}


BASELINE = [
    ({"hostNetwork": True, "hostPID": True}, "host namespaces (hostNetwork=true, hostPID=true)"),
    (
        {"containers": [container("a", privileged=True), container("b", privileged=True)]},
        'privileged (containers "a", "b" must not set securityContext.privileged=true)',
    ),
    (
        {"containers": [container(capabilities={"add": ["NET_ADMIN", "CHOWN"]})]},
        'non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add)',
    ),
    ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, 'hostPath volumes (volume "v")'),
    (
        {"containers": [{**container(), "ports": [{"containerPort": 1, "hostPort": 80}]}]},
        'hostPort (container "c" uses hostPort 80)',
    ),
    (
        {"containers": [container(procMount="Unmasked")]},
        'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
    ),
    ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "forbidden sysctls (kernel.msgmax)"),
    (
        {"securityContext": {"seLinuxOptions": {"type": "odd", "user": "u"}}},
        'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "odd"; user may not be set)',
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
    ),
    (
        {"containers": [container(appArmorProfile={"type": "Unconfined"})]},
        'forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")',
    ),
]
RESTRICTED = [
    (
        {},
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to '
        '"RuntimeDefault" or "Localhost")',
    ),
    (
        restricted(volumes=[{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "nfs": {}}]),
        'restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")',
    ),
    (restricted(securityContext={"runAsUser": 0}), "runAsUser=0 (pod must not set runAsUser=0)"),
    (
        restricted(containers=[container(**SAFE, runAsNonRoot=False)]),
        'runAsNonRoot != true (container "c" must not set securityContext.runAsNonRoot=false)',
    ),
    (
        restricted(containers=[container(**{**SAFE, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}})]),
        'unrestricted capabilities (container "c" must not include "CHOWN" in securityContext.capabilities.add)',
    ),
    (restricted(), ""),
    (restricted(volumes=[{"name": "v", "emptyDir": {}}, {"name": "w", "projected": {"sources": []}}]), ""),
]


@pytest.mark.parametrize(("spec", "expected"), BASELINE)
def test_baseline(spec: dict[str, Any], expected: str) -> None:
    bad, fine = pod(**spec), pod()
    assert told(violations("baseline", bad.metadata, bad.spec)) == expected
    assert violations("privileged", bad.metadata, bad.spec) == violations("baseline", fine.metadata, fine.spec) == []


@pytest.mark.parametrize(("spec", "expected"), RESTRICTED)
def test_restricted(spec: dict[str, Any], expected: str) -> None:
    obj = pod(**spec)
    assert told(violations("restricted", obj.metadata, obj.spec)) == expected


def test_an_app_armor_annotation_is_looked_at() -> None:
    obj = pod()
    obj.metadata.annotations["container.apparmor.security.beta.kubernetes.io/c"] = "unconfined"
    assert "forbidden AppArmor profile" in told(violations("baseline", obj.metadata, obj.spec))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def labelled(shelf: Shelf, **levels: str) -> None:
    labels = {f"pod-security.kubernetes.io/{mode.replace('_', '-')}": level for mode, level in levels.items()}
    shelf.put("v1", "Namespace", "space", metadata={"labels": labels})


async def test_pods_are_refused_warned_about_or_let_be(shelf: Shelf) -> None:
    plugin, bad = PodSecurity(shelf.catalog), pod(hostNetwork=True)
    await plugin.validate(shelf.attributes(bad))
    labelled(shelf, enforce="baseline", enforce_version="v1.30", warn="restricted")
    with pytest.raises(StatusError) as refused:
        await plugin.validate(shelf.attributes(bad))
    violation = 'violates PodSecurity "baseline:v1.30": host namespaces (hostNetwork=true)'
    assert refused.value.message == f'pods "p" is forbidden: {violation}'
    attributes = shelf.attributes(pod())
    await plugin.validate(attributes)
    (warning,) = attributes.context.warnings
    assert warning.startswith('would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false')
    changed = pod(hostNetwork=True)
    changed.spec.containers[0].image = "other"
    await plugin.validate(shelf.attributes(changed, UPDATE, old=bad))


async def test_what_makes_pods_is_only_warned_about(shelf: Shelf) -> None:
    labelled(shelf, enforce="restricted", warn="baseline")
    deployment = apps.Deployment()
    deployment.metadata.name = "d"
    deployment.spec.template.spec.hostNetwork = True
    attributes = shelf.attributes(deployment)
    await PodSecurity(shelf.catalog).validate(attributes)
    assert attributes.context.warnings == [
        'would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    ]


async def test_a_namespaces_labels_are_checked_and_its_pods_looked_at(shelf: Shelf) -> None:
    plugin = PodSecurity(shelf.catalog)
    for name in ("a", "b"):
        shelf.put("v1", "Pod", name, "space", spec={"hostPID": True, "containers": []})
    old, new = core.Namespace(), core.Namespace()
    old.metadata.name = new.metadata.name = "space"
    new.metadata.labels["pod-security.kubernetes.io/enforce"] = "baseline"
    attributes = shelf.attributes(new, UPDATE, old=old)
    await plugin.validate(attributes)
    assert attributes.context.warnings == [
        'existing pods in namespace "space" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 1 other pod): host namespaces",
    ]
    new.metadata.labels["pod-security.kubernetes.io/enforce"] = "tight"
    new.metadata.labels["pod-security.kubernetes.io/warn-version"] = "1"
    for operation, before in ((CREATE, None), (UPDATE, old)):
        with pytest.raises(StatusError) as refused:
            await plugin.validate(shelf.attributes(new, operation, old=before))
        assert 'Invalid value: "tight": must be one of privileged, baseline, restricted' in refused.value.message
        assert 'Invalid value: "1": must be "latest" or "v1.x"' in refused.value.message
