"""Endpoints and EndpointSlice."""

from __future__ import annotations

import ipaddress
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    immutable,
    invalid,
    invalid_all,
    label_value,
    not_supported,
    one_of,
    qualified_name,
    required,
    too_many,
)
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns_label, dns_subdomain
from services.apiserver.strategy.ports import BAD_IP, BAD_IP_LONG, PROTOCOLS, parse_ip, port_number
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery

_NEEDS_ADDRESS = "must specify `addresses` or `notReadyAddresses`"
_MAX_HINTS, _MAX_TOPOLOGY = 8, 16
_MAX_ADDRESSES, _MAX_PORTS, _MAX_ENDPOINTS = 100, 100, 1000


def reachable(path: str, text: str, *, loopback: bool = False) -> list[Cause]:
    """An address that can be another's. Endpoints may have loopback ones, unlike in Kubernetes: they are the
    pods' addresses under the process runtime."""
    address = ipaddress.ip_address(text)
    causes: list[Cause] = []
    if address.is_unspecified:
        causes.append(invalid(path, text, f"may not be unspecified ({text})"))
    if address.is_loopback and not loopback:
        causes.append(invalid(path, text, "may not be in the loopback range (127.0.0.0/8)"))
    if address.is_link_local:
        causes.append(invalid(path, text, "may not be in the link-local range (169.254.0.0/16)"))
    if address in ipaddress.ip_network("224.0.0.0/24"):
        causes.append(invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24)"))
    return causes


def _validate_endpoints(endpoints: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, subset in enumerate(endpoints.subsets):
        path = f"subsets[{index}]"
        if not subset.addresses and not subset.notReadyAddresses:
            causes.append(required(path, _NEEDS_ADDRESS))
        for field in ("addresses", "notReadyAddresses"):
            for position, address in enumerate(getattr(subset, field)):
                causes += _endpoint_address(f"{path}.{field}[{position}]", address)
        for position, port in enumerate(subset.ports):
            where = f"{path}.ports[{position}]"
            if not port.name:
                causes += [required(f"{where}.name")] if len(subset.ports) > 1 else []
            else:
                causes += invalid_all(f"{where}.name", port.name, dns_label(port.name))
            causes += port_number(f"{where}.port", port.port)
            causes += one_of(f"{where}.protocol", port.protocol, PROTOCOLS)
            if port.HasField("appProtocol"):
                causes += invalid_all(f"{where}.appProtocol", port.appProtocol, qualified_name(port.appProtocol))
    return causes


def _endpoint_address(path: str, address: Any) -> list[Cause]:
    causes: list[Cause] = []
    if parse_ip(address.ip) is None:
        causes += [invalid(f"{path}.ip", address.ip, BAD_IP_LONG), invalid(f"{path}.ip", address.ip, BAD_IP)]
    else:
        causes += reachable(f"{path}.ip", address.ip, loopback=True)
    if address.hostname:
        causes += invalid_all(f"{path}.hostname", address.hostname, dns_label(address.hostname))
    if address.HasField("nodeName"):
        causes += invalid_all(f"{path}.nodeName", address.nodeName, dns_subdomain(address.nodeName))
    return causes


def _validate_slice(piece: Any) -> list[Cause]:
    causes: list[Cause] = []
    if not piece.addressType:
        causes.append(required("addressType"))
    elif piece.addressType not in ("IPv4", "IPv6", "FQDN"):
        causes.append(not_supported("addressType", piece.addressType, ["FQDN", "IPv4", "IPv6"]))
    if len(piece.endpoints) > _MAX_ENDPOINTS:
        causes.append(too_many("endpoints", len(piece.endpoints), _MAX_ENDPOINTS))
    else:
        for index, endpoint in enumerate(piece.endpoints):
            causes += _slice_endpoint(f"endpoints[{index}]", endpoint, piece.addressType)
    if len(piece.ports) > _MAX_PORTS:
        return [*causes, too_many("ports", len(piece.ports), _MAX_PORTS)]
    names: set[str] = set()
    for index, port in enumerate(piece.ports):
        path = f"ports[{index}]"
        if port.name:
            causes += invalid_all(f"{path}.name", port.name, dns_label(port.name))
        if port.name in names:
            causes.append(duplicate(f"{path}.name", port.name))
        names.add(port.name)
        causes += one_of(f"{path}.protocol", port.protocol, PROTOCOLS)
        if port.HasField("appProtocol"):
            causes += invalid_all(f"{path}.appProtocol", port.appProtocol, qualified_name(port.appProtocol))
    return causes


def _slice_endpoint(path: str, endpoint: Any, address_type: str) -> list[Cause]:
    causes: list[Cause] = []
    if not endpoint.addresses:
        causes.append(required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(endpoint.addresses) > _MAX_ADDRESSES:
        causes.append(too_many(f"{path}.addresses", len(endpoint.addresses), _MAX_ADDRESSES))
    for index, text in enumerate(endpoint.addresses):
        where = f"{path}.addresses[{index}]"
        if address_type == "FQDN":
            causes += _domain(where, text)
        elif address_type in ("IPv4", "IPv6"):
            address = parse_ip(text)
            if address is None or address.version != int(address_type[-1]):
                causes.append(invalid(where, text, f"must be a valid {address_type} address"))
            else:
                causes += reachable(where, text, loopback=True)
    if endpoint.HasField("hostname"):
        causes += invalid_all(f"{path}.hostname", endpoint.hostname, dns_label(endpoint.hostname))
    if endpoint.HasField("nodeName"):
        causes += invalid_all(f"{path}.nodeName", endpoint.nodeName, dns_subdomain(endpoint.nodeName))
    if endpoint.HasField("hints"):
        causes += _hints(f"{path}.hints", endpoint.hints)
    if len(endpoint.deprecatedTopology) > _MAX_TOPOLOGY:
        causes.append(too_many(f"{path}.deprecatedTopology", len(endpoint.deprecatedTopology), _MAX_TOPOLOGY))
    for key, value in endpoint.deprecatedTopology.items():
        causes += invalid_all(f"{path}.deprecatedTopology", key, qualified_name(key))
        causes += invalid_all(f"{path}.deprecatedTopology", value, label_value(value))
    return causes


def _domain(path: str, text: str) -> list[Cause]:
    """A domain name of two labels at least; the dot at its end may be said."""
    if not text:
        return [required(path)]
    name = text.removesuffix(".")
    problems = dns_subdomain(name)
    if not problems and "." not in name:
        problems = ["should be a domain with at least two segments separated by dots"]
    for label in name.split("."):
        problems = problems or dns_label(label)
    return [invalid(path, name, ",".join(problems))] if problems else []


def _hints(path: str, hints: Any) -> list[Cause]:
    """Zones and nodes, each once and not many, that an endpoint is meant for."""
    causes: list[Cause] = []
    for field, rule in (("forZones", label_value), ("forNodes", dns_subdomain)):
        entries, where = getattr(hints, field), f"{path}.{field}"
        if len(entries) > _MAX_HINTS:
            causes.append(too_many(where, len(entries), _MAX_HINTS))
            continue
        seen: set[str] = set()
        for index, entry in enumerate(entries):
            if entry.name in seen:
                causes.append(duplicate(f"{where}[{index}].name", entry.name))
            elif entry.name:
                causes += invalid_all(f"{where}[{index}].name", entry.name, rule(entry.name))
            else:
                causes.append(required(f"{where}[{index}].name"))
            seen.add(entry.name)
    return causes


def _update_slice(new: Any, old: Any) -> list[Cause]:
    return immutable("addressType", new.addressType, old.addressType)


KINDS = {
    core.Endpoints: Kind(create_on_update=True, validate=_validate_endpoints),
    discovery.EndpointSlice: Kind(generation=True, validate=_validate_slice, validate_update=_update_slice),
}
