"""The downward API: fields and resources of a pod as text, for environment variables and volumes. Pure functions."""

import re
from collections.abc import Mapping

from tillerman.api.quantity import milli_value, value
from tillerman.pb.k8s import core_v1_pb2 as core

_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


class DownwardError(Exception):
    """No such field or container."""


def pod_field(pod: core.Pod, path: str) -> str:
    """Raises DownwardError. labels and annotations are lines of key="value"."""
    subscript = _SUBSCRIPT.match(path)
    if subscript:
        table = pod.metadata.labels if subscript.group(1) == "labels" else pod.metadata.annotations
        return table.get(subscript.group(2), "")
    fields = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.nodeName,
        "spec.serviceAccountName": pod.spec.serviceAccountName,
        "status.podIP": pod.status.podIP,
        "status.podIPs": ",".join(ip.ip for ip in pod.status.podIPs),
        "status.hostIP": pod.status.hostIP,
        "status.hostIPs": ",".join(ip.ip for ip in pod.status.hostIPs),
        "metadata.labels": _lines(pod.metadata.labels),
        "metadata.annotations": _lines(pod.metadata.annotations),
    }
    try:
        return fields[path]
    except KeyError:
        raise DownwardError(f"unsupported fieldPath: {path}") from None


def resource_field(
    pod: core.Pod, container: core.Container, ref: core.ResourceFieldSelector, allocatable: Mapping[str, int]
) -> str:
    """Rounded up in units of the divisor; a limit that is not set is what the node can give. Raises DownwardError."""
    target = container
    if ref.containerName and ref.containerName != container.name:
        named = [c for c in [*pod.spec.initContainers, *pod.spec.containers] if c.name == ref.containerName]
        if not named:
            raise DownwardError(f"container {ref.containerName} not found")
        target = named[0]
    kind, _, resource = ref.resource.partition(".")
    table = target.resources.limits if kind == "limits" else target.resources.requests
    divisor_text = ref.divisor.string if ref.HasField("divisor") and ref.divisor.string not in ("", "0") else "1"
    if resource == "cpu":
        amount = milli_value(table["cpu"]) if "cpu" in table else (allocatable.get("cpu", 0) if kind == "limits" else 0)
        divisor = milli_value(divisor_text)
    else:
        amount = (
            value(table[resource]) if resource in table else (allocatable.get(resource, 0) if kind == "limits" else 0)
        )
        divisor = value(divisor_text)
    return str(-(-amount // max(divisor, 1)))


def _lines(table: Mapping[str, str]) -> str:
    escape = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    return "\n".join(
        f'{key}="{"".join(escape.get(char, char) for char in text)}"' for key, text in sorted(table.items())
    )
