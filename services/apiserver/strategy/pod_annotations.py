"""Annotations of pods and pod templates that mean something to Kubernetes."""

from __future__ import annotations

import re
from typing import Any

from services.apiserver.strategy.causes import Cause, forbidden, invalid
from services.apiserver.strategy.volume_sources import descending_path

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
MIRROR = "kubernetes.io/config.mirror"
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_SECCOMP_PROFILES = ("runtime/default", "docker/default", "unconfined")
_LOCALHOST = "localhost/"
# By a field's type: the annotations that say the same (a Localhost profile is compared by its name).
_SAME_PROFILES = {
    "Unconfined": ("unconfined",),
    "RuntimeDefault": ("runtime/default", "docker/default"),
    "Localhost": (),
}
_COST = re.compile("0|-[0-9]+|[1-9][0-9]*")


def pod_annotations(path: str, annotations: Any, spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    if MIRROR in annotations and not spec.nodeName:
        detail = "must set spec.nodeName if mirror pod annotation is set"
        causes.append(invalid(f"{path}[{MIRROR}]", annotations[MIRROR], detail))
    for name, value in annotations.items():
        where = f"{path}[{name}]"
        if name == _SECCOMP_POD or name.startswith(_SECCOMP_CONTAINER):
            # Kubernetes itself spells this path so.
            causes += _seccomp(f"{path}.{name}", value)
        elif name == DELETION_COST:
            if not _COST.fullmatch(value) or not -(2**31) <= int(value) < 2**31:
                causes.append(invalid(where, value, "must be a 32bit integer"))
        elif name.startswith(_APPARMOR):
            container = name.removeprefix(_APPARMOR)
            if container not in {c.name for c in (*spec.containers, *spec.initContainers)}:
                causes.append(invalid(where, container, "container not found"))
            if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
                causes.append(invalid(where, value, f'invalid AppArmor profile name: "{value}"'))
    return causes


def _seccomp(path: str, profile: str) -> list[Cause]:
    if profile.startswith(_LOCALHOST):
        return descending_path(path, profile.removeprefix(_LOCALHOST))
    return [] if profile in _SECCOMP_PROFILES else [invalid(path, profile, "must be a valid seccomp profile")]


def seccomp_twice(path: str, template: Any) -> list[Cause]:
    """A profile that an annotation and a field name must be the same. ``template``: a pod, or a template of pods."""
    spec, annotations = template.spec, template.metadata.annotations
    named = [(f"{path}.securityContext", spec.securityContext, annotations.get(_SECCOMP_POD))]
    for field in ("initContainers", "containers"):
        for index, container in enumerate(getattr(spec, field)):
            where = f"{path}.{field}[{index}].securityContext"
            named.append((where, container.securityContext, annotations.get(f"{_SECCOMP_CONTAINER}{container.name}")))
    return [
        cause
        for where, context, annotation in named
        if annotation is not None and context.HasField("seccompProfile")
        for cause in _same_profile(f"{where}.seccompProfile", context.seccompProfile, annotation)
    ]


def _same_profile(path: str, profile: Any, annotation: str) -> list[Cause]:
    if profile.type == "Localhost" and annotation.startswith(_LOCALHOST):
        if profile.HasField("localhostProfile") and f"{_LOCALHOST}{profile.localhostProfile}" == annotation:
            return []
        return [forbidden(f"{path}.localhostProfile", "seccomp profile in annotation and field must match")]
    if profile.type not in _SAME_PROFILES or annotation in _SAME_PROFILES[profile.type]:
        return []
    return [forbidden(f"{path}.type", "seccomp type in annotation and field must match")]


def pod_annotation_changes(path: str, new: Any, old: Any) -> list[Cause]:
    """What is read only when the pod starts, or tells a mirror from a pod, stays."""
    causes: list[Cause] = []
    for name, value in old.items():
        if name.startswith(_APPARMOR) and new.get(name) != value:
            causes.append(forbidden(f"{path}[{name}]", "may not remove or update AppArmor annotations"))
        elif name == MIRROR and new.get(name) != value:
            causes.append(forbidden(f"{path}[{name}]", "may not remove or update mirror pod annotation"))
    for name in new:
        if name in old:
            continue
        if name.startswith(_APPARMOR):
            causes.append(forbidden(f"{path}[{name}]", "may not add AppArmor annotations"))
        elif name == MIRROR:
            causes.append(forbidden(f"{path}[{name}]", "may not add mirror pod annotation"))
    return causes
