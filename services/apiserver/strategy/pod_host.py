"""What a pod asks of its host: its operating system, its namespaces, its name."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import Cause, forbidden, invalid, invalid_all, one_of
from services.apiserver.strategy.names import dns_subdomain

_HOST_USERS = "when `pod.Spec.HostUsers` is false"
_NOT_ON_WINDOWS = "cannot be set for a windows pod"
_HOSTNAME_LIMIT = 64
# The fields that only Linux knows, of a pod, of its security context and of its containers'.
_LINUX_POD = ("hostPID", "hostIPC", "hostUsers", "shareProcessNamespace")
_LINUX_POD_CONTEXT = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
)
_LINUX_CONTEXT = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)
_HOST_NETWORK = "hostNetwork must be true if pod contains any hostProcess containers"
_NOT_MIXED = (
    "If pod contains any hostProcess containers then all containers must be HostProcess containers, "
    "hostProcess must be set on all of them"
)


def operating_system(path: str, pod: Any) -> list[Cause]:
    if not pod.HasField("os"):
        return []
    causes = one_of(f"{path}.os.name", pod.os.name, ("linux", "windows"))
    if pod.os.name == "linux":
        return causes + _linux(path, pod)
    return causes + (_windows(path, pod) if pod.os.name == "windows" else [])


def _contexts(path: str, pod: Any) -> list[tuple[str, Any]]:
    """The containers' security contexts and where each stands."""
    found = []
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for index, entry in enumerate(getattr(pod, field)):
            container = entry.ephemeralContainerCommon if field == "ephemeralContainers" else entry
            if container.HasField("securityContext"):
                found.append((f"{path}.{field}[{index}].securityContext", container.securityContext))
    return found


def _linux(path: str, pod: Any) -> list[Cause]:
    return [
        forbidden(f"{where}.windowsOptions", "windows options cannot be set for a linux pod")
        for where, context in [(f"{path}.securityContext", pod.securityContext), *_contexts(path, pod)]
        if context.HasField("windowsOptions")
    ]


def _windows(path: str, pod: Any) -> list[Cause]:
    causes: list[Cause] = []
    # Kubernetes itself has these among the security context's.
    where = f"{path}.securityContext"
    causes += _given(where, pod.securityContext, _LINUX_POD_CONTEXT)
    for field in _LINUX_POD:
        value = pod.HasField(field) if field in ("hostUsers", "shareProcessNamespace") else getattr(pod, field)
        if value:
            spot = where if field in ("hostPID", "hostIPC") else path
            causes.append(forbidden(f"{spot}.{field}", _NOT_ON_WINDOWS))
    for context_path, context in _contexts(path, pod):
        causes += _given(context_path, context, _LINUX_CONTEXT)
    return causes


def _given(path: str, context: Any, fields: tuple[str, ...]) -> list[Cause]:
    present = {field.name for field, _ in context.ListFields()}
    return [forbidden(f"{path}.{field}", _NOT_ON_WINDOWS) for field in fields if field in present]


def host_users(path: str, pod: Any) -> list[Cause]:
    """Users of its own go with no other namespace of the host's. (The capitals are Kubernetes' own.)"""
    if not pod.HasField("hostUsers") or pod.hostUsers:
        return []
    return [
        forbidden(f"{path}.{name}", _HOST_USERS)
        for field, name in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC"))
        if getattr(pod, field)
    ]


def hostname_override(path: str, pod: Any) -> list[Cause]:
    if not pod.HasField("hostnameOverride"):
        return []
    where, name = f"{path}.hostnameOverride", pod.hostnameOverride
    causes: list[Cause] = []
    if pod.setHostnameAsFQDN:
        causes.append(forbidden(where, "may not be specified when setHostnameAsFQDN is true"))
    if pod.hostNetwork:
        causes.append(forbidden(where, "may not be specified when hostNetwork is true"))
    if len(name) > _HOSTNAME_LIMIT:
        causes.append(invalid(where, name, f"must be no more than {_HOSTNAME_LIMIT} characters"))
    return causes + invalid_all(where, name, dns_subdomain(name))


def host_processes(path: str, pod: Any) -> list[Cause]:
    """Windows' privileged containers: all of a pod's or none, and in the host's network."""
    of_pod = pod.securityContext.windowsOptions
    default = of_pod.hostProcess if of_pod.HasField("hostProcess") else None
    causes: list[Cause] = []
    settings = []
    for field in ("containers", "initContainers"):
        for index, container in enumerate(getattr(pod, field)):
            own = container.securityContext.windowsOptions
            value = own.hostProcess if own.HasField("hostProcess") else None
            if default is not None and value is not None and value != default:
                where = f"{path}.{field}[{index}].securityContext.windowsOptions.hostProcess"
                detail = f"pod hostProcess value must be identical if both are specified, was {str(default).lower()}"
                causes.append(invalid(where, value, detail))
            settings.append(bool(default if value is None else value))
    if not any(settings):
        return causes
    if not all(settings):
        causes.append(invalid(path, "", _NOT_MIXED))
    if not pod.hostNetwork:
        causes.append(invalid(f"{path}.hostNetwork", False, _HOST_NETWORK))
    return causes
