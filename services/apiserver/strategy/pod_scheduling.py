"""Rules for the part of a pod that the scheduler reads: affinity, tolerations, spreading."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    label_value,
    not_supported,
    qualified_name,
    required,
)
from services.apiserver.strategy.names import dns_label
from services.apiserver.strategy.selectors import label_selector, node_selector, node_selector_term

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_NEEDS_SELECTOR = "must not be specified when labelSelector is not set"
_KEYLESS = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'


def affinity(path: str, spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    if spec.HasField("nodeAffinity"):
        causes += _node_affinity(f"{path}.nodeAffinity", spec.nodeAffinity)
    for field in ("podAffinity", "podAntiAffinity"):
        if spec.HasField(field):
            causes += _pod_affinity(f"{path}.{field}", getattr(spec, field))
    return causes


def _node_affinity(path: str, terms: Any) -> list[Cause]:
    causes: list[Cause] = []
    if terms.HasField(_REQUIRED):
        causes += node_selector(f"{path}.{_REQUIRED}", getattr(terms, _REQUIRED))
    for index, term in enumerate(getattr(terms, _PREFERRED)):
        where = f"{path}.{_PREFERRED}[{index}]"
        causes += _weight(where, term.weight)
        causes += node_selector_term(f"{where}.preference", term.preference)
    return causes


def _pod_affinity(path: str, terms: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, term in enumerate(getattr(terms, _REQUIRED)):
        causes += _pod_affinity_term(f"{path}.{_REQUIRED}[{index}]", term)
    for index, term in enumerate(getattr(terms, _PREFERRED)):
        where = f"{path}.{_PREFERRED}[{index}]"
        causes += _weight(where, term.weight)
        causes += _pod_affinity_term(f"{where}.podAffinityTerm", term.podAffinityTerm)
    return causes


def _weight(path: str, weight: int) -> list[Cause]:
    return [] if 1 <= weight <= 100 else [invalid(f"{path}.weight", weight, "must be in the range 1-100")]


def _pod_affinity_term(path: str, term: Any) -> list[Cause]:
    causes: list[Cause] = []
    if term.HasField("labelSelector"):
        # "matchExpressions" is how Kubernetes itself spells this path.
        causes += label_selector(f"{path}.matchExpressions", term.labelSelector)
    if term.HasField("namespaceSelector"):
        causes += label_selector(f"{path}.namespaceSelector", term.namespaceSelector)
    causes += _affinity_keys(path, term)
    for name in term.namespaces:
        causes += invalid_all(f"{path}.namespace", name, dns_label(name))
    if not term.topologyKey:
        causes.append(required(f"{path}.topologyKey", "can not be empty"))
    return causes + invalid_all(f"{path}.topologyKey", term.topologyKey, qualified_name(term.topologyKey))


def _affinity_keys(path: str, term: Any) -> list[Cause]:
    """Keys whose values are taken from the pod itself; they say nothing without a selector."""
    causes: list[Cause] = []
    for field in ("matchLabelKeys", "mismatchLabelKeys"):
        keys = getattr(term, field)
        if keys and not term.HasField("labelSelector"):
            causes.append(forbidden(f"{path}.{field}", _NEEDS_SELECTOR))
        for index, key in enumerate(keys):
            causes += invalid_all(f"{path}.{field}[{index}]", key, qualified_name(key))
    both = set(term.matchLabelKeys) & set(term.mismatchLabelKeys)
    return causes + [
        invalid(f"{path}.matchLabelKeys[{index}]", key, "exists in both matchLabelKeys and mismatchLabelKeys")
        for index, key in enumerate(term.matchLabelKeys)
        if key in both
    ]


def _spread_keys(path: str, constraint: Any) -> list[Cause]:
    keys, selector = constraint.matchLabelKeys, constraint.labelSelector
    causes: list[Cause] = []
    if keys and not constraint.HasField("labelSelector"):
        causes.append(forbidden(path, _NEEDS_SELECTOR))
    selected = {*selector.matchLabels, *(requirement.key for requirement in selector.matchExpressions)}
    for index, key in enumerate(keys):
        where = f"{path}[{index}]"
        causes += invalid_all(where, key, qualified_name(key))
        if key in selected:
            causes.append(invalid(where, key, "exists in both matchLabelKeys and labelSelector"))
    return causes


def tolerations(path: str, entries: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, entry in enumerate(entries):
        where = f"{path}[{index}]"
        if entry.key:
            causes += invalid_all(f"{where}.key", entry.key, qualified_name(entry.key))
        elif entry.operator != "Exists":
            causes.append(invalid(f"{where}.operator", entry.operator, _KEYLESS))
        if entry.HasField("tolerationSeconds") and entry.effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            causes.append(invalid(f"{where}.effect", entry.effect, detail))
        if entry.operator in ("Equal", ""):
            problems = label_value(entry.value)
            if problems:
                causes.append(invalid(f"{where}.operator", entry.value, ";".join(problems)))
        elif entry.operator == "Exists":
            if entry.value:
                causes.append(invalid(f"{where}.operator", entry, "value must be empty when `operator` is 'Exists'"))
        else:
            causes.append(not_supported(f"{where}.operator", entry.operator, ["Equal", "Exists"]))
        if entry.effect:
            causes += taint_effect(f"{where}.effect", entry.effect)
    return causes


def taint_effect(path: str, effect: str) -> list[Cause]:
    return [] if effect in TAINT_EFFECTS else [not_supported(path, effect, TAINT_EFFECTS)]


def topology_spread(path: str, constraints: Any) -> list[Cause]:
    causes: list[Cause] = []
    pairs = [(constraint.topologyKey, constraint.whenUnsatisfiable) for constraint in constraints]
    for index, constraint in enumerate(constraints):
        where = f"{path}[{index}]"
        if constraint.maxSkew <= 0:
            causes.append(invalid(f"{where}.maxSkew", constraint.maxSkew, "must be greater than zero"))
        if not constraint.topologyKey:
            causes.append(required(f"{where}.topologyKey", "can not be empty"))
        if constraint.whenUnsatisfiable not in ("DoNotSchedule", "ScheduleAnyway"):
            allowed = ["DoNotSchedule", "ScheduleAnyway"]
            causes.append(not_supported(f"{where}.whenUnsatisfiable", constraint.whenUnsatisfiable, allowed))
        # The earlier of two equal constraints is the one that is named.
        key, action = pairs[index]
        if pairs[index] in pairs[index + 1 :]:
            causes.append(duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
        if constraint.HasField("minDomains"):
            if constraint.minDomains <= 0:
                causes.append(invalid(f"{where}.minDomains", constraint.minDomains, "must be greater than zero"))
            elif constraint.whenUnsatisfiable != "DoNotSchedule":
                detail = (
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not " + constraint.whenUnsatisfiable
                )
                causes.append(invalid(f"{where}.minDomains", constraint.minDomains, detail))
        causes += [
            not_supported(f"{where}.{field}", getattr(constraint, field), ["Honor", "Ignore"])
            for field in ("nodeAffinityPolicy", "nodeTaintsPolicy")
            if constraint.HasField(field) and getattr(constraint, field) not in ("Honor", "Ignore")
        ]
        causes += _spread_keys(f"{where}.matchLabelKeys", constraint)
        if constraint.HasField("labelSelector"):
            causes += label_selector(f"{where}.labelSelector", constraint.labelSelector)
    return causes
