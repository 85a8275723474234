"""Rules for the security contexts of pods and containers."""

from __future__ import annotations

import re
from typing import Any

from services.apiserver.strategy.causes import Cause, duplicate, invalid, not_supported, one_of, required, too_long
from services.apiserver.strategy.volume_sources import descending_path
from services.apiserver.strategy.windows import windows_options

_ID_RANGE = "must be between 0 and 2147483647, inclusive"
_SYSCTL_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = rf"({_SYSCTL_SEGMENT}\.)*{_SYSCTL_SEGMENT}"
_SYSCTL_NEW = rf"({_SYSCTL_SEGMENT}[\./])*{_SYSCTL_SEGMENT}"
_SYSCTL_DETAIL = f"must have at most 253 characters and match regex {_SYSCTL}"
_PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
_PROFILE_LIMIT = 4095
# In the order in which Kubernetes looks at them; each may be absent but not empty.
_POD_POLICIES = {
    "fsGroupChangePolicy": ("Always", "OnRootMismatch"),
    "supplementalGroupsPolicy": ("Merge", "Strict"),
    "seLinuxChangePolicy": ("MountOption", "Recursive"),
}


def container_security(path: str, context: Any, pod: Any) -> list[Cause]:
    causes = _user_and_group(path, context)
    if context.HasField("procMount"):
        causes += _proc_mount(f"{path}.procMount", context.procMount, pod)
    causes += _seccomp(path, context)
    if context.HasField("allowPrivilegeEscalation") and not context.allowPrivilegeEscalation:
        if context.privileged:
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            causes.append(invalid(path, context, detail))
        if "CAP_SYS_ADMIN" in context.capabilities.add:
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            causes.append(invalid(path, context, detail))
    return causes + _app_armor(path, context) + windows_options(path, context)


def _proc_mount(path: str, mount: str, pod: Any) -> list[Cause]:
    """Only a pod with users of its own may see all of /proc."""
    # Other values are let through: an API server without the feature never looked at the field.
    if mount == "Unmasked" and not (pod.HasField("hostUsers") and not pod.hostUsers):
        return [invalid(path, mount, "`hostUsers` must be false to use `Unmasked`")]
    return []


def pod_security(path: str, spec: Any) -> list[Cause]:
    """The pod's own context, and its host namespaces where they contradict each other."""
    context = spec.securityContext
    causes: list[Cause] = []
    if context.HasField("fsGroup"):
        causes += _id(f"{path}.fsGroup", context.fsGroup)
    causes += _user_and_group(path, context)
    for index, group in enumerate(context.supplementalGroups):
        causes += _id(f"{path}.supplementalGroups[{index}]", group)
    if spec.shareProcessNamespace and spec.hostPID:
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        causes.append(invalid(f"{path}.shareProcessNamespace", True, detail))
    causes += _sysctls(f"{path}.sysctls", context.sysctls)
    for field, allowed in _POD_POLICIES.items():
        if context.HasField(field):
            causes += one_of(f"{path}.{field}", getattr(context, field), allowed)
    return causes + _seccomp(path, context) + _app_armor(path, context) + windows_options(path, context)


def _app_armor(path: str, context: Any) -> list[Cause]:
    if not context.HasField("appArmorProfile"):
        return []
    profile, where = context.appArmorProfile, f"{path}.appArmorProfile"
    local = f"{where}.localhostProfile"
    if profile.type == "Localhost":
        if not profile.localhostProfile.strip():
            return [required(local, "must be set when AppArmor type is Localhost")]
        return _profile_name(local, profile.localhostProfile)
    causes: list[Cause] = []
    if profile.HasField("localhostProfile"):
        causes.append(invalid(local, profile.localhostProfile, "can only be set when AppArmor type is Localhost"))
    if not profile.type:
        causes.append(required(f"{where}.type", "type is required when appArmorProfile is set"))
    elif profile.type not in _PROFILE_TYPES:
        causes.append(not_supported(f"{where}.type", profile.type, _PROFILE_TYPES))
    return causes


def _profile_name(path: str, name: str) -> list[Cause]:
    causes = [invalid(path, name, "must not be padded with whitespace")] if name.strip() != name else []
    return causes + ([too_long(path, _PROFILE_LIMIT)] if len(name) > _PROFILE_LIMIT else [])


def _user_and_group(path: str, context: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("runAsUser", "runAsGroup"):
        if context.HasField(field):
            causes += _id(f"{path}.{field}", getattr(context, field))
    return causes


def _id(path: str, number: int) -> list[Cause]:
    return [] if 0 <= number <= 2**31 - 1 else [invalid(path, number, _ID_RANGE)]


def _seccomp(path: str, context: Any) -> list[Cause]:
    if not context.HasField("seccompProfile"):
        return []
    profile, where = context.seccompProfile, f"{path}.seccompProfile"
    if profile.type == "Localhost":
        if not profile.HasField("localhostProfile"):
            return [required(f"{where}.localhostProfile", "must be set when seccomp type is Localhost")]
        return descending_path(f"{where}.localhostProfile", profile.localhostProfile)
    causes: list[Cause] = []
    if not profile.type:
        causes.append(required(f"{where}.type", "type is required when seccompProfile is set"))
    elif profile.type not in _PROFILE_TYPES:
        causes.append(not_supported(f"{where}.type", profile.type, _PROFILE_TYPES))
    if profile.HasField("localhostProfile"):
        detail = "can only be set when seccomp type is Localhost"
        causes.append(invalid(f"{where}.localhostProfile", profile, detail))
    return causes


def _sysctls(path: str, sysctls: Any) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        where = f"{path}[{index}].name"
        if not sysctl.name:
            causes.append(required(where))
        elif len(sysctl.name) > 253 or not re.fullmatch(_SYSCTL_NEW, sysctl.name):
            causes.append(invalid(where, sysctl.name, _SYSCTL_DETAIL))
        elif sysctl.name in seen:
            causes.append(duplicate(where, sysctl.name))
        seen.add(sysctl.name)
    return causes
