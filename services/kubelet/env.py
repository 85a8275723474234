"""A container's environment: service variables, envFrom, env with references and $(VAR) expansion. Pure functions."""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.kubelet.downward import DownwardError, pod_field, resource_field
from tillerman.pb.k8s import core_v1_pb2 as core

_ENV_NAME = re.compile(r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")


class EnvError(Exception):
    """The container cannot be started as its environment is asked for; the text is for the container's status."""


@dataclass(frozen=True, slots=True)
class EnvSources:
    """What the references point to; None for an object that does not exist."""

    config_maps: Mapping[str, core.ConfigMap | None] = field(default_factory=dict)
    secrets: Mapping[str, core.Secret | None] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    pod_ip: str = ""
    host_ip: str = ""
    node_name: str = ""
    # cpu in millicores, others in units.
    allocatable: Mapping[str, int] = field(default_factory=dict)


def referenced(container: core.Container) -> tuple[set[str], set[str]]:
    """Names of the (ConfigMaps, Secrets) that the environment needs."""
    config_maps, secrets = set(), set()
    for source in container.envFrom:
        if source.HasField("configMapRef"):
            config_maps.add(source.configMapRef.localObjectReference.name)
        if source.HasField("secretRef"):
            secrets.add(source.secretRef.localObjectReference.name)
    for variable in container.env:
        if variable.valueFrom.HasField("configMapKeyRef"):
            config_maps.add(variable.valueFrom.configMapKeyRef.localObjectReference.name)
        if variable.valueFrom.HasField("secretKeyRef"):
            secrets.add(variable.valueFrom.secretKeyRef.localObjectReference.name)
    return config_maps, secrets


def build_env(pod: core.Pod, container: core.Container, sources: EnvSources) -> dict[str, str]:
    """Raises EnvError. Later entries win over earlier ones, and may refer to them as $(NAME)."""
    result: dict[str, str] = {}
    for source in container.envFrom:
        result.update((name, value) for name, value in _from_source(pod, source, sources) if _ENV_NAME.match(name))
    known = dict(sources.services)
    for variable in container.env:
        if variable.HasField("valueFrom"):
            found = _value_from(pod, container, variable.valueFrom, sources)
            if found is None:
                continue
            value = found
        else:
            value = expand(variable.value, {**known, **result})
        result[variable.name] = value
    return {**sources.services, **result}


def expand(text: str, values: Mapping[str, str]) -> str:
    """$(NAME) becomes its value, unknown names stay as they are, $$ is a dollar sign."""

    def replace(match: "re.Match[str]") -> str:
        if match.group() == "$$":
            return "$"
        return values.get(match.group(1), match.group())

    return re.sub(r"\$\$|\$\(([^()]*)\)", replace, text)


def service_variables(services: Iterable[core.Service], pod: core.Pod) -> dict[str, str]:
    """NAME_SERVICE_HOST and so on, of the pod's namespace and of the API server's own service."""
    result: dict[str, str] = {}
    linked = not pod.spec.HasField("enableServiceLinks") or pod.spec.enableServiceLinks
    chosen: dict[str, core.Service] = {}
    for service in services:
        meta = service.metadata
        if service.spec.clusterIP in ("", "None"):
            continue
        if meta.namespace == pod.metadata.namespace and linked:
            chosen[meta.name] = service
        elif (meta.namespace, meta.name) == ("default", "kubernetes"):
            chosen.setdefault(meta.name, service)
    for name, service in sorted(chosen.items()):
        result.update(_service_variables(name, service))
    return result


def _service_variables(name: str, service: core.Service) -> dict[str, str]:
    prefix = name.upper().replace("-", "_")
    host = service.spec.clusterIP
    ports: Sequence[core.ServicePort] = service.spec.ports
    result = {f"{prefix}_SERVICE_HOST": host}
    if not ports:
        return result
    result[f"{prefix}_SERVICE_PORT"] = str(ports[0].port)
    spelled = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    for index, port in enumerate(ports):
        if port.name:
            result[f"{prefix}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
        protocol = (port.protocol or "TCP").lower()
        url = f"{protocol}://{spelled}:{port.port}"
        if index == 0:
            result[f"{prefix}_PORT"] = url
        stem = f"{prefix}_PORT_{port.port}_{protocol.upper()}"
        result.update({stem: url, f"{stem}_PROTO": protocol, f"{stem}_PORT": str(port.port), f"{stem}_ADDR": host})
    return result


def _from_source(pod: core.Pod, source: core.EnvFromSource, sources: EnvSources) -> Iterable[tuple[str, str]]:
    if source.HasField("configMapRef"):
        name, optional = source.configMapRef.localObjectReference.name, source.configMapRef.optional
        config_map = sources.config_maps.get(name)
        if config_map is None:
            if optional:
                return []
            raise EnvError(f'configmap "{name}" not found')
        return [(source.prefix + key, value) for key, value in sorted(config_map.data.items())]
    if source.HasField("secretRef"):
        name, optional = source.secretRef.localObjectReference.name, source.secretRef.optional
        secret = sources.secrets.get(name)
        if secret is None:
            if optional:
                return []
            raise EnvError(f'secret "{name}" not found')
        return [(source.prefix + key, value.decode(errors="replace")) for key, value in sorted(secret.data.items())]
    return []


def _value_from(pod: core.Pod, container: core.Container, source: core.EnvVarSource, sources: EnvSources) -> str | None:
    """None: the variable is optional and there is no value for it."""
    where = f"{pod.metadata.namespace}/"
    if source.HasField("fieldRef"):
        path = source.fieldRef.fieldPath
        runtime = {
            "status.podIP": sources.pod_ip,
            "status.podIPs": sources.pod_ip,
            "status.hostIP": sources.host_ip,
            "status.hostIPs": sources.host_ip,
            "spec.nodeName": sources.node_name,
        }
        if path in runtime:
            return runtime[path]
        try:
            return pod_field(pod, path)
        except DownwardError as error:
            raise EnvError(str(error)) from error
    if source.HasField("resourceFieldRef"):
        try:
            return resource_field(pod, container, source.resourceFieldRef, sources.allocatable)
        except DownwardError as error:
            raise EnvError(str(error)) from error
    if source.HasField("configMapKeyRef"):
        ref = source.configMapKeyRef
        name = ref.localObjectReference.name
        config_map = sources.config_maps.get(name)
        if config_map is not None and ref.key in config_map.data:
            return config_map.data[ref.key]
        if ref.optional:
            return None
        missing = f'configmap "{name}" not found'
        raise EnvError(missing if config_map is None else f"couldn't find key {ref.key} in ConfigMap {where}{name}")
    if source.HasField("secretKeyRef"):
        secret_ref = source.secretKeyRef
        name = secret_ref.localObjectReference.name
        secret = sources.secrets.get(name)
        if secret is not None and secret_ref.key in secret.data:
            return secret.data[secret_ref.key].decode(errors="replace")
        if secret_ref.optional:
            return None
        missing = f'secret "{name}" not found'
        raise EnvError(missing if secret is None else f"couldn't find key {secret_ref.key} in Secret {where}{name}")
    return ""
