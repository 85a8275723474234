"""Defaults of pods and pod templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tillerman.pb.k8s import core_v1_pb2 as core

_MODE = 0o644
_RBD = {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}
_SCALE_IO = {"storageMode": "ThinProvisioned", "fsType": "xfs"}
_CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}

VALUES: dict[Any, dict[str, Any]] = {
    core.ContainerPort: {"protocol": "TCP"},
    core.PodSpec: {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
    },
    core.Probe: {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    core.HTTPGetAction: {"path": "/", "scheme": "HTTP"},
    core.GRPCAction: {"service": ""},
    core.SecretVolumeSource: {"defaultMode": _MODE},
    core.ConfigMapVolumeSource: {"defaultMode": _MODE},
    core.DownwardAPIVolumeSource: {"defaultMode": _MODE},
    core.ProjectedVolumeSource: {"defaultMode": _MODE},
    core.ServiceAccountTokenProjection: {"expirationSeconds": 3600},
    core.ISCSIVolumeSource: {"iscsiInterface": "default"},
    core.ISCSIPersistentVolumeSource: {"iscsiInterface": "default"},
    core.RBDVolumeSource: _RBD,
    core.RBDPersistentVolumeSource: _RBD,
    core.AzureDiskVolumeSource: {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    core.ScaleIOVolumeSource: _SCALE_IO,
    core.ScaleIOPersistentVolumeSource: _SCALE_IO,
    core.HostPathVolumeSource: {"type": ""},
    core.ObjectFieldSelector: {"apiVersion": "v1"},
    core.Container: _CONTAINER,
    core.EphemeralContainerCommon: _CONTAINER,
}


def _image_pull_policy(container: Any) -> None:
    """Always for :latest (or no tag at all), since that name moves; otherwise what is there is good."""
    if container.imagePullPolicy:
        return
    image, digest = container.image.partition("@")[::2]
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = tag == "latest" or (not tag and not digest)
    container.imagePullPolicy = "Always" if latest else "IfNotPresent"


def _volume(volume: Any) -> None:
    if not volume.HasField("volumeSource") or not volume.volumeSource.ListFields():
        volume.volumeSource.emptyDir.SetInParent()


def _pod_spec(spec: Any) -> None:
    if spec.hostNetwork:
        for container in (*spec.initContainers, *spec.containers):
            for port in container.ports:
                if not port.hostPort:
                    port.hostPort = port.containerPort
    # The deprecated name of the field mirrors the current one.
    if not spec.serviceAccountName and spec.serviceAccount:
        spec.serviceAccountName = spec.serviceAccount
    elif spec.serviceAccountName:
        spec.serviceAccount = spec.serviceAccountName


def _pod(pod: Any) -> None:
    for container in (*pod.spec.initContainers, *pod.spec.containers):
        _requests_from_limits(container)
    if not pod.spec.HasField("enableServiceLinks"):
        pod.spec.enableServiceLinks = True


def _requests_from_limits(container: Any) -> None:
    """A limit without a request asks for as much as it allows."""
    if not container.HasField("resources"):
        return
    limits, requests = container.resources.limits, container.resources.requests
    for name in limits:
        if name not in requests:
            requests[name].CopyFrom(limits[name])


RULES: dict[Any, Callable[[Any], None]] = {
    core.Pod: _pod,
    core.PodSpec: _pod_spec,
    core.Volume: _volume,
    core.Container: _image_pull_policy,
    core.EphemeralContainerCommon: _image_pull_policy,
}
