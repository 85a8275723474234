"""A container of a pod as the runtime takes it: resources, security, mounts. Pure, but for reading mount paths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.kubelet.container_hash import container_hash
from services.kubelet.env import expand
from services.kubelet.runtime.interface import (
    ContainerSpec,
    ImageState,
    Mount,
    PodIdentity,
    Resources,
    SandboxState,
    Security,
)
from services.kubelet.volumes.payload import VolumeError
from tillerman.api.pods import qos_class
from tillerman.api.quantity import milli_value, value
from tillerman.pb.k8s import core_v1_pb2 as core


class ConfigError(Exception):
    """The container cannot be created as it is asked for: CreateContainerConfigError."""


@dataclass(frozen=True, slots=True)
class PodPaths:
    """Files on this machine that are mounted into every container of the pod."""

    etc_hosts: Path
    resolv_conf: Path
    message_file: Path


def pod_identity(pod: core.Pod) -> PodIdentity:
    return PodIdentity(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)


def container_spec(
    pod: core.Pod,
    container: core.Container,
    *,
    sandbox: SandboxState,
    target_id: str,
    attempt: int,
    backoff_seconds: int,
    image: ImageState,
    env: Mapping[str, str],
    paths: PodPaths,
    volume_path: Callable[[str], Path],
    node_memory: int,
) -> ContainerSpec:
    """Raises ConfigError. target_id: see ContainerSpec. volume_path gives where a volume is, and raises VolumeError."""
    return ContainerSpec(
        pod=pod_identity(pod),
        name=container.name,
        attempt=attempt,
        sandbox_attempt=sandbox.attempt,
        image=container.image,
        image_id=image.id,
        command=tuple(expand(word, env) for word in container.command) if container.command else None,
        args=tuple(expand(word, env) for word in container.args) if container.args else None,
        env=tuple(env.items()),
        working_dir=container.workingDir,
        mounts=tuple(_mounts(pod, container, env, paths, volume_path)),
        resources=resources_of(pod, container, node_memory),
        security=security_of(pod, container, image),
        stdin=container.stdin,
        stdin_once=container.stdinOnce,
        tty=container.tty,
        stop_signal=container.lifecycle.stopSignal,
        hash=container_hash(container),
        backoff_seconds=backoff_seconds,
        message_file=str(paths.message_file),
        host_pid=pod.spec.hostPID,
        host_ipc=pod.spec.hostIPC,
        share_processes=pod.spec.shareProcessNamespace,
        target_id=target_id,
    )


def resources_of(pod: core.Pod, container: core.Container, node_memory: int) -> Resources:
    requests, limits = container.resources.requests, container.resources.limits
    cpu_limit = milli_value(limits["cpu"]) if "cpu" in limits else 0
    memory_limit = value(limits["memory"]) if "memory" in limits else 0
    cpu_request = milli_value(requests["cpu"]) if "cpu" in requests else cpu_limit
    memory_request = value(requests["memory"]) if "memory" in requests else memory_limit
    return Resources(
        cpu_request=cpu_request,
        cpu_limit=cpu_limit,
        memory_request=memory_request,
        memory_limit=memory_limit,
        oom_score_adj=oom_score(qos_class(pod), memory_request, node_memory),
    )


def oom_score(qos: str, memory_request: int, node_memory: int) -> int:
    """Kubernetes' rule. Guaranteed stays at 0 here: a negative score takes CAP_SYS_RESOURCE, which Docker may lack."""
    if qos == "Guaranteed":
        return 0
    if qos == "BestEffort" or node_memory <= 0:
        return 1000
    return min(max(2, 1000 - 1000 * memory_request // node_memory), 999)


def security_of(pod: core.Pod, container: core.Container, image: ImageState) -> Security:
    """The container's context over the pod's. Raises ConfigError for runAsNonRoot that does not hold."""
    whole, own = pod.spec.securityContext, container.securityContext

    def pick(field: str) -> int | None:
        contexts: tuple[Any, Any] = (own, whole)
        for context in contexts:
            if context.HasField(field):
                return int(getattr(context, field))
        return None

    uid, gid = pick("runAsUser"), pick("runAsGroup")
    if pick("runAsNonRoot"):
        image_user = image.user.split(":")[0]
        if uid == 0 or (uid is None and image_user in ("", "0", "root")):
            what = "image will run as root" if uid is None else "container's runAsUser breaks non-root policy"
            raise ConfigError(f"container has runAsNonRoot and {what} (pod: {pod.metadata.name})")
    user = "" if uid is None else str(uid)
    if gid is not None:
        user = f"{user or '0'}:{gid}"
    groups = list(whole.supplementalGroups)
    if whole.HasField("fsGroup"):
        groups.append(whole.fsGroup)
    profile = own.seccompProfile if own.HasField("seccompProfile") else whole.seccompProfile
    return Security(
        user=user,
        groups=tuple(groups),
        privileged=own.privileged,
        read_only_root=own.readOnlyRootFilesystem,
        no_new_privileges=own.HasField("allowPrivilegeEscalation")
        and not own.allowPrivilegeEscalation
        and not own.privileged,
        capabilities_add=tuple(own.capabilities.add),
        capabilities_drop=tuple(own.capabilities.drop),
        seccomp=profile.type,
    )


def _mounts(
    pod: core.Pod,
    container: core.Container,
    env: Mapping[str, str],
    paths: PodPaths,
    volume_path: Callable[[str], Path],
) -> Sequence[Mount]:
    mounts: list[Mount] = []
    for wanted in container.volumeMounts:
        try:
            source = volume_path(wanted.name)
        except VolumeError as error:
            raise ConfigError(str(error)) from error
        sub_path = expand(wanted.subPathExpr, env) if wanted.subPathExpr else wanted.subPath
        if sub_path:
            source = _within(source, sub_path)
        mounts.append(Mount(str(source), wanted.mountPath, wanted.readOnly, wanted.mountPropagation))
    targets = {mount.target.rstrip("/") for mount in mounts}
    message_path = container.terminationMessagePath or "/dev/termination-log"
    own = [
        (paths.etc_hosts, "/etc/hosts"),
        (paths.resolv_conf, "/etc/resolv.conf"),
        (paths.message_file, message_path),
    ]
    mounts.extend(Mount(str(source), target) for source, target in own if target not in targets)
    return mounts


def _within(root: Path, sub_path: str) -> Path:
    """root/sub_path, made as a directory if nothing is there; never outside of root."""
    real_root = root.resolve()
    target = (root / sub_path).resolve()
    if target != real_root and real_root not in target.parents:
        raise ConfigError(f'subPath "{sub_path}" leads out of its volume')
    if not target.exists():
        target.mkdir(parents=True)
        target.chmod(0o777)
    return target
