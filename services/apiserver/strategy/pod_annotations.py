"""Annotations of pods and pod templates that mean something to Kubernetes."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import Cause, forbidden, invalid

MIRROR = "kubernetes.io/config.mirror"
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_SECCOMP_PROFILES = ("runtime/default", "docker/default", "unconfined")


def pod_annotations(path: str, annotations: Any, spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    if MIRROR in annotations and not spec.nodeName:
        detail = "must set spec.nodeName if mirror pod annotation is set"
        causes.append(invalid(f"{path}[{MIRROR}]", annotations[MIRROR], detail))
    for name, value in annotations.items():
        where = f"{path}[{name}]"
        if name == _SECCOMP_POD or name.startswith(_SECCOMP_CONTAINER):
            if value not in _SECCOMP_PROFILES and not value.startswith("localhost/"):
                causes.append(invalid(where, value, "must be a valid seccomp profile"))
        elif name.startswith(_APPARMOR):
            container = name.removeprefix(_APPARMOR)
            if container not in {c.name for c in (*spec.containers, *spec.initContainers)}:
                causes.append(invalid(where, container, "container not found"))
            if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
                causes.append(invalid(where, value, f'invalid AppArmor profile name: "{value}"'))
    return causes


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
