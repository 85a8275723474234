"""The Pod Security Standards "baseline" and "restricted": what a pod of each level may not do. Pure functions.

A check returns (reason, detail) or None; the words are Kubernetes'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

LEVELS = ("privileged", "baseline", "restricted")
Finding = tuple[str, str] | None

_BASELINE_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    }
)
_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP = ("RuntimeDefault", "Localhost")


def violations(level: str, metadata: Any, spec: Any) -> list[tuple[str, str]]:
    """Everything that keeps a pod of this metadata and spec from the level, in the order in which it is told."""
    if level == "privileged":
        return []
    checks = _BASELINE if level == "baseline" else [*_UNDER_RESTRICTED, *_RESTRICTED]
    return [found for check in checks if (found := check(metadata, spec)) is not None]


def told(found: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)


def containers(spec: Any) -> list[Any]:
    """All containers, those of the three kinds alike."""
    return [*spec.initContainers, *spec.containers, *(c.ephemeralContainerCommon for c in spec.ephemeralContainers)]


def _named(what: str, names: Iterable[str]) -> str:
    names = list(names)
    return f"{what}{'s' if len(names) > 1 else ''} {_quoted(names)}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _setters(pod_does: bool, names: list[str], word: str = "and") -> str:
    """Who does it: "pod and containers "a", "b""."""
    parts = ["pod"] if pod_does else []
    if names:
        parts.append(_named("container", names))
    return f" {word} ".join(parts)


# -- baseline --------------------------------------------------------------------------------------------------------


def _app_armor(metadata: Any, spec: Any) -> Finding:
    context = spec.securityContext
    pod_does = context.HasField("appArmorProfile") and context.appArmorProfile.type == "Unconfined"
    names = [
        c.name
        for c in containers(spec)
        if c.securityContext.HasField("appArmorProfile") and c.securityContext.appArmorProfile.type == "Unconfined"
    ]
    details = []
    if pod_does or names:
        details.append(f'{_setters(pod_does, names)} must not set AppArmor profile type to "Unconfined"')
    forbidden = [
        f'{key}="{value}"'
        for key, value in sorted(metadata.annotations.items())
        if key.startswith(_APPARMOR) and value not in ("", "runtime/default") and not value.startswith("localhost/")
    ]
    if forbidden:
        details.append(f"annotation{'s' if len(forbidden) > 1 else ''} {', '.join(forbidden)}")
    if not details:
        return None
    plural = len(forbidden) + len(names) + pod_does > 1
    return f"forbidden AppArmor profile{'s' if plural else ''}", "; ".join(details)


def _capabilities(metadata: Any, spec: Any) -> Finding:
    names, added = _added_capabilities(spec, _BASELINE_CAPABILITIES)
    if not names:
        return None
    detail = f"{_named('container', names)} must not include {_quoted(added)} in securityContext.capabilities.add"
    return "non-default capabilities", detail


def _added_capabilities(spec: Any, allowed: frozenset[str]) -> tuple[list[str], list[str]]:
    """(names of the containers, the capabilities that they may not add)."""
    names, added = [], set()
    for container in containers(spec):
        more = {name for name in container.securityContext.capabilities.add if name not in allowed}
        if more:
            names.append(container.name)
            added |= more
    return names, sorted(added)


def _host_namespaces(metadata: Any, spec: Any) -> Finding:
    shared = [name for name in ("hostNetwork", "hostPID", "hostIPC") if getattr(spec, name)]
    return ("host namespaces", ", ".join(f"{name}=true" for name in shared)) if shared else None


def _host_paths(metadata: Any, spec: Any) -> Finding:
    names = [volume.name for volume in spec.volumes if volume.volumeSource.HasField("hostPath")]
    return ("hostPath volumes", _named("volume", names)) if names else None


def _host_ports(metadata: Any, spec: Any) -> Finding:
    names, ports = [], set()
    for container in containers(spec):
        used = {port.hostPort for port in container.ports if port.hostPort}
        if used:
            names.append(container.name)
            ports |= used
    if not names:
        return None
    verb = "uses" if len(names) == 1 else "use"
    listed = ", ".join(str(port) for port in sorted(ports))
    return "hostPort", f"{_named('container', names)} {verb} hostPort{'s' if len(ports) > 1 else ''} {listed}"


def _privileged(metadata: Any, spec: Any) -> Finding:
    names = [c.name for c in containers(spec) if c.securityContext.privileged]
    detail = f"{_named('container', names)} must not set securityContext.privileged=true"
    return ("privileged", detail) if names else None


def _proc_mount(metadata: Any, spec: Any) -> Finding:
    bad = [c for c in containers(spec) if c.securityContext.procMount not in ("", "Default")]
    if not bad:
        return None
    kinds = sorted({c.securityContext.procMount for c in bad})
    return (
        "procMount",
        f"{_named('container', [c.name for c in bad])} must not set securityContext.procMount to {_quoted(kinds)}",
    )


def _selinux(metadata: Any, spec: Any) -> Finding:
    def wrong(context: Any) -> bool:
        options = context.seLinuxOptions
        return bool(options.type not in _SELINUX_TYPES or options.user or options.role)

    names = [c.name for c in containers(spec) if wrong(c.securityContext)]
    pod_does = wrong(spec.securityContext)
    if not pod_does and not names:
        return None
    contexts = [spec.securityContext, *(c.securityContext for c in containers(spec))]
    options = [context.seLinuxOptions for context in contexts]
    types = sorted({o.type for o in options} - _SELINUX_TYPES)
    data = [f"type{'s' if len(types) > 1 else ''} {_quoted(types)}"] if types else []
    data += [f"{field} may not be set" for field in ("user", "role") if any(getattr(o, field) for o in options)]
    setters = _setters(pod_does, names)
    return "seLinuxOptions", f"{setters} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"


def _sysctls(metadata: Any, spec: Any) -> Finding:
    names = [sysctl.name for sysctl in spec.securityContext.sysctls if sysctl.name not in _SYSCTLS]
    return ("forbidden sysctls", ", ".join(names)) if names else None


def _host_process(metadata: Any, spec: Any) -> Finding:
    names = [c.name for c in containers(spec) if c.securityContext.windowsOptions.hostProcess]
    pod_does = spec.securityContext.windowsOptions.hostProcess
    if not pod_does and not names:
        return None
    return "hostProcess", f"{_setters(pod_does, names)} must not set securityContext.windowsOptions.hostProcess=true"


def _seccomp_baseline(metadata: Any, spec: Any) -> Finding:
    def bad(context: Any) -> bool:
        return bool(context.HasField("seccompProfile") and context.seccompProfile.type not in _SECCOMP)

    names = [c.name for c in containers(spec) if bad(c.securityContext)]
    pod_does = bad(spec.securityContext)
    if not pod_does and not names:
        return None
    contexts = [spec.securityContext, *(c.securityContext for c in containers(spec))]
    kinds = sorted({context.seccompProfile.type for context in contexts if bad(context)})
    detail = f"{_setters(pod_does, names)} must not set securityContext.seccompProfile.type to {_quoted(kinds)}"
    return "seccompProfile", detail


# -- restricted ------------------------------------------------------------------------------------------------------


def _escalation(metadata: Any, spec: Any) -> Finding:
    names = [
        c.name
        for c in containers(spec)
        if c.securityContext.allowPrivilegeEscalation or not c.securityContext.HasField("allowPrivilegeEscalation")
    ]
    if not names or _windows(spec):
        return None
    detail = f"{_named('container', names)} must set securityContext.allowPrivilegeEscalation=false"
    return "allowPrivilegeEscalation != false", detail


def _dropped(metadata: Any, spec: Any) -> Finding:
    if _windows(spec):
        return None
    keep = [c.name for c in containers(spec) if "ALL" not in c.securityContext.capabilities.drop]
    names, added = _added_capabilities(spec, frozenset({"NET_BIND_SERVICE"}))
    details = []
    if keep:
        details.append(f'{_named("container", keep)} must set securityContext.capabilities.drop=["ALL"]')
    if names:
        inside = f"must not include {_quoted(added)} in securityContext.capabilities.add"
        details.append(f"{_named('container', names)} {inside}")
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def _volume_types(metadata: Any, spec: Any) -> Finding:
    bad = [(v.name, kind) for v in spec.volumes if (kind := _kind_of(v)) not in _VOLUMES]
    if not bad:
        return None
    names, kinds = [name for name, _ in bad], sorted({kind for _, kind in bad})
    verb = "uses" if len(names) == 1 else "use"
    types = f"restricted volume type{'s' if len(kinds) > 1 else ''} {_quoted(kinds)}"
    return "restricted volume types", f"{_named('volume', names)} {verb} {types}"


def _kind_of(volume: Any) -> str:
    fields = volume.volumeSource.ListFields()
    return str(fields[0][0].json_name) if fields else "emptyDir"


def _non_root(metadata: Any, spec: Any) -> Finding:
    pod = spec.securityContext
    pod_fine = pod.runAsNonRoot
    explicit = [
        c.name
        for c in containers(spec)
        if c.securityContext.HasField("runAsNonRoot") and not c.securityContext.runAsNonRoot
    ]
    silent = [c.name for c in containers(spec) if not c.securityContext.HasField("runAsNonRoot")]
    pod_explicit = pod.HasField("runAsNonRoot") and not pod_fine
    if explicit or (pod_explicit and silent):
        setters = _setters(pod_explicit, explicit)
        return "runAsNonRoot != true", f"{setters} must not set securityContext.runAsNonRoot=false"
    if silent and not pod_fine:
        detail = f"{_setters(True, silent, 'or')} must set securityContext.runAsNonRoot=true"
        return "runAsNonRoot != true", detail
    return None


def _root_user(metadata: Any, spec: Any) -> Finding:
    def root(context: Any) -> bool:
        return bool(context.HasField("runAsUser") and context.runAsUser == 0)

    names = [c.name for c in containers(spec) if root(c.securityContext)]
    pod_does = root(spec.securityContext)
    return ("runAsUser=0", f"{_setters(pod_does, names)} must not set runAsUser=0") if pod_does or names else None


def _seccomp_restricted(metadata: Any, spec: Any) -> Finding:
    if _windows(spec):
        return None
    if (found := _seccomp_baseline(metadata, spec)) is not None:
        return found
    if spec.securityContext.HasField("seccompProfile"):
        return None
    silent = [c.name for c in containers(spec) if not c.securityContext.HasField("seccompProfile")]
    if not silent:
        return None
    kinds = '"RuntimeDefault" or "Localhost"'
    detail = f"{_setters(True, silent, 'or')} must set securityContext.seccompProfile.type to {kinds}"
    return "seccompProfile", detail


def _windows(spec: Any) -> bool:
    return bool(spec.os.name == "windows")


Check = Callable[[Any, Any], Finding]
_BASELINE: list[Check] = [
    _app_armor,
    _capabilities,
    _host_namespaces,
    _host_paths,
    _host_ports,
    _privileged,
    _proc_mount,
    _selinux,
    _seccomp_baseline,
    _sysctls,
    _host_process,
]
_RESTRICTED: list[Check] = [_escalation, _dropped, _volume_types, _non_root, _root_user, _seccomp_restricted]
# What the restricted level says more strictly is not told twice.
_UNDER_RESTRICTED = [check for check in _BASELINE if check not in (_capabilities, _host_paths, _seccomp_baseline)]
