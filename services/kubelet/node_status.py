"""The Node object as this kubelet wants it: pure functions of the machine, the options and what was observed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.kubelet.machine import Machine
from services.kubelet.runtime.interface import ImageState, RuntimeInfo
from tillerman.api.quantity import milli_value, value
from tillerman.api.times import from_seconds
from tillerman.pb.k8s import core_v1_pb2 as core

_MAX_IMAGES = 50
_LOW_MEMORY = 100 << 20
KUBELET_VERSION = "v1.32.0-tillerman"


@dataclass(frozen=True, slots=True)
class Health:
    """error: why the node is not ready; empty when it is."""

    error: str = ""
    memory_available: int = 1 << 40
    disk_available: int = 1 << 40


def allocatable(machine: Machine, *, max_pods: int, reserved: Mapping[str, str]) -> dict[str, int]:
    """cpu in millicores, the rest in units."""
    return {
        "cpu": max(machine.cpu - (milli_value(reserved["cpu"]) if "cpu" in reserved else 0), 0),
        "memory": max(machine.memory - (value(reserved["memory"]) if "memory" in reserved else 0), 0),
        "ephemeral-storage": machine.disk,
        "pods": max_pods,
    }


def build_node(
    *,
    name: str,
    labels: Mapping[str, str],
    taints: Sequence[str],
    machine: Machine,
) -> core.Node:
    """To be created. Raises ValueError for a bad taint."""
    node = core.Node()
    node.metadata.name = name
    node.metadata.labels.update(own_labels(name, machine, labels))
    node.metadata.annotations["volumes.kubernetes.io/controller-managed-attach-detach"] = "true"
    for text in taints:
        key_value, _, effect = text.rpartition(":")
        key, _, taint_value = key_value.partition("=")
        if effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute") or not key:
            raise ValueError(f'--register-with-taints: "{text}" is not key=value:Effect')
        taint = node.spec.taints.add()
        taint.key, taint.effect = key, effect
        if taint_value:
            taint.value = taint_value
    return node


def own_labels(name: str, machine: Machine, labels: Mapping[str, str]) -> dict[str, str]:
    base = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine.architecture,
    }
    return {**base, **labels}


def build_status(
    old: core.NodeStatus,
    *,
    name: str,
    ip: str,
    port: int,
    machine: Machine,
    runtime: RuntimeInfo,
    given: Mapping[str, int],
    images: Sequence[ImageState],
    health: Health,
    now: float,
) -> core.NodeStatus:
    """The whole status; conditions of others are kept, heartbeat times are `now`."""
    status = core.NodeStatus()
    status.CopyFrom(old)
    whole = {"cpu": machine.cpu, "memory": machine.memory, "ephemeral-storage": machine.disk, "pods": given["pods"]}
    for target, amounts in ((status.capacity, whole), (status.allocatable, given)):
        for resource, amount in amounts.items():
            target[resource].string = _quantity(resource, amount)
    others = [a for a in old.addresses if a.type not in ("InternalIP", "Hostname")]
    del status.addresses[:]
    status.addresses.add(type="InternalIP", address=ip)
    status.addresses.add(type="Hostname", address=name)
    status.addresses.extend(others)
    status.daemonEndpoints.kubeletEndpoint.Port = port
    info = status.nodeInfo
    info.machineID, info.systemUUID, info.bootID = machine.machine_id, machine.system_uuid, machine.boot_id
    info.kernelVersion, info.osImage, info.architecture = machine.kernel, machine.os_image, machine.architecture
    info.containerRuntimeVersion, info.kubeletVersion = runtime.version_url, KUBELET_VERSION
    info.kubeProxyVersion, info.operatingSystem = KUBELET_VERSION, "linux"
    del status.images[:]
    for image in sorted(images, key=lambda image: (-image.size, image.id))[:_MAX_IMAGES]:
        names = [*image.digests, *image.names]
        if names:
            status.images.add(names=names[:5], sizeBytes=image.size)
    _conditions(old, status, health, now)
    return status


def same_but_for_heartbeats(left: core.NodeStatus, right: core.NodeStatus) -> bool:
    one, other = core.NodeStatus(), core.NodeStatus()
    one.CopyFrom(left)
    other.CopyFrom(right)
    for status in (one, other):
        for condition in status.conditions:
            condition.ClearField("lastHeartbeatTime")
    return one == other


def _conditions(old: core.NodeStatus, status: core.NodeStatus, health: Health, now: float) -> None:
    low_memory = health.memory_available < _LOW_MEMORY
    low_disk = health.disk_available < _LOW_MEMORY
    said = [
        ("MemoryPressure", low_memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
        ("DiskPressure", low_disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
        ("PIDPressure", False, "KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
        ("Ready", not health.error, "KubeletReady", "KubeletNotReady"),
    ]
    words = {
        "KubeletHasInsufficientMemory": "kubelet has insufficient memory available",
        "KubeletHasSufficientMemory": "kubelet has sufficient memory available",
        "KubeletHasDiskPressure": "kubelet has disk pressure",
        "KubeletHasNoDiskPressure": "kubelet has no disk pressure",
        "KubeletHasInsufficientPID": "kubelet has insufficient PID available",
        "KubeletHasSufficientPID": "kubelet has sufficient PID available",
        "KubeletReady": "kubelet is posting ready status",
        "KubeletNotReady": health.error,
    }
    before = {condition.type: condition for condition in old.conditions}
    own = {type_ for type_, *_ in said}
    others = [condition for condition in old.conditions if condition.type not in own]
    del status.conditions[:]
    status.conditions.extend(others)
    for type_, value_, yes, no in said:
        reason = yes if value_ else no
        condition = status.conditions.add(
            type=type_, status="True" if value_ else "False", reason=reason, message=words[reason]
        )
        condition.lastHeartbeatTime.CopyFrom(from_seconds(now))
        last = before.get(type_)
        if last is not None and last.status == condition.status:
            condition.lastTransitionTime.CopyFrom(last.lastTransitionTime)
        else:
            condition.lastTransitionTime.CopyFrom(from_seconds(now))


def _quantity(resource: str, amount: int) -> str:
    if resource == "cpu":
        return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"
    if resource in ("memory", "ephemeral-storage") and amount % 1024 == 0:
        return f"{amount // 1024}Ki"
    return str(amount)
