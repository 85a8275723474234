"""Rules for pod specs and pod templates, wherever they stand."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    invalid,
    invalid_all,
    label_map,
    one_of,
    qualified_name,
    required,
)
from services.apiserver.strategy.containers import containers, ephemeral_containers, init_containers
from services.apiserver.strategy.metadata import annotation_map
from services.apiserver.strategy.names import NameRule, dns_label, dns_subdomain
from services.apiserver.strategy.pod_annotations import pod_annotations, seccomp_twice
from services.apiserver.strategy.pod_claims import pod_resources, resource_claims
from services.apiserver.strategy.pod_host import host_processes, host_users, hostname_override, operating_system
from services.apiserver.strategy.pod_scheduling import affinity, tolerations, topology_spread
from services.apiserver.strategy.ports import parse_ip
from services.apiserver.strategy.resources import requirements
from services.apiserver.strategy.security import pod_security
from services.apiserver.strategy.volumes import volumes
from tillerman.pb.k8s import core_v1_pb2 as core

DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
# The names in the order in which Kubernetes looks at them, among the other fields.
_NAMES: dict[str, NameRule] = {"serviceAccountName": dns_subdomain, "nodeName": dns_subdomain}
_DNS_NAMES: dict[str, NameRule] = {"hostname": dns_label, "subdomain": dns_label}
_CLASSES: dict[str, NameRule] = {"priorityClassName": dns_subdomain, "runtimeClassName": dns_subdomain}
_MAX_NAMESERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_LENGTH = 2048


def pod_template(path: str, template: Any) -> list[Cause]:
    """A PodTemplateSpec: labels, annotations and the spec."""
    causes = template_metadata(path, template) + pod_spec(f"{path}.spec", template.spec)
    causes += seccomp_twice(f"{path}.spec", template)
    if template.spec.ephemeralContainers:
        detail = "ephemeral containers not allowed in pod template"
        causes.append(Cause(f"{path}.spec.ephemeralContainers", "FieldValueForbidden", f"Forbidden: {detail}"))
    return causes


def template_metadata(path: str, template: Any) -> list[Cause]:
    causes = label_map(f"{path}.labels", template.metadata.labels)
    causes += annotation_map(f"{path}.annotations", template.metadata.annotations)
    return causes + pod_annotations(f"{path}.annotations", template.metadata.annotations, template.spec)


def pod_spec(path: str, spec: Any) -> list[Cause]:
    known, causes = volumes(f"{path}.volumes", spec.volumes)
    causes += containers(f"{path}.containers", spec, known)
    if spec.initContainers:
        causes += init_containers(f"{path}.initContainers", spec, known)
    if spec.ephemeralContainers:
        causes += ephemeral_containers(f"{path}.ephemeralContainers", spec, known)
    causes += one_of(f"{path}.restartPolicy", spec.restartPolicy, ("Always", "OnFailure", "Never"))
    causes += one_of(f"{path}.dnsPolicy", spec.dnsPolicy, DNS_POLICIES)
    if spec.nodeSelector:
        causes += label_map(f"{path}.nodeSelector", spec.nodeSelector)
    causes += pod_security(f"{path}.securityContext", spec)
    if spec.HasField("affinity"):
        causes += affinity(f"{path}.affinity", spec.affinity)
    causes += _dns(f"{path}.dnsConfig", spec)
    for index, gate in enumerate(spec.readinessGates):
        where = f"{path}.readinessGates[{index}].conditionType"
        causes += invalid_all(where, gate.conditionType, qualified_name(gate.conditionType))
    if spec.topologySpreadConstraints:
        causes += topology_spread(f"{path}.topologySpreadConstraints", spec.topologySpreadConstraints)
    causes += _names(path, spec, _NAMES)
    if spec.HasField("activeDeadlineSeconds") and not 1 <= spec.activeDeadlineSeconds <= 2**31 - 1:
        where, detail = f"{path}.activeDeadlineSeconds", "must be between 1 and 2147483647, inclusive"
        causes.append(invalid(where, spec.activeDeadlineSeconds, detail))
    causes += _names(path, spec, _DNS_NAMES)
    if spec.tolerations:
        causes += tolerations(f"{path}.tolerations", spec.tolerations)
    for alias in spec.hostAliases:
        if parse_ip(alias.ip) is None:
            causes.append(invalid(f"{path}.hostAliases.ip", alias.ip, "must be valid IP address"))
        for name in alias.hostnames:
            causes += invalid_all(f"{path}.hostAliases.hostnames", name, dns_subdomain(name))
    causes += _names(path, spec, _CLASSES)
    if spec.HasField("preemptionPolicy"):
        causes += one_of(f"{path}.preemptionPolicy", spec.preemptionPolicy, ("PreemptLowerPriority", "Never"))
    if spec.overhead:
        # Kubernetes takes it for a container's limits.
        causes += requirements(f"{path}.overhead", core.ResourceRequirements(limits=spec.overhead))
    causes += _scheduling_gates(f"{path}.schedulingGates", spec)
    if spec.resourceClaims:
        causes += resource_claims(f"{path}.resourceClaims", spec.resourceClaims)
    if spec.HasField("resources"):
        causes += pod_resources(f"{path}.resources", spec)
    causes += host_users(path, spec) + hostname_override(path, spec)
    return causes + host_processes(path, spec) + operating_system(path, spec)


def _names(path: str, spec: Any, rules: dict[str, NameRule]) -> list[Cause]:
    causes: list[Cause] = []
    for field, rule in rules.items():
        name = getattr(spec, field)
        # The one name here that may be there and empty.
        if name or (field == "runtimeClassName" and spec.HasField(field)):
            causes += invalid_all(f"{path}.{field}", name, rule(name, False))
    return causes


def _dns(path: str, spec: Any) -> list[Cause]:
    config = spec.dnsConfig
    if spec.dnsPolicy == "None":
        if not spec.HasField("dnsConfig"):
            return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.nameservers:
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{path}.nameservers", detail)]
    causes: list[Cause] = []
    if len(config.nameservers) > _MAX_NAMESERVERS:
        detail = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        causes.append(invalid(f"{path}.nameservers", config.nameservers, detail))
    for index, server in enumerate(config.nameservers):
        if parse_ip(server) is None:
            causes.append(invalid(f"{path}.nameservers[{index}]", server, "must be valid IP address"))
    if len(config.searches) > _MAX_SEARCHES:
        detail = f"must not have more than {_MAX_SEARCHES} search paths"
        causes.append(invalid(f"{path}.searches", config.searches, detail))
    if len(" ".join(config.searches)) > _MAX_SEARCH_LENGTH:
        detail = f"must not have more than {_MAX_SEARCH_LENGTH} characters (including spaces) in the search list"
        causes.append(invalid(f"{path}.searches", config.searches, detail))
    for index, search in enumerate(config.searches):
        name = search.removesuffix(".")
        if search != ".":
            causes += invalid_all(f"{path}.searches[{index}]", name, dns_subdomain(name))
    for index, option in enumerate(config.options):
        if not option.name:
            causes.append(required(f"{path}.options[{index}]", "must not be empty"))
    return causes


def _scheduling_gates(path: str, spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, gate in enumerate(spec.schedulingGates):
        causes += invalid_all(f"{path}[{index}]", gate.name, qualified_name(gate.name))
        if gate.name in seen:
            causes.append(Cause(f"{path}[{index}]", "FieldValueDuplicate", f'Duplicate value: "{gate.name}"'))
        seen.add(gate.name)
    return causes
