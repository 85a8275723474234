"""What files a ConfigMap, Secret, downward API or projected volume holds. Pure functions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from services.kubelet.downward import DownwardError, pod_field, resource_field
from tillerman.pb.k8s import core_v1_pb2 as core

DEFAULT_MODE = 0o644


class VolumeError(Exception):
    """The volume cannot be made as it is asked for; the text is for the FailedMount event."""


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    mode: int


Payload = dict[str, File]


@dataclass(frozen=True, slots=True)
class PayloadSources:
    """What the references point to; None for an object that does not exist."""

    config_maps: Mapping[str, core.ConfigMap | None] = field(default_factory=dict)
    secrets: Mapping[str, core.Secret | None] = field(default_factory=dict)
    # By path within the volume.
    tokens: Mapping[str, str] = field(default_factory=dict)
    # Pod and host addresses, which the pod's status may not hold yet.
    allocatable: Mapping[str, int] = field(default_factory=dict)


def referenced(volume: core.Volume) -> tuple[set[str], set[str]]:
    """Names of the (ConfigMaps, Secrets) that the volume is made of."""
    source = volume.volumeSource
    config_maps: set[str] = set()
    secrets: set[str] = set()
    if source.HasField("configMap"):
        config_maps.add(source.configMap.localObjectReference.name)
    if source.HasField("secret"):
        secrets.add(source.secret.secretName)
    for projection in source.projected.sources:
        if projection.HasField("configMap"):
            config_maps.add(projection.configMap.localObjectReference.name)
        if projection.HasField("secret"):
            secrets.add(projection.secret.localObjectReference.name)
    return config_maps, secrets


def is_payload(volume: core.Volume) -> bool:
    source = volume.volumeSource
    return any(source.HasField(name) for name in ("configMap", "secret", "downwardAPI", "projected"))


def payload_of(pod: core.Pod, volume: core.Volume, sources: PayloadSources) -> Payload:
    """Files by path within the volume. Raises VolumeError."""
    source = volume.volumeSource
    if source.HasField("configMap"):
        mode = _mode(source.configMap)
        ref = source.configMap
        return _config_map(pod, ref.localObjectReference.name, ref.items, ref.optional, mode, sources)
    if source.HasField("secret"):
        mode = _mode(source.secret)
        return _secret(pod, source.secret.secretName, source.secret.items, source.secret.optional, mode, sources)
    if source.HasField("downwardAPI"):
        return _downward(pod, source.downwardAPI.items, _mode(source.downwardAPI), sources)
    mode = _mode(source.projected)
    payload: Payload = {}
    for projection in source.projected.sources:
        if projection.HasField("configMap"):
            cm = projection.configMap
            payload.update(_config_map(pod, cm.localObjectReference.name, cm.items, cm.optional, mode, sources))
        elif projection.HasField("secret"):
            secret = projection.secret
            name = secret.localObjectReference.name
            payload.update(_secret(pod, name, secret.items, secret.optional, mode, sources))
        elif projection.HasField("downwardAPI"):
            payload.update(_downward(pod, projection.downwardAPI.items, mode, sources))
        elif projection.HasField("serviceAccountToken"):
            path = projection.serviceAccountToken.path
            payload[path] = File(sources.tokens[path].encode(), mode)
    return payload


_Source = (
    core.ConfigMapVolumeSource | core.SecretVolumeSource | core.DownwardAPIVolumeSource | core.ProjectedVolumeSource
)


def _mode(source: _Source) -> int:
    return source.defaultMode if source.HasField("defaultMode") else DEFAULT_MODE


def _config_map(
    pod: core.Pod, name: str, items: Iterable[core.KeyToPath], optional: bool, mode: int, sources: PayloadSources
) -> Payload:
    found = sources.config_maps.get(name)
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'configmap "{name}" not found')
    data = {key: text.encode() for key, text in found.data.items()} | dict(found.binaryData.items())
    words = "configmap references non-existent config key: "
    return _select(data, list(items), optional, mode, lambda key: words + key)


def _secret(
    pod: core.Pod, name: str, items: Iterable[core.KeyToPath], optional: bool, mode: int, sources: PayloadSources
) -> Payload:
    found = sources.secrets.get(name)
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'secret "{name}" not found')
    words = "references non-existent secret key: "
    return _select(dict(found.data.items()), list(items), optional, mode, lambda key: words + key)


def _select(
    data: Mapping[str, bytes],
    items: list[core.KeyToPath],
    optional: bool,
    mode: int,
    missing: Callable[[str], str],
) -> Payload:
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    payload: Payload = {}
    for item in items:
        if item.key not in data:
            if optional:
                continue
            raise VolumeError(missing(item.key))
        payload[item.path] = File(data[item.key], item.mode if item.HasField("mode") else mode)
    return payload


def _downward(
    pod: core.Pod, items: Iterable[core.DownwardAPIVolumeFile], mode: int, sources: PayloadSources
) -> Payload:
    payload: Payload = {}
    for item in items:
        try:
            if item.HasField("fieldRef"):
                text = pod_field(pod, item.fieldRef.fieldPath)
            else:
                text = resource_field(pod, core.Container(), item.resourceFieldRef, sources.allocatable)
        except DownwardError as error:
            raise VolumeError(str(error)) from error
        payload[item.path] = File(text.encode(), item.mode if item.HasField("mode") else mode)
    return payload
