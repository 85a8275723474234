"""Rules for containers: identity, ports, environment, probes, lifecycle, mounts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    non_negative,
    not_found_value,
    not_supported,
    one_of,
    required,
)
from services.apiserver.strategy.container_restarts import (
    only_for_containers_that_run_on,
    resize_policies,
    restart_policy,
)
from services.apiserver.strategy.environment import environment, environment_sources
from services.apiserver.strategy.names import dns_label
from services.apiserver.strategy.pod_claims import used_claims
from services.apiserver.strategy.ports import PROTOCOLS, port_name, port_number, port_number_or_name
from services.apiserver.strategy.resources import requirements
from services.apiserver.strategy.security import container_security
from services.apiserver.strategy.volume_sources import descending_path

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_NOT_IN_INIT = "must not be set for init containers"
_HEADER_NAME = "[-A-Za-z0-9]+"
_HEADER_DETAIL = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for "
    "validation is '[-A-Za-z0-9]+')"
)


def containers(path: str, pod: Any, volumes: dict[str, Any]) -> list[Cause]:
    """A pod's regular containers: at least one."""
    entries = pod.containers
    if not entries:
        return [required(path)]
    causes: list[Cause] = []
    names: set[str] = set()
    for index, container in enumerate(entries):
        where = f"{path}[{index}]"
        causes += _container(where, container, volumes, names, pod)
        for field in ("livenessProbe", "readinessProbe", "startupProbe"):
            if container.HasField(field):
                causes += _probe(f"{where}.{field}", getattr(container, field), field)
        if container.HasField("lifecycle"):
            causes += _lifecycle(f"{where}.lifecycle", container.lifecycle, pod)
    causes += _host_port_conflicts(path, entries)
    return causes + (_host_network_ports(path, entries) if pod.hostNetwork else [])


def init_containers(path: str, pod: Any, volumes: dict[str, Any]) -> list[Cause]:
    """Init containers; one with restartPolicy Always is a sidecar and may be probed."""
    causes: list[Cause] = []
    entries = pod.initContainers
    names = {container.name for container in pod.containers if container.name}
    for index, container in enumerate(entries):
        where = f"{path}[{index}]"
        causes += _container(where, container, volumes, names, pod)
        names.discard("")
        sidecar = container.restartPolicy == "Always"
        for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if not container.HasField(field):
                continue
            value = getattr(container, field)
            if not sidecar:
                causes.append(invalid(f"{where}.{field}", value, _NOT_IN_INIT))
            elif field == "lifecycle":
                causes += _lifecycle(f"{where}.{field}", value, pod)
            else:
                causes += _probe(f"{where}.{field}", value, field)
        # They run one after the other; Kubernetes counts each as the first.
        causes += _host_port_conflicts(path, [container])
    return causes


def ephemeral_containers(path: str, spec: Any, volumes: dict[str, Any]) -> list[Cause]:
    """Debugging containers of a running pod."""
    causes: list[Cause] = []
    known = {c.name for c in (*spec.containers, *spec.initContainers)}
    names = known - {""}
    for index, entry in enumerate(spec.ephemeralContainers):
        where = f"{path}[{index}]"
        container = entry.ephemeralContainerCommon
        causes += _container(where, container, volumes, names, spec)
        names.discard("")
        causes += padded_image(f"{where}.image", container.image)
        causes += only_for_containers_that_run_on(where, container)
        if entry.targetContainerName and entry.targetContainerName not in known:
            causes.append(not_found_value(f"{where}.targetContainerName", entry.targetContainerName))
        for field in ("ports", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "resources"):
            value = getattr(container, field)
            given = len(value) > 0 if field == "ports" else bool(value.ListFields())
            if given:
                causes.append(forbidden(f"{where}.{field}", "cannot be set for an Ephemeral Container"))
    return causes


def padded_image(path: str, name: str) -> list[Cause]:
    """A rule for pods only: templates may stand for something else."""
    return [invalid(path, name, "must not have leading or trailing whitespace")] if name.strip() != name else []


def _container(path: str, container: Any, volumes: dict[str, Any], names: set[str], pod: Any) -> list[Cause]:
    """What every sort of container obeys; adds its name to `names`."""
    causes: list[Cause] = []
    if not container.name:
        causes.append(required(f"{path}.name"))
    else:
        causes += invalid_all(f"{path}.name", container.name, dns_label(container.name))
    if container.name in names:
        causes.append(duplicate(f"{path}.name", container.name))
    names.add(container.name)
    if not container.image:
        causes.append(required(f"{path}.image"))
    policy = container.terminationMessagePolicy
    if policy not in ("File", "FallbackToLogsOnError"):
        where, detail = f"{path}.terminationMessagePolicy", "must be 'File' or 'FallbackToLogsOnError'"
        causes.append(invalid(where, policy, detail) if policy else required(where, detail))
    causes += one_of(f"{path}.imagePullPolicy", container.imagePullPolicy, PULL_POLICIES)
    causes += restart_policy(path, container)
    if container.resizePolicy:
        causes += resize_policies(f"{path}.resizePolicy", container.resizePolicy, pod.restartPolicy)
    if container.ports:
        causes += _ports(f"{path}.ports", container.ports)
    if container.env:
        causes += environment(f"{path}.env", container.env)
    if container.envFrom:
        causes += environment_sources(f"{path}.envFrom", container.envFrom)
    if container.volumeMounts:
        causes += _mounts(f"{path}.volumeMounts", container, volumes)
    if container.volumeDevices:
        causes += _devices(f"{path}.volumeDevices", container, volumes)
    if container.HasField("resources"):
        causes += requirements(f"{path}.resources", container.resources)
        causes += used_claims(f"{path}.resources.claims", container.resources.claims, pod)
    if container.HasField("securityContext"):
        causes += container_security(f"{path}.securityContext", container.securityContext, pod)
    return causes


def _ports(path: str, ports: Any) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        where = f"{path}[{index}]"
        if port.name:
            problems = port_name(port.name)
            causes += invalid_all(f"{where}.name", port.name, problems)
            if not problems and port.name in names:
                causes.append(duplicate(f"{where}.name", port.name))
            names.add(port.name)
        causes += (
            port_number(f"{where}.containerPort", port.containerPort)
            if port.containerPort
            else [required(f"{where}.containerPort")]
        )
        if port.hostPort:
            causes += port_number(f"{where}.hostPort", port.hostPort)
        causes += one_of(f"{where}.protocol", port.protocol, PROTOCOLS)
    return causes


def _host_port_conflicts(path: str, entries: Sequence[Any]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, container in enumerate(entries):
        for position, port in enumerate(container.ports):
            if not port.hostPort:
                continue
            key = f"{port.protocol}/{port.hostIP}/{port.hostPort}"
            if key in seen:
                causes.append(duplicate(f"{path}[{index}].ports[{position}].hostPort", key))
            seen.add(key)
    return causes


def _host_network_ports(path: str, entries: Sequence[Any]) -> list[Cause]:
    return [
        invalid(
            f"{path}[{index}].ports[{position}].containerPort",
            port.containerPort,
            "must match `hostPort` when `hostNetwork` is true",
        )
        for index, container in enumerate(entries)
        for position, port in enumerate(container.ports)
        if port.hostPort != port.containerPort
    ]


def _probe(path: str, probe: Any, kind: str) -> list[Cause]:
    causes = _handler(path, probe.handler)
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        causes += non_negative(f"{path}.{field}", getattr(probe, field))
    if kind != "readinessProbe":
        if probe.successThreshold != 1:
            causes.append(invalid(f"{path}.successThreshold", probe.successThreshold, "must be 1"))
        if probe.HasField("terminationGracePeriodSeconds") and probe.terminationGracePeriodSeconds <= 0:
            where = f"{path}.terminationGracePeriodSeconds"
            causes.append(invalid(where, probe.terminationGracePeriodSeconds, "must be greater than 0"))
    elif probe.HasField("terminationGracePeriodSeconds"):
        where = f"{path}.terminationGracePeriodSeconds"
        causes.append(invalid(where, probe.terminationGracePeriodSeconds, "must not be set for readinessProbes"))
    return causes


def _lifecycle(path: str, lifecycle: Any, pod: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("postStart", "preStop"):
        if lifecycle.HasField(field):
            handler = getattr(lifecycle, field)
            causes += _handler(f"{path}.{field}", handler)
            if handler.HasField("sleep"):
                causes += _sleep(f"{path}.{field}.sleep", handler.sleep.seconds, pod.terminationGracePeriodSeconds)
    return causes


def _sleep(path: str, seconds: int, grace: int) -> list[Cause]:
    detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
    return [] if 0 <= seconds <= grace else [invalid(path, seconds, detail)]


def _handler(path: str, handler: Any) -> list[Cause]:
    causes: list[Cause] = []
    fields = handler.DESCRIPTOR.fields_by_name
    given = [name for name in _HANDLERS if name in fields and handler.HasField(name)]
    if not given:
        return [required(path, "must specify a handler type")]
    causes += [forbidden(f"{path}.{name}", "may not specify more than 1 handler type") for name in given[1:]]
    action, where = getattr(handler, given[0]), f"{path}.{given[0]}"
    if given[0] == "exec" and not action.command:
        causes.append(required(f"{where}.command"))
    elif given[0] == "httpGet":
        causes += _http_get(where, action)
    elif given[0] == "tcpSocket":
        causes += port_number_or_name(f"{where}.port", action.port)
    elif given[0] == "grpc":
        causes += port_number(f"{where}.port", action.port)
    return causes


def _http_get(path: str, action: Any) -> list[Cause]:
    causes: list[Cause] = [] if action.path else [required(f"{path}.path")]
    causes += port_number_or_name(f"{path}.port", action.port)
    if action.scheme not in ("HTTP", "HTTPS"):
        causes.append(not_supported(f"{path}.scheme", action.scheme, ["HTTP", "HTTPS"]))
    for header in action.httpHeaders:
        if not re.fullmatch(_HEADER_NAME, header.name):
            causes.append(invalid(f"{path}.httpHeaders", header.name, _HEADER_DETAIL))
    return causes


def _mounts(path: str, container: Any, volumes: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    paths: set[str] = set()
    device_names = {d.name for d in container.volumeDevices}
    device_paths = {d.devicePath for d in container.volumeDevices}
    privileged = container.securityContext.privileged
    for index, mount in enumerate(container.volumeMounts):
        where = f"{path}[{index}]"
        if not mount.name:
            causes.append(required(f"{where}.name"))
        if mount.name not in volumes:
            causes.append(not_found_value(f"{where}.name", mount.name))
        if not mount.mountPath:
            causes.append(required(f"{where}.mountPath"))
        if mount.mountPath in paths:
            causes.append(invalid(f"{where}.mountPath", mount.mountPath, "must be unique"))
        paths.add(mount.mountPath)
        if mount.name in device_names:
            causes.append(invalid(f"{where}.name", mount.name, "must not already exist in volumeDevices"))
        if mount.mountPath in device_paths:
            detail = "must not already exist as a path in volumeDevices"
            causes.append(invalid(f"{where}.mountPath", mount.mountPath, detail))
        if mount.subPath and mount.subPathExpr:
            detail = "subPathExpr and subPath are mutually exclusive"
            causes.append(invalid(f"{where}.subPathExpr", mount.subPathExpr, detail))
        # Kubernetes leaves the index out of these two paths.
        for field in ("subPath", "subPathExpr"):
            if getattr(mount, field):
                causes += descending_path(f"{path}.{field}", getattr(mount, field))
        if mount.HasField("mountPropagation"):
            causes += _propagation(f"{path}.mountPropagation", mount.mountPropagation, privileged=privileged)
        if mount.HasField("recursiveReadOnly"):
            causes += _recursive_read_only(f"{where}.recursiveReadOnly", mount)
    return causes


def _recursive_read_only(path: str, mount: Any) -> list[Cause]:
    if mount.recursiveReadOnly == "Disabled":
        return []
    causes = one_of(path, mount.recursiveReadOnly, ("Disabled", "Enabled", "IfPossible"))
    if causes:
        return causes
    if not mount.readOnly:
        causes.append(forbidden(path, "may only be specified when readOnly is true"))
    if mount.HasField("mountPropagation") and mount.mountPropagation != "None":
        causes.append(forbidden(path, "may only be specified when mountPropagation is None or not specified"))
    return causes


def _propagation(path: str, mode: str, *, privileged: bool) -> list[Cause]:
    modes = ("Bidirectional", "HostToContainer", "None")
    if mode not in modes:
        return [not_supported(path, mode, modes)]
    if mode == "Bidirectional" and not privileged:
        return [forbidden(path, "Bidirectional mount propagation is available only to privileged containers")]
    return []


def _devices(path: str, container: Any, volumes: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    paths: set[str] = set()
    mounted_names = {m.name for m in container.volumeMounts}
    mounted_paths = {m.mountPath for m in container.volumeMounts}
    for index, device in enumerate(container.volumeDevices):
        where = f"{path}[{index}]"
        volume = volumes.get(device.name)
        if not device.name:
            causes.append(required(f"{where}.name"))
        elif device.name in names:
            causes.append(invalid(f"{where}.name", device.name, "must be unique"))
        if volume is None:
            causes.append(not_found_value(f"{where}.name", device.name))
        elif not (volume.volumeSource.HasField("persistentVolumeClaim") or volume.volumeSource.HasField("ephemeral")):
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            causes.append(invalid(f"{where}.name", device.name, detail))
        if not device.devicePath:
            causes.append(required(f"{where}.devicePath"))
        if device.devicePath in paths:
            causes.append(invalid(f"{where}.devicePath", device.devicePath, "must be unique"))
        if ".." in device.devicePath.split("/"):
            causes.append(invalid(f"{where}.devicePath", device.devicePath, "can not contain backsteps ('..')"))
        else:
            paths.add(device.devicePath)
        if device.name in mounted_names:
            causes.append(invalid(f"{where}.name", device.name, "must not already exist in volumeMounts"))
        if device.devicePath in mounted_paths:
            detail = "must not already exist as a path in volumeMounts"
            causes.append(invalid(f"{where}.devicePath", device.devicePath, detail))
        names.add(device.name)
    return causes
