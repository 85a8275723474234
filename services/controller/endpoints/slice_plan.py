"""Packs a Service's endpoints into EndpointSlices with as few changed slices as possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.controller.endpoints.backends import Port, Ports, is_headless
from tillerman.api.meta import owner_reference
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"
MAX_ENDPOINTS = 100


@dataclass
class SlicePlan:
    create: list[discovery.EndpointSlice] = field(default_factory=list)
    update: list[discovery.EndpointSlice] = field(default_factory=list)
    delete: list[discovery.EndpointSlice] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.create or self.update or self.delete)


def slice_labels(service: core.Service) -> dict[str, str]:
    labels = {key: value for key, value in service.metadata.labels.items() if key != HEADLESS}
    labels[SERVICE_NAME] = service.metadata.name
    labels[MANAGED_BY] = MANAGER
    if is_headless(service):
        labels[HEADLESS] = ""
    return labels


def ports_of(endpoint_slice: discovery.EndpointSlice) -> Ports:
    return tuple(Port(port.name, port.protocol, port.port, port.appProtocol) for port in endpoint_slice.ports)


def plan_slices(
    service: core.Service,
    desired: Mapping[Ports, Sequence[discovery.Endpoint]],
    existing: Sequence[discovery.EndpointSlice],
    address_type: str,
) -> SlicePlan:
    """What to write so that the slices of one address type hold exactly the desired endpoints.

    A Service without backends keeps one empty slice, so that readers can tell "none" from "not known yet".
    """
    plan = SlicePlan()
    groups = {ports: list(endpoints) for ports, endpoints in desired.items() if endpoints}
    by_ports: dict[Ports, list[discovery.EndpointSlice]] = {}
    unused: list[discovery.EndpointSlice] = []
    for present in sorted(existing, key=lambda s: s.metadata.name):
        ports = ports_of(present)
        if present.metadata.HasField("deletionTimestamp"):
            continue
        if ports in groups:
            by_ports.setdefault(ports, []).append(present)
        else:
            unused.append(present)
    for ports, endpoints in groups.items():
        _pack_group(service, ports, endpoints, by_ports.get(ports, []), unused, plan, address_type)
    if not groups:
        _keep_placeholder(service, unused, plan, address_type)
    plan.delete.extend(unused)
    return plan


def _pack_group(
    service: core.Service,
    ports: Ports,
    endpoints: Sequence[discovery.Endpoint],
    present: Sequence[discovery.EndpointSlice],
    unused: list[discovery.EndpointSlice],
    plan: SlicePlan,
    address_type: str,
) -> None:
    missing = {_identity(endpoint): endpoint for endpoint in endpoints}
    kept: list[tuple[discovery.EndpointSlice, list[discovery.Endpoint]]] = []
    for endpoint_slice in present:
        stays = [missing.pop(key) for e in endpoint_slice.endpoints if (key := _identity(e)) in missing]
        kept.append((endpoint_slice, stays))
    rest = list(missing.values())
    # The fullest slice takes what is new, so that the rest stay as they are.
    for endpoint_slice, stays in sorted(kept, key=lambda item: -len(item[1])):
        room = MAX_ENDPOINTS - len(stays)
        stays.extend(rest[:room])
        del rest[:room]
        if not stays:
            unused.append(endpoint_slice)
            continue
        wanted = _filled(service, endpoint_slice, ports, stays, address_type)
        if wanted != endpoint_slice:
            plan.update.append(wanted)
    while rest:
        chunk, rest = rest[:MAX_ENDPOINTS], rest[MAX_ENDPOINTS:]
        if unused:
            plan.update.append(_filled(service, unused.pop(0), ports, chunk, address_type))
        else:
            plan.create.append(_new_slice(service, ports, chunk, address_type))


def _keep_placeholder(
    service: core.Service, unused: list[discovery.EndpointSlice], plan: SlicePlan, address_type: str
) -> None:
    if not unused:
        plan.create.append(_new_slice(service, (), [], address_type))
        return
    present = unused.pop(0)
    wanted = _filled(service, present, (), [], address_type)
    if wanted != present:
        plan.update.append(wanted)


def _identity(endpoint: discovery.Endpoint) -> tuple[str, str]:
    return (endpoint.targetRef.uid, endpoint.addresses[0] if endpoint.addresses else "")


def _new_slice(
    service: core.Service, ports: Ports, endpoints: Sequence[discovery.Endpoint], address_type: str
) -> discovery.EndpointSlice:
    base = discovery.EndpointSlice()
    base.metadata.generateName = f"{service.metadata.name}-"
    base.metadata.namespace = service.metadata.namespace
    base.metadata.ownerReferences.append(owner_reference(service))
    return _filled(service, base, ports, endpoints, address_type)


def _filled(
    service: core.Service,
    base: discovery.EndpointSlice,
    ports: Ports,
    endpoints: Sequence[discovery.Endpoint],
    address_type: str,
) -> discovery.EndpointSlice:
    wanted = discovery.EndpointSlice()
    wanted.CopyFrom(base)
    wanted.addressType = address_type
    labels = slice_labels(service)
    if dict(wanted.metadata.labels) != labels:
        wanted.metadata.labels.clear()
        wanted.metadata.labels.update(labels)
    del wanted.endpoints[:]
    wanted.endpoints.extend(endpoints)
    if ports_of(base) != ports:
        del wanted.ports[:]
        for port in ports:
            entry = wanted.ports.add(name=port.name, protocol=port.protocol, port=port.number)
            if port.app_protocol:
                entry.appProtocol = port.app_protocol
    return wanted
