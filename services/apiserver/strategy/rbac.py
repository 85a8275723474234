"""Roles and bindings."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    invalid,
    invalid_all,
    not_supported,
    required,
)
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns_subdomain, path_segment
from services.apiserver.strategy.selectors import label_selector
from tillerman.pb.k8s import rbac_v1_pb2 as rbac

GROUP = "rbac.authorization.k8s.io"


def _rules(entries: Any, *, namespaced: bool) -> list[Cause]:
    causes: list[Cause] = []
    for index, rule in enumerate(entries):
        path = f"rules[{index}]"
        if not rule.verbs:
            causes.append(required(f"{path}.verbs", "verbs must contain at least one value"))
        if rule.nonResourceURLs:
            urls = list(rule.nonResourceURLs)
            if namespaced:
                detail = "namespaced rules cannot apply to non-resource URLs"
                causes.append(invalid(f"{path}.nonResourceURLs", urls, detail))
            if rule.apiGroups or rule.resources or rule.resourceNames:
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                causes.append(invalid(f"{path}.nonResourceURLs", urls, detail))
            continue
        if not rule.apiGroups:
            detail = "resource rules must supply at least one api group"
            causes.append(required(f"{path}.apiGroups", detail))
        if not rule.resources:
            detail = "resource rules must supply at least one resource"
            causes.append(required(f"{path}.resources", detail))
    return causes


def _validate_role(role: Any) -> list[Cause]:
    return _rules(role.rules, namespaced=True)


def _validate_cluster_role(role: Any) -> list[Cause]:
    causes = _rules(role.rules, namespaced=False)
    if role.HasField("aggregationRule"):
        path = "aggregationRule.clusterRoleSelectors"
        if not role.aggregationRule.clusterRoleSelectors:
            detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            causes.append(required(path, detail))
        for index, selector in enumerate(role.aggregationRule.clusterRoleSelectors):
            causes += label_selector(f"{path}[{index}]", selector)
    return causes


def _binding(binding: Any, kinds: tuple[str, ...], *, namespaced: bool) -> list[Cause]:
    reference = binding.roleRef
    causes: list[Cause] = []
    if reference.apiGroup != GROUP:
        causes.append(not_supported("roleRef.apiGroup", reference.apiGroup, [GROUP]))
    if reference.kind not in kinds:
        causes.append(not_supported("roleRef.kind", reference.kind, kinds))
    if not reference.name:
        causes.append(required("roleRef.name"))
    else:
        causes += invalid_all("roleRef.name", reference.name, path_segment(reference.name))
    for index, subject in enumerate(binding.subjects):
        causes += _subject(f"subjects[{index}]", subject, namespaced=namespaced)
    return causes


def _subject(path: str, subject: Any, *, namespaced: bool) -> list[Cause]:
    causes: list[Cause] = [] if subject.name else [required(f"{path}.name")]
    if subject.kind == "ServiceAccount":
        if subject.name:
            causes += invalid_all(f"{path}.name", subject.name, dns_subdomain(subject.name))
        if subject.apiGroup:
            causes.append(not_supported(f"{path}.apiGroup", subject.apiGroup, [""]))
        if not namespaced and not subject.namespace:
            causes.append(required(f"{path}.namespace"))
    elif subject.kind in ("User", "Group"):
        if subject.apiGroup != GROUP:
            causes.append(not_supported(f"{path}.apiGroup", subject.apiGroup, [GROUP]))
    else:
        causes.append(not_supported(f"{path}.kind", subject.kind, ["ServiceAccount", "User", "Group"]))
    return causes


def _validate_binding(binding: Any) -> list[Cause]:
    return _binding(binding, ("Role", "ClusterRole"), namespaced=True)


def _validate_cluster_binding(binding: Any) -> list[Cause]:
    return _binding(binding, ("ClusterRole",), namespaced=False)


def _same_role(new: Any, old: Any) -> list[Cause]:
    return [] if new.roleRef == old.roleRef else [invalid("roleRef", new.roleRef, "cannot change roleRef")]


KINDS = {
    rbac.Role: Kind(name=path_segment, create_on_update=True, validate=_validate_role),
    rbac.ClusterRole: Kind(name=path_segment, namespaced=False, create_on_update=True, validate=_validate_cluster_role),
    rbac.RoleBinding: Kind(
        name=path_segment, create_on_update=True, validate=_validate_binding, validate_update=_same_role
    ),
    rbac.ClusterRoleBinding: Kind(
        name=path_segment,
        namespaced=False,
        create_on_update=True,
        validate=_validate_cluster_binding,
        validate_update=_same_role,
    ),
}
