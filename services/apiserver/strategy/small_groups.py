"""Kinds of groups that have one or two: Lease, PriorityClass, RuntimeClass, CertificateSigningRequest, APIService."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    label_map,
    not_supported,
    qualified_name,
    required,
)
from services.apiserver.strategy.fields import facts
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.masking import keep_metadata
from services.apiserver.strategy.names import dns1035_label, dns_label, dns_subdomain, path_segment
from services.apiserver.strategy.pod_scheduling import tolerations
from services.apiserver.strategy.resources import whole_resource_list
from tillerman.pb.k8s import apiregistration_v1_pb2 as apiregistration
from tillerman.pb.k8s import certificates_v1_pb2 as certificates
from tillerman.pb.k8s import coordination_v1_pb2 as coordination
from tillerman.pb.k8s import node_v1_pb2 as node
from tillerman.pb.k8s import scheduling_v1_pb2 as scheduling

HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
USAGES = sorted(facts(certificates.CertificateSigningRequestSpec.DESCRIPTOR.fields_by_name["usages"]).values)


def _validate_lease(lease: Any) -> list[Cause]:
    spec = lease.spec
    causes: list[Cause] = []
    if spec.HasField("leaseDurationSeconds") and spec.leaseDurationSeconds <= 0:
        causes.append(invalid("spec.leaseDurationSeconds", spec.leaseDurationSeconds, "must be greater than 0"))
    if spec.HasField("leaseTransitions") and spec.leaseTransitions < 0:
        detail = "must to greater or equal than 0"
        causes.append(invalid("spec.leaseTransitions", spec.leaseTransitions, detail))
    if spec.HasField("strategy"):
        causes += _lease_strategy("spec.strategy", spec.strategy)
    if spec.preferredHolder and not spec.strategy:
        detail = "may only be specified if `strategy` is defined"
        causes.append(forbidden("spec.preferredHolder", detail))
    return causes


def _lease_strategy(path: str, strategy: str) -> list[Cause]:
    """Kubernetes' own strategy for choosing a leader, or somebody's in their domain."""
    if strategy == "OldestEmulationVersion":
        return []
    if "/" in strategy:
        return invalid_all(path, strategy, qualified_name(strategy))
    detail = 'must be "OldestEmulationVersion" or a domain-prefixed name'
    return [invalid(path, strategy, detail)]


def _create_priority_class(priority: Any) -> None:
    # Set once; unlike elsewhere it never counts up.
    priority.metadata.generation = 1


def _validate_priority_class(priority: Any) -> list[Cause]:
    causes: list[Cause] = []
    name = priority.metadata.name
    if name.startswith("system-"):
        known = SYSTEM_PRIORITIES.get(name)
        problem = ""
        if known is None:
            problem = f"{name} is not a known system priority class"
        elif priority.value != known:
            problem = f"value of {name} PriorityClass must be {known}"
        elif priority.globalDefault:
            problem = f"globalDefault of {name} PriorityClass must be false"
        if problem:
            detail = f"priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
            causes.append(forbidden("metadata.name", detail))
    elif priority.value > HIGHEST_USER_PRIORITY:
        detail = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        causes.append(forbidden("value", detail))
    if priority.HasField("preemptionPolicy") and priority.preemptionPolicy not in ("PreemptLowerPriority", "Never"):
        allowed = ["PreemptLowerPriority", "Never"]
        causes.append(not_supported("preemptionPolicy", priority.preemptionPolicy, allowed))
    return causes


def _update_priority_class(new: Any, old: Any) -> list[Cause]:
    # The capital V is Kubernetes' own.
    causes = [] if new.value == old.value else [forbidden("Value", "may not be changed in an update.")]
    return causes + immutable("preemptionPolicy", new.preemptionPolicy, old.preemptionPolicy)


def _validate_runtime_class(runtime: Any) -> list[Cause]:
    causes = invalid_all("handler", runtime.handler, dns_label(runtime.handler))
    if runtime.HasField("overhead"):
        causes += whole_resource_list("overhead.podFixed.limits", runtime.overhead.podFixed)
    if runtime.HasField("scheduling"):
        causes += label_map("scheduling.nodeSelector", runtime.scheduling.nodeSelector)
        causes += tolerations("scheduling.tolerations", runtime.scheduling.tolerations)
    return causes


def _update_runtime_class(new: Any, old: Any) -> list[Cause]:
    return immutable("handler", new.handler, old.handler)


def _validate_request(request: Any) -> list[Cause]:
    spec = request.spec
    causes: list[Cause] = []
    problem = _certificate_request_problem(spec.request)
    if problem:
        causes.append(invalid("spec.request", spec.request, problem))
    if not spec.usages:
        causes.append(required("spec.usages", "usages must be provided"))
    seen: set[str] = set()
    for index, usage in enumerate(spec.usages):
        if usage not in USAGES:
            causes.append(not_supported(f"spec.usages[{index}]", usage, USAGES))
        if usage in seen:
            causes.append(duplicate(f"spec.usages[{index}]", usage))
        seen.add(usage)
    causes += _signer_name("spec.signerName", spec.signerName)
    if spec.HasField("expirationSeconds") and spec.expirationSeconds < 600:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        causes.append(invalid("spec.expirationSeconds", spec.expirationSeconds, detail))
    return causes


def _certificate_request_problem(pem: bytes) -> str:
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
        return "PEM block type must be CERTIFICATE REQUEST"
    from cryptography import x509

    try:
        x509.load_pem_x509_csr(pem)
    except ValueError as error:
        return str(error)
    return ""


def _signer_name(path: str, name: str) -> list[Cause]:
    if not name:
        return [required(path, "signerName must be provided")]
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(path, name, detail)]
    causes: list[Cause] = []
    if len(domain.split(".")) < 2:
        causes.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    causes += [invalid(path, domain, problem) for problem in dns_subdomain(domain)]
    for part in rest.split("."):
        causes += [invalid(path, name, problem) for problem in dns_label(part)]
    return causes


def _update_request(new: Any, old: Any) -> None:
    """A request asks for one thing for ever."""
    new.spec.CopyFrom(old.spec)


def _update_request_status(new: Any, old: Any) -> None:
    """The signer fills in the certificate; approving is a subresource of its own."""
    decisions = ("Approved", "Denied")
    kept = [c for c in old.status.conditions if c.type in decisions]
    others = [c for c in new.status.conditions if c.type not in decisions]
    conditions = [*kept, *others]
    copies = [type(c).FromString(c.SerializeToString()) for c in conditions]
    del new.status.conditions[:]
    new.status.conditions.extend(copies)


def _request_status(new: Any, old: Any) -> list[Cause]:
    causes: list[Cause] = []
    if old.status.certificate and new.status.certificate != old.status.certificate:
        detail = "updates may not change existing certificate content"
        causes.append(forbidden("status.certificate", detail))
    return causes + _request_conditions(new, old)


def _request_conditions(new: Any, old: Any) -> list[Cause]:
    """A decision that was taken stays."""
    path = "status.conditions"
    causes = _conditions(path, new.status.conditions)
    for kind in ("Approved", "Denied", "Failed"):
        before, after = ([c for c in r.status.conditions if c.type == kind] for r in (old, new))
        if len(after) < len(before):
            causes.append(forbidden(path, f'updates may not remove a condition of type "{kind}"'))
    return causes


def _conditions(path: str, conditions: Any) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        where = f"{path}[{index}]"
        if not condition.type:
            causes.append(required(f"{where}.type"))
        if condition.status not in ("True", "False", "Unknown", ""):
            causes.append(not_supported(f"{where}.status", condition.status, ["True", "False", "Unknown"]))
        elif condition.type in ("Approved", "Denied", "Failed") and condition.status not in ("True", ""):
            causes.append(not_supported(f"{where}.status", condition.status, ["True"]))
        if condition.type in seen:
            causes.append(duplicate(f"{where}.type", condition.type))
        seen.add(condition.type)
    if {"Approved", "Denied"} <= seen:
        causes.append(invalid(path, "", "Approved and Denied conditions are mutually exclusive"))
    return causes


def _validate_api_service(service: Any) -> list[Cause]:
    spec = service.spec
    causes: list[Cause] = []
    expected = f"{spec.version}.{spec.group}"
    if service.metadata.name != expected:
        detail = f'must be `spec.version+"."+spec.group`: "{expected}"'
        causes.append(invalid("metadata.name", service.metadata.name, detail))
    if spec.group:
        causes += invalid_all("spec.group", spec.group, dns_subdomain(spec.group))
    elif spec.version != "v1":
        causes.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    causes += invalid_all("spec.version", spec.version, dns1035_label(spec.version))
    for field, limit in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = getattr(spec, field)
        if not 0 < value <= limit:
            causes.append(invalid(f"spec.{field}", value, f"must be positive and less than {limit}"))
    if spec.HasField("service"):
        causes += [required(f"spec.service.{f}") for f in ("namespace", "name") if not getattr(spec.service, f)]
        if spec.insecureSkipTLSVerify and spec.caBundle:
            detail = "may not be true if caBundle is present"
            causes.append(invalid("spec.insecureSkipTLSVerify", True, detail))
    else:
        if spec.caBundle:
            detail = "local APIServices may not have a caBundle"
            causes.append(invalid("spec.caBundle", f"{len(spec.caBundle)} bytes", detail))
        if spec.insecureSkipTLSVerify:
            detail = "local APIServices may not have insecureSkipTLSVerify"
            causes.append(invalid("spec.insecureSkipTLSVerify", True, detail))
    return causes


KINDS = {
    coordination.Lease: Kind(create_on_update=True, unconditional_update=False, validate=_validate_lease),
    scheduling.PriorityClass: Kind(
        namespaced=False,
        create=_create_priority_class,
        validate=_validate_priority_class,
        validate_update=_update_priority_class,
        validate_on_update=False,
    ),
    node.RuntimeClass: Kind(
        namespaced=False,
        unconditional_update=False,
        validate=_validate_runtime_class,
        validate_update=_update_runtime_class,
    ),
    certificates.CertificateSigningRequest: Kind(
        name=dns_subdomain,
        namespaced=False,
        status=True,
        update=_update_request,
        update_status=_update_request_status,
        validate=_validate_request,
        validate_status=_request_status,
        through={"approval": _request_conditions},
    ),
    apiregistration.APIService: Kind(
        name=path_segment,
        namespaced=False,
        status=True,
        unconditional_update=False,
        update_status=keep_metadata,
        validate=_validate_api_service,
    ),
}
