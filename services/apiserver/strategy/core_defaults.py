"""Defaults of the core group's kinds other than pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tillerman.pb.k8s import core_v1_pb2 as core

VALUES: dict[Any, dict[str, Any]] = {
    core.Secret: {"type": "Opaque"},
    core.EndpointPort: {"protocol": "TCP"},
    core.ServiceSpec: {"sessionAffinity": "None", "type": "ClusterIP"},
    core.PersistentVolumeSpec: {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"},
    core.PersistentVolumeStatus: {"phase": "Pending"},
    core.PersistentVolumeClaimSpec: {"volumeMode": "Filesystem"},
    core.PersistentVolumeClaimStatus: {"phase": "Pending"},
    core.NamespaceStatus: {"phase": "Active"},
    core.ReplicationControllerSpec: {"replicas": 1},
}


def _service(spec: Any) -> None:
    if spec.sessionAffinity == "None":
        spec.ClearField("sessionAffinityConfig")
    elif spec.sessionAffinity == "ClientIP":
        client_ip = spec.sessionAffinityConfig.clientIP
        if not client_ip.HasField("timeoutSeconds"):
            client_ip.timeoutSeconds = 3 * 60 * 60
    for port in spec.ports:
        if not port.protocol:
            port.protocol = "TCP"
        target = port.targetPort
        if not target.strVal and not target.intVal:
            target.type, target.intVal = 0, port.port
    if spec.type in ("NodePort", "LoadBalancer") and not spec.externalTrafficPolicy:
        spec.externalTrafficPolicy = "Cluster"
    if spec.type in ("ClusterIP", "NodePort", "LoadBalancer") and not spec.HasField("internalTrafficPolicy"):
        spec.internalTrafficPolicy = "Cluster"
    if spec.type == "LoadBalancer" and not spec.HasField("allocateLoadBalancerNodePorts"):
        spec.allocateLoadBalancerNodePorts = True


def _service_status(service: Any) -> None:
    """An address of a load balancer is its own, unless it is said to be a proxy's."""
    if service.spec.type == "LoadBalancer":
        for ingress in service.status.loadBalancer.ingress:
            if ingress.ip and not ingress.HasField("ipMode"):
                ingress.ipMode = "VIP"


def _secret(secret: Any) -> None:
    """stringData is write-only: it lands in data."""
    for key, text in secret.stringData.items():
        secret.data[key] = text.encode()
    secret.ClearField("stringData")


def _replication_controller(controller: Any) -> None:
    labels = controller.spec.template.metadata.labels if controller.spec.HasField("template") else {}
    if labels:
        if not controller.spec.selector:
            controller.spec.selector.update(labels)
        if not controller.metadata.labels:
            controller.metadata.labels.update(labels)


def _namespace(namespace: Any) -> None:
    if namespace.metadata.name:
        namespace.metadata.labels["kubernetes.io/metadata.name"] = namespace.metadata.name


def _node_spec(spec: Any) -> None:
    """podCIDR is the first of podCIDRs."""
    if spec.podCIDR and not spec.podCIDRs:
        spec.podCIDRs.append(spec.podCIDR)
    elif spec.podCIDRs and not spec.podCIDR:
        spec.podCIDR = spec.podCIDRs[0]


def _node_status(status: Any) -> None:
    """Until the kubelet reserves something, all that is there can be allocated."""
    if not status.allocatable:
        for name, amount in status.capacity.items():
            status.allocatable[name].CopyFrom(amount)


def _pod_status(status: Any) -> None:
    """podIP is the first of podIPs; where they differ, whoever wrote it knew of one address only."""
    if status.podIP and (not status.podIPs or status.podIPs[0].ip != status.podIP):
        del status.podIPs[:]
        status.podIPs.add(ip=status.podIP)
    elif status.podIPs and not status.podIP:
        status.podIP = status.podIPs[0].ip


def _limit_range_item(item: Any) -> None:
    """A container's default limit is its maximum; its default request the default limit, else the minimum."""
    if item.type != "Container":
        return
    defaults, requests = item.default, item.defaultRequest
    for source, target in ((item.max, defaults), (defaults, requests), (item.min, requests)):
        for name in list(source):
            if name not in target:
                target[name].CopyFrom(source[name])


RULES: dict[Any, Callable[[Any], None]] = {
    core.ServiceSpec: _service,
    core.Service: _service_status,
    core.Secret: _secret,
    core.ReplicationController: _replication_controller,
    core.Namespace: _namespace,
    core.NodeSpec: _node_spec,
    core.NodeStatus: _node_status,
    core.PodStatus: _pod_status,
    core.LimitRangeItem: _limit_range_item,
}
