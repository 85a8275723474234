"""core/v1 Endpoints of a Service: the same backends, repacked into subsets that share their ports."""

from __future__ import annotations

from collections.abc import Iterable

from services.controller.endpoints.backends import (
    Ports,
    has_endpoint,
    is_headless,
    is_published_ready,
    pod_address,
    pod_reference,
    resolve_ports,
)
from tillerman.pb.k8s import core_v1_pb2 as core

# More addresses than this do not go into one Endpoints object; the annotation then says so.
MAX_ADDRESSES = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
HEADLESS = "service.kubernetes.io/headless"


def plan_endpoints(
    service: core.Service, pods: Iterable[core.Pod], existing: core.Endpoints | None, address_type: str
) -> core.Endpoints:
    """The object to write; equal to `existing` when nothing changed."""
    wanted = core.Endpoints()
    if existing is not None:
        wanted.CopyFrom(existing)
    else:
        wanted.metadata.name = service.metadata.name
        wanted.metadata.namespace = service.metadata.namespace
    labels = {key: value for key, value in service.metadata.labels.items() if key != HEADLESS}
    labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller"
    if is_headless(service):
        labels[HEADLESS] = ""
    if dict(wanted.metadata.labels) != labels:
        wanted.metadata.labels.clear()
        wanted.metadata.labels.update(labels)
    groups: dict[Ports, core.EndpointSubset] = {}
    left_out = _fill(groups, service, pods, address_type)
    if left_out:
        wanted.metadata.annotations[OVER_CAPACITY] = "truncated"
    elif OVER_CAPACITY in wanted.metadata.annotations:
        del wanted.metadata.annotations[OVER_CAPACITY]
    del wanted.subsets[:]
    wanted.subsets.extend(groups[ports] for ports in sorted(groups))
    return wanted


def _fill(
    groups: dict[Ports, core.EndpointSubset], service: core.Service, pods: Iterable[core.Pod], address_type: str
) -> int:
    """Fills the subsets, ready addresses first; returns how many addresses did not fit."""
    listed = [
        pod
        for pod in pods
        if has_endpoint(pod)
        and pod_address(pod, address_type)
        and (service.spec.publishNotReadyAddresses or not pod.metadata.HasField("deletionTimestamp"))
    ]
    listed.sort(key=lambda pod: (not is_published_ready(service, pod), pod.metadata.name))
    for pod in listed[:MAX_ADDRESSES]:
        ports = resolve_ports(service, pod)
        if service.spec.ports and not ports:
            continue
        subset = groups.get(ports)
        if subset is None:
            subset = groups[ports] = core.EndpointSubset()
            for port in ports:
                entry = subset.ports.add(name=port.name, port=port.number, protocol=port.protocol)
                if port.app_protocol:
                    entry.appProtocol = port.app_protocol
        address = core.EndpointAddress(ip=pod_address(pod, address_type), targetRef=pod_reference(pod))
        if pod.spec.nodeName:
            address.nodeName = pod.spec.nodeName
        if pod.spec.hostname and pod.spec.subdomain == service.metadata.name:
            address.hostname = pod.spec.hostname
        (subset.addresses if is_published_ready(service, pod) else subset.notReadyAddresses).append(address)
    return max(len(listed) - MAX_ADDRESSES, 0)
