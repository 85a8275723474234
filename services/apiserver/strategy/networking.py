"""Ingress, IngressClass and NetworkPolicy."""

from __future__ import annotations

import re
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    domain_prefixed,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    not_supported,
    required,
)
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns1035_label, dns_label, dns_subdomain, path_segment
from services.apiserver.strategy.ports import (
    PROTOCOLS,
    parse_cidr,
    parse_ip,
    port_name,
    port_number,
    port_number_or_name,
)
from services.apiserver.strategy.selectors import label_selector
from services.apiserver.strategy.services import load_balancer
from tillerman.pb.k8s import networking_v1_pb2 as networking

_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_WILDCARD = re.compile(r"\*(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+")
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_SUFFIXES = ("/..", "/.")


def _validate_ingress(ingress: Any) -> list[Cause]:
    spec = ingress.spec
    causes: list[Cause] = []
    if not spec.rules and not spec.HasField("defaultBackend"):
        causes.append(invalid("spec", [], "either `defaultBackend` or `rules` must be specified"))
    if spec.HasField("defaultBackend"):
        causes += _backend("spec.defaultBackend", spec.defaultBackend)
    for index, rule in enumerate(spec.rules):
        causes += _rule(f"spec.rules[{index}]", rule)
    for index, entry in enumerate(spec.tls):
        for position, host in enumerate(entry.hosts):
            causes += _host(f"spec.tls[{index}].hosts[{position}]", host)
        if entry.secretName:
            causes += invalid_all(f"spec.tls[{index}].secretName", entry.secretName, dns_subdomain(entry.secretName))
    if spec.HasField("ingressClassName"):
        causes += invalid_all("spec.ingressClassName", spec.ingressClassName, dns_subdomain(spec.ingressClassName))
    return causes


def _create_causes(ingress: Any) -> list[Cause]:
    annotation = ingress.metadata.annotations.get(_CLASS_ANNOTATION)
    if annotation is not None and ingress.spec.HasField("ingressClassName"):
        path, detail = f"annotations.{_CLASS_ANNOTATION}", "can not be set when the class field is also set"
        return [invalid(path, annotation, detail)]
    return []


def _validate_new_ingress(ingress: Any) -> list[Cause]:
    # Objects that are already stored may carry both the annotation and the class.
    new = [] if ingress.metadata.resourceVersion else _create_causes(ingress)
    return _validate_ingress(ingress) + new


def _host(path: str, host: str) -> list[Cause]:
    if "*" in host:
        if _WILDCARD.fullmatch(host):
            return []
        detail = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist "
            "of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. "
            "'*.example.com', regex used for validation is "
            "'\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )
        return [invalid(path, host, detail)]
    return invalid_all(path, host, dns_subdomain(host))


def _rule(path: str, rule: Any) -> list[Cause]:
    causes: list[Cause] = []
    if rule.host:
        if parse_ip(rule.host) is not None:
            causes.append(invalid(f"{path}.host", rule.host, "must be a DNS name, not an IP address"))
        causes += _host(f"{path}.host", rule.host)
    if not rule.ingressRuleValue.HasField("http"):
        return causes
    paths = rule.ingressRuleValue.http.paths
    if not paths:
        causes.append(required(f"{path}.http.paths"))
    for index, entry in enumerate(paths):
        causes += _path(f"{path}.http.paths[{index}]", entry)
    return causes


def _path(path: str, entry: Any) -> list[Cause]:
    causes: list[Cause] = []
    if not entry.HasField("pathType"):
        return [required(f"{path}.pathType", "pathType must be specified")]
    if entry.pathType not in _PATH_TYPES:
        causes.append(not_supported(f"{path}.pathType", entry.pathType, _PATH_TYPES))
    elif entry.pathType in ("Exact", "Prefix"):
        if not entry.path.startswith("/"):
            causes.append(invalid(f"{path}.path", entry.path, "must be an absolute path"))
        if entry.path:
            problems = [f"must not contain '{bad}'" for bad in _BAD_SEQUENCES if bad in entry.path]
            problems += [f"cannot end with '{bad}'" for bad in _BAD_SUFFIXES if entry.path.endswith(bad)]
            causes += invalid_all(f"{path}.path", entry.path, problems)
    elif entry.path and not entry.path.startswith("/"):
        causes.append(invalid(f"{path}.path", entry.path, "must be an absolute path"))
    return causes + _backend(f"{path}.backend", entry.backend)


def _backend(path: str, backend: Any) -> list[Cause]:
    service, resource = backend.HasField("service"), backend.HasField("resource")
    if service and resource:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource:
        return _typed_reference(f"{path}.resource", backend.resource)
    if not service:
        return [invalid(path, "", "resource or service backend is required")]
    causes: list[Cause] = []
    name, port = backend.service.name, backend.service.port
    if not name:
        causes.append(required(f"{path}.service.name"))
    else:
        causes += invalid_all(f"{path}.service.name", name, dns1035_label(name))
    if port.name and port.number:
        causes.append(invalid(path, "", "cannot set both port name & port number"))
    elif port.name:
        causes += invalid_all(f"{path}.service.port.name", port.name, port_name(port.name))
    elif port.number:
        causes += port_number(f"{path}.service.port.number", port.number)
    else:
        causes.append(required(path, "port name or number is required"))
    return causes


def _typed_reference(path: str, reference: Any) -> list[Cause]:
    causes: list[Cause] = []
    # The two messages spell this field's name differently.
    spelled = "aPIGroup" if hasattr(reference, "aPIGroup") else "apiGroup"
    if reference.HasField(spelled):
        group = getattr(reference, spelled)
        causes += invalid_all(f"{path}.apiGroup", group, dns_subdomain(group))
    for field in ("kind", "name"):
        value = getattr(reference, field)
        if not value:
            causes.append(required(f"{path}.{field}", f"{field} is required"))
        else:
            causes += invalid_all(f"{path}.{field}", value, path_segment(value))
    return causes


def _validate_ingress_status(new: Any, old: Any) -> list[Cause]:
    return load_balancer("status.loadBalancer", new.status.loadBalancer)


def _validate_class(ingress_class: Any) -> list[Cause]:
    spec = ingress_class.spec
    causes: list[Cause] = []
    if len(spec.controller) > 250:
        causes.append(Cause("spec.controller", "FieldValueTooLong", "Too long: may not be more than 250 bytes"))
    causes += domain_prefixed("spec.controller", spec.controller, "controller is required")
    if spec.HasField("parameters"):
        causes += _typed_reference("spec.parameters", spec.parameters)
        scope = spec.parameters.scope
        if scope not in ("Cluster", "Namespace"):
            causes.append(not_supported("spec.parameters.scope", scope, ["Cluster", "Namespace"]))
        elif scope == "Namespace" and not spec.parameters.namespace:
            detail = "`parameters.scope` is set to 'Namespace'"
            causes.append(required("spec.parameters.namespace", detail))
        elif scope == "Namespace":
            namespace = spec.parameters.namespace
            causes += invalid_all("spec.parameters.namespace", namespace, dns_label(namespace))
        elif scope == "Cluster" and spec.parameters.HasField("namespace"):
            detail = "`parameters.scope` is set to 'Cluster'"
            causes.append(forbidden("spec.parameters.namespace", detail))
    return causes


def _update_class(new: Any, old: Any) -> list[Cause]:
    return immutable("spec.controller", new.spec.controller, old.spec.controller)


def _validate_policy(policy: Any) -> list[Cause]:
    spec = policy.spec
    causes = label_selector("spec.podSelector", spec.podSelector)
    for field, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(getattr(spec, field)):
            path = f"spec.{field}[{index}]"
            for position, port in enumerate(rule.ports):
                causes += _policy_port(f"{path}.ports[{position}]", port)
            for position, peer in enumerate(getattr(rule, peers)):
                causes += _peer(f"{path}.{peers}[{position}]", peer)
    if len(spec.policyTypes) > 2:
        causes.append(invalid("spec.policyTypes", spec.policyTypes, "may not specify more than two policyTypes"))
        return causes
    for index, name in enumerate(spec.policyTypes):
        if name not in ("Ingress", "Egress"):
            causes.append(not_supported(f"spec.policyTypes[{index}]", name, ["Ingress", "Egress"]))
    return causes


def _policy_port(path: str, port: Any) -> list[Cause]:
    causes: list[Cause] = []
    if port.HasField("protocol") and port.protocol not in PROTOCOLS:
        causes.append(not_supported(f"{path}.protocol", port.protocol, ["TCP", "UDP", "SCTP"]))
    if port.HasField("port"):
        causes += port_number_or_name(f"{path}.port", port.port)
    if port.HasField("endPort"):
        if not port.HasField("port"):
            causes.append(required(f"{path}.endPort", "may not be specified when `port` is not specified"))
        elif port.port.type == 1:
            causes.append(
                invalid(f"{path}.endPort", port.port.strVal, "may not be specified when `port` is non-numeric")
            )
        elif port.endPort < port.port.intVal:
            causes.append(invalid(f"{path}.endPort", port.endPort, "must be greater than or equal to `port`"))
    return causes


def _peer(path: str, peer: Any) -> list[Cause]:
    causes: list[Cause] = []
    given = 0
    for field in ("podSelector", "namespaceSelector"):
        if peer.HasField(field):
            given += 1
            causes += label_selector(f"{path}.{field}", getattr(peer, field))
    if peer.HasField("ipBlock"):
        causes += _ip_block(f"{path}.ipBlock", peer.ipBlock)
        if given:
            detail = "may not specify both ipBlock and another peer"
            causes.append(forbidden(path, detail))
        given += 1
    return causes if given else [*causes, required(path, "must specify a peer")]


def _ip_block(path: str, block: Any) -> list[Cause]:
    if not block.cidr:
        return [required(f"{path}.cidr")]
    outer = parse_cidr(block.cidr)
    if outer is None:
        return [invalid(f"{path}.cidr", block.cidr, "not a valid CIDR")]
    causes: list[Cause] = []
    for index, text in enumerate(getattr(block, "except")):
        where, inner = f"{path}.except[{index}]", parse_cidr(text)
        if inner is None:
            return [*causes, invalid(where, text, "not a valid CIDR")]
        if inner.version != outer.version or inner.prefixlen <= outer.prefixlen or inner.network_address not in outer:
            causes.append(invalid(where, text, "must be a strict subset of `cidr`"))
    return causes


KINDS = {
    networking.Ingress: Kind(
        status=True,
        generation=True,
        validate=_validate_new_ingress,
        validate_status=_validate_ingress_status,
    ),
    networking.IngressClass: Kind(
        namespaced=False, generation=True, validate=_validate_class, validate_update=_update_class
    ),
    networking.NetworkPolicy: Kind(generation=True, validate=_validate_policy),
}
