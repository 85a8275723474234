"""What is said to Docker and what it answers, as pure functions: request bodies from specs, states from answers."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from services.kubelet.runtime import interface as ri
from services.kubelet.runtime.interface import (
    ContainerSpec,
    ContainerState,
    Phase,
    PodIdentity,
    Resources,
    SandboxSpec,
    SandboxState,
)

KIND_SANDBOX = "sandbox"
KIND_CONTAINER = "container"
_LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}}
# Left out, Docker takes rprivate, but for a source around its own root, which it only mounts as rslave.
_PROPAGATION = {"HostToContainer": {"Propagation": "rslave"}, "Bidirectional": {"Propagation": "rshared"}}


def sandbox_name(pod: PodIdentity, attempt: int) -> str:
    return f"k8s_POD_{pod.name}_{pod.namespace}_{pod.uid}_{attempt}"


def container_name(spec: ContainerSpec) -> str:
    return f"k8s_{spec.name}_{spec.pod.name}_{spec.pod.namespace}_{spec.pod.uid}_{spec.attempt}"


def sandbox_body(spec: SandboxSpec, *, image: str, network: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Body of POST /containers/create."""
    host: dict[str, Any] = {
        "NetworkMode": "host" if spec.host_network else network,
        "IpcMode": "host" if spec.host_ipc else "shareable",
        "ReadonlyRootfs": True,
        "CpuShares": 2,
        "LogConfig": {"Type": "none"},
        "SecurityOpt": ["no-new-privileges"],
    }
    if spec.host_pid:
        host["PidMode"] = "host"
    if spec.sysctls:
        host["Sysctls"] = dict(spec.sysctls)
    body: dict[str, Any] = {
        "Image": image,
        "Entrypoint": ["/pause"],
        "Labels": {
            **labels,
            **_pod_labels(spec.pod),
            ri.LABEL_KIND: KIND_SANDBOX,
            ri.LABEL_ATTEMPT: str(spec.attempt),
            ri.LABEL_POD_IP: spec.ip or "",
            ri.LABEL_GRACE: str(spec.grace_seconds),
        },
        "HostConfig": host,
    }
    if not spec.host_network:
        body["Hostname"] = spec.hostname
        body["NetworkingConfig"] = {"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": spec.ip}}}}
    return body


def resource_limits(resources: Resources) -> dict[str, int]:
    """As a container's HostConfig and POST /containers/<id>/update have them."""
    limits = {"CpuShares": max(2, resources.cpu_request * 1024 // 1000)}
    if resources.cpu_limit:
        # The least the kernel takes is 1 ms of each 100 ms.
        limits |= {"CpuPeriod": 100_000, "CpuQuota": max(1000, resources.cpu_limit * 100)}
    if resources.memory_limit:
        limits |= {"Memory": resources.memory_limit, "MemorySwap": resources.memory_limit}
    return limits


def container_body(spec: ContainerSpec, *, sandbox_id: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Body of POST /containers/create."""
    shared = f"container:{sandbox_id}"
    resources, security = spec.resources, spec.security
    host: dict[str, Any] = {
        "NetworkMode": shared,
        "IpcMode": "host" if spec.host_ipc else shared,
        "LogConfig": _LOG_CONFIG,
        **resource_limits(resources),
        "Mounts": [
            {
                "Type": "bind",
                "Source": mount.source,
                "Target": mount.target,
                "ReadOnly": mount.read_only,
                "BindOptions": _PROPAGATION.get(mount.propagation, {}),
            }
            for mount in spec.mounts
        ],
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.read_only_root,
        "CapAdd": list(security.capabilities_add),
        "CapDrop": list(security.capabilities_drop),
        "GroupAdd": [str(group) for group in security.groups],
    }
    if spec.host_pid:
        host["PidMode"] = "host"
    elif spec.share_processes:
        host["PidMode"] = shared
    elif spec.target_id:
        host["PidMode"] = f"container:{spec.target_id}"
    if resources.oom_score_adj:
        host["OomScoreAdj"] = resources.oom_score_adj
    if spec.devices:
        host["Devices"] = [
            {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": permissions}
            for source, target, permissions in spec.devices
        ]
    options = ["no-new-privileges"] if security.no_new_privileges else []
    if security.seccomp == "Unconfined":
        options.append("seccomp=unconfined")
    if options:
        host["SecurityOpt"] = options
    body: dict[str, Any] = {
        "Image": spec.image_id,
        "Env": [f"{name}={value}" for name, value in spec.env],
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin_once,
        "Tty": spec.tty,
        "Labels": {
            **labels,
            **_pod_labels(spec.pod),
            ri.LABEL_KIND: KIND_CONTAINER,
            ri.LABEL_CONTAINER_NAME: spec.name,
            ri.LABEL_ATTEMPT: str(spec.attempt),
            ri.LABEL_SANDBOX_ATTEMPT: str(spec.sandbox_attempt),
            ri.LABEL_HASH: spec.hash,
            ri.LABEL_BACKOFF: str(spec.backoff_seconds),
            ri.LABEL_IMAGE: spec.image,
            ri.LABEL_MESSAGE_PATH: spec.message_file,
        },
        "HostConfig": host,
        # Kubernetes knows no image health checks; probes are the kubelet's.
        "Healthcheck": {"Test": ["NONE"]},
    }
    if spec.command is not None:
        body["Entrypoint"] = list(spec.command)
    if spec.args is not None:
        body["Cmd"] = list(spec.args)
    elif spec.command is not None:
        body["Cmd"] = []
    if spec.working_dir:
        body["WorkingDir"] = spec.working_dir
    if security.user:
        body["User"] = security.user
    if spec.stop_signal:
        body["StopSignal"] = spec.stop_signal
    return body


def container_of_spec(
    spec: ContainerSpec, container_id: str, *, created_at: float, started_at: float
) -> ContainerState:
    """The state of a container that was just started, without asking Docker again."""
    return ContainerState(
        id=container_id,
        pod=spec.pod,
        name=spec.name,
        attempt=spec.attempt,
        sandbox_attempt=spec.sandbox_attempt,
        phase=Phase.RUNNING,
        image=spec.image,
        image_id=spec.image_id,
        hash=spec.hash,
        backoff_seconds=spec.backoff_seconds,
        created_at=created_at,
        started_at=started_at,
        message_file=spec.message_file,
    )


def pod_of(labels: Mapping[str, str]) -> PodIdentity:
    return PodIdentity(
        labels.get(ri.LABEL_POD_NAMESPACE, ""), labels.get(ri.LABEL_POD_NAME, ""), labels.get(ri.LABEL_POD_UID, "")
    )


def sandbox_of_summary(summary: Mapping[str, Any]) -> SandboxState:
    """From one entry of GET /containers/json."""
    labels = summary.get("Labels") or {}
    return SandboxState(
        id=summary["Id"],
        pod=pod_of(labels),
        attempt=_number(labels.get(ri.LABEL_ATTEMPT)),
        running=summary.get("State") == "running",
        ip=labels.get(ri.LABEL_POD_IP, ""),
        created_at=float(summary.get("Created", 0)),
        grace_seconds=_number(labels.get(ri.LABEL_GRACE), 30),
    )


def container_of_inspect(answer: Mapping[str, Any]) -> ContainerState:
    """From GET /containers/<id>/json."""
    labels = answer["Config"].get("Labels") or {}
    state = answer["State"]
    status = state.get("Status", "")
    exit_code = int(state.get("ExitCode", 0))
    phase, reason, message = Phase.RUNNING, "", ""
    if status == "created":
        phase = Phase.CREATED
    elif not state.get("Running"):
        phase = Phase.EXITED
        reason = exit_reason(exit_code, oom=bool(state.get("OOMKilled")))
        message = state.get("Error") or ""
    return ContainerState(
        id=answer["Id"],
        pod=pod_of(labels),
        name=labels.get(ri.LABEL_CONTAINER_NAME, ""),
        attempt=_number(labels.get(ri.LABEL_ATTEMPT)),
        sandbox_attempt=_number(labels.get(ri.LABEL_SANDBOX_ATTEMPT)),
        phase=phase,
        image=labels.get(ri.LABEL_IMAGE, answer["Config"].get("Image", "")),
        image_id=answer.get("Image", ""),
        hash=labels.get(ri.LABEL_HASH, ""),
        backoff_seconds=_number(labels.get(ri.LABEL_BACKOFF)),
        created_at=timestamp(answer.get("Created", "")),
        started_at=timestamp(state.get("StartedAt", "")),
        finished_at=timestamp(state.get("FinishedAt", "")) if phase is Phase.EXITED else 0.0,
        exit_code=exit_code,
        reason=reason,
        message=message,
        message_file=labels.get(ri.LABEL_MESSAGE_PATH, ""),
    )


def exit_reason(exit_code: int, *, oom: bool = False) -> str:
    if oom:
        return "OOMKilled"
    return "Completed" if exit_code == 0 else "Error"


def timestamp(text: str) -> float:
    """Docker's RFC 3339 with nanoseconds; the zero time is 0.0."""
    if not text or text.startswith("0001-"):
        return 0.0
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = datetime.fromisoformat(whole[:19]).replace(tzinfo=UTC).timestamp()
    digits = re.match(r"\d*", rest)
    return seconds + (float(f"0.{digits.group()}") if digits and digits.group() else 0.0)


def _pod_labels(pod: PodIdentity) -> dict[str, str]:
    return {ri.LABEL_POD_NAME: pod.name, ri.LABEL_POD_NAMESPACE: pod.namespace, ri.LABEL_POD_UID: pod.uid}


def _number(text: str | None, default: int = 0) -> int:
    try:
        return int(text or default)
    except ValueError:
        return default
