"""Rules for label selectors, node selectors and the labels of pod templates that must match them."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    forbidden,
    invalid,
    invalid_all,
    label_map,
    label_value,
    qualified_name,
    required,
)
from services.apiserver.strategy.names import dns_subdomain

_NEEDS_VALUES = "must be specified when `operator` is 'In' or 'NotIn'"
_NO_VALUES = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
_ONE_VALUE = "must be specified single value when `operator` is 'Lt' or 'Gt'"
_ONE_FIELD_VALUE = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
_BAD_OPERATOR = "not a valid selector operator"


def label_selector(path: str, selector: Any) -> list[Cause]:
    """A LabelSelector message."""
    causes = label_map(f"{path}.matchLabels", selector.matchLabels)
    for index, requirement in enumerate(selector.matchExpressions):
        where = f"{path}.matchExpressions[{index}]"
        causes += _values(where, requirement)
        causes += invalid_all(f"{where}.key", requirement.key, qualified_name(requirement.key))
        for position, value in enumerate(requirement.values):
            causes += invalid_all(f"{where}.values[{position}]", value, label_value(value))
    return causes


def node_selector(path: str, selector: Any) -> list[Cause]:
    """A required NodeSelector: at least one term."""
    terms = f"{path}.nodeSelectorTerms"
    if not selector.nodeSelectorTerms:
        return [required(terms, "must have at least one node selector term")]
    causes: list[Cause] = []
    for index, term in enumerate(selector.nodeSelectorTerms):
        causes += node_selector_term(f"{terms}[{index}]", term)
    return causes


def node_selector_term(path: str, term: Any) -> list[Cause]:
    causes: list[Cause] = []
    for index, requirement in enumerate(term.matchExpressions):
        where = f"{path}.matchExpressions[{index}]"
        causes += _values(where, requirement, ordered=True)
        causes += invalid_all(f"{where}.key", requirement.key, qualified_name(requirement.key))
    for index, requirement in enumerate(term.matchFields):
        where = f"{path}.matchFields[{index}]"
        if requirement.operator not in ("In", "NotIn"):
            causes.append(invalid(f"{where}.operator", requirement.operator, _BAD_OPERATOR))
        elif len(requirement.values) != 1:
            causes.append(required(f"{where}.values", _ONE_FIELD_VALUE))
        if requirement.key != "metadata.name":
            causes.append(invalid(f"{where}.key", requirement.key, "not a valid field selector key"))
        else:
            for position, value in enumerate(requirement.values):
                causes += invalid_all(f"{where}.values[{position}]", value, dns_subdomain(value))
    return causes


def _values(path: str, requirement: Any, *, ordered: bool = False) -> list[Cause]:
    operator, values = requirement.operator, requirement.values
    if operator in ("In", "NotIn"):
        return [] if values else [required(f"{path}.values", _NEEDS_VALUES)]
    if operator in ("Exists", "DoesNotExist"):
        return [forbidden(f"{path}.values", _NO_VALUES)] if values else []
    if ordered and operator in ("Gt", "Lt"):
        return [] if len(values) == 1 else [required(f"{path}.values", _ONE_VALUE)]
    return [invalid(f"{path}.operator", operator, _BAD_OPERATOR)]
