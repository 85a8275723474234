"""A Job's rules for failures and success: podFailurePolicy, successPolicy, limits per index."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    invalid,
    invalid_all,
    non_negative,
    not_supported,
    one_of,
    qualified_name,
    required,
    too_long,
    too_many,
)

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")
_MAX_RULES, _MAX_PATTERNS, _MAX_EXIT_CODES = 20, 20, 255
_MAX_INDEXES_LENGTH = 64 * 1024
_MAX_INDEXED = 100_000
# A Job that counts failures of so many indexes one by one may do less of everything.
_MAX_WITH_MANY_INDEXES = 10_000
_NEEDS_INDEXES = "requires indexed completion mode"
_BOTH = "specifying both OnExitCodes and OnPodConditions is not supported"
_NEITHER = "specifying one of OnExitCodes and OnPodConditions is required"


def index_limits(path: str, spec: Any) -> list[Cause]:
    """What a Job may ask of its indexes, or may not ask for without any."""
    causes: list[Cause] = []
    for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
        if spec.HasField(field):
            causes += non_negative(f"{path}.{field}", getattr(spec, field))
    if spec.HasField("maxFailedIndexes") and not spec.HasField("backoffLimitPerIndex"):
        causes.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.completionMode == "Indexed":
        return causes + _indexed(path, spec)
    return causes + [
        invalid(f"{path}.{field}", getattr(spec, field), _NEEDS_INDEXES)
        for field in ("backoffLimitPerIndex", "maxFailedIndexes")
        if spec.HasField(field)
    ]


def _indexed(path: str, spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    if spec.parallelism > _MAX_INDEXED:
        detail = f"must be less than or equal to {_MAX_INDEXED} when completion mode is Indexed"
        causes.append(invalid(f"{path}.parallelism", spec.parallelism, detail))
    where, failed = f"{path}.maxFailedIndexes", spec.maxFailedIndexes
    if spec.HasField("completions") and failed > spec.completions:
        causes.append(invalid(where, failed, "must be less than or equal to completions"))
    if failed > _MAX_INDEXED:
        causes.append(invalid(where, failed, f"must be less than or equal to {_MAX_INDEXED}"))
    if spec.completions <= _MAX_INDEXED or not spec.HasField("backoffLimitPerIndex"):
        return causes
    if not spec.HasField("maxFailedIndexes"):
        causes.append(required(where, f"must be specified when completions is above {_MAX_INDEXED}"))
    detail = (
        f"must be less than or equal to {_MAX_WITH_MANY_INDEXES} when completions are above {_MAX_INDEXED} "
        "and used with backoff limit per index"
    )
    return causes + [
        invalid(f"{path}.{field}", getattr(spec, field), detail)
        for field in ("parallelism", "maxFailedIndexes")
        if getattr(spec, field) > _MAX_WITH_MANY_INDEXES
    ]


def failure_policy(path: str, spec: Any) -> list[Cause]:
    rules, where = spec.podFailurePolicy.rules, f"{path}.rules"
    if len(rules) > _MAX_RULES:
        return [too_many(where, len(rules), _MAX_RULES)]
    causes: list[Cause] = []
    for index, rule in enumerate(rules):
        causes += _failure_rule(f"{where}[{index}]", rule, spec)
    return causes


def _failure_rule(path: str, rule: Any, spec: Any) -> list[Cause]:
    action = f"{path}.action"
    if not rule.action:
        causes = [required(action, f"valid values: {_listed(_ACTIONS)}")]
    elif rule.action == "FailIndex" and not spec.HasField("backoffLimitPerIndex"):
        causes = [invalid(action, rule.action, "requires the backoffLimitPerIndex to be set")]
    else:
        causes = one_of(action, rule.action, _ACTIONS)
    if rule.HasField("onExitCodes"):
        causes += _exit_codes(f"{path}.onExitCodes", rule.onExitCodes, spec.template.spec)
    if rule.onPodConditions:
        causes += _patterns(f"{path}.onPodConditions", rule.onPodConditions)
    # The rule itself is not shown.
    if rule.HasField("onExitCodes") == bool(rule.onPodConditions):
        detail = _BOTH if rule.onPodConditions else _NEITHER
        causes.append(Cause(path, "FieldValueInvalid", f"Invalid value: {detail}"))
    return causes


def _listed(values: tuple[str, ...]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"


def _exit_codes(path: str, requirement: Any, pod: Any) -> list[Cause]:
    operator = f"{path}.operator"
    if not requirement.operator:
        causes = [required(operator, f"valid values: {_listed(_OPERATORS)}")]
    else:
        causes = one_of(operator, requirement.operator, _OPERATORS)
    names = {container.name for container in (*pod.containers, *pod.initContainers)}
    if requirement.HasField("containerName") and requirement.containerName not in names:
        detail = "must be one of the container or initContainer names in the pod template"
        causes.append(invalid(f"{path}.containerName", requirement.containerName, detail))
    values, where = requirement.values, f"{path}.values"
    if not values:
        return [*causes, invalid(where, values, "at least one value is required")]
    if len(values) > _MAX_EXIT_CODES:
        return [*causes, too_many(where, len(values), _MAX_EXIT_CODES)]
    seen: set[int] = set()
    for index, code in enumerate(values):
        if code in seen:
            causes.append(duplicate(f"{where}[{index}]", code))
        seen.add(code)
        if requirement.operator == "In" and code == 0:
            causes.append(invalid(f"{where}[{index}]", code, "must not be 0 for the In operator"))
    if any(before > after for before, after in pairwise(values)):
        causes.append(invalid(where, values, "must be ordered"))
    return causes


def _patterns(path: str, patterns: Any) -> list[Cause]:
    if len(patterns) > _MAX_PATTERNS:
        return [too_many(path, len(patterns), _MAX_PATTERNS)]
    causes: list[Cause] = []
    for index, pattern in enumerate(patterns):
        where = f"{path}[{index}]"
        causes += invalid_all(f"{where}.type", pattern.type, qualified_name(pattern.type))
        if not pattern.status:
            causes.append(required(f"{where}.status", f"valid values: {_listed(_STATUSES)}"))
        else:
            causes += one_of(f"{where}.status", pattern.status, _STATUSES)
    return causes


def replacement_policy(path: str, spec: Any) -> list[Cause]:
    """With a failure policy, what has not failed yet cannot be judged, so it cannot be replaced either."""
    policy = spec.podReplacementPolicy
    allowed = ("Failed",) if spec.HasField("podFailurePolicy") else ("Failed", "TerminatingOrFailed")
    return [] if policy in allowed else [not_supported(path, policy, allowed)]


def success_policy(path: str, spec: Any) -> list[Cause]:
    if spec.completionMode != "Indexed":
        return [invalid(path, spec.successPolicy, _NEEDS_INDEXES)]
    rules, where = spec.successPolicy.rules, f"{path}.rules"
    if not rules:
        return [required(where, "at least one rules must be specified when the successPolicy is specified")]
    if len(rules) > _MAX_RULES:
        return [too_many(where, len(rules), _MAX_RULES)]
    causes: list[Cause] = []
    for index, rule in enumerate(rules):
        causes += _success_rule(f"{where}[{index}]", rule, spec.completions)
    return causes


def _success_rule(path: str, rule: Any, completions: int) -> list[Cause]:
    if not rule.HasField("succeededCount") and not rule.HasField("succeededIndexes"):
        return [required(path, "at least one of succeededCount or succeededIndexes must be specified")]
    causes: list[Cause] = []
    chosen: int | None = None
    if rule.HasField("succeededIndexes"):
        where, text = f"{path}.succeededIndexes", rule.succeededIndexes
        if len(text) > _MAX_INDEXES_LENGTH:
            causes.append(too_long(where, _MAX_INDEXES_LENGTH))
        chosen, problem = _count_indexes(text, completions)
        if problem:
            causes.append(invalid(where, text, f"error parsing succeededIndexes: {problem}"))
    if not rule.HasField("succeededCount"):
        return causes
    where, count = f"{path}.succeededCount", rule.succeededCount
    causes += non_negative(where, count)
    if count > completions:
        detail = f"must be less than or equal to {completions} (the number of specified completions)"
        causes.append(invalid(where, count, detail))
    if chosen is not None and count > chosen:
        detail = (
            f"must be less than or equal to {chosen} (the number of indexes in the specified succeededIndexes field)"
        )
        causes.append(invalid(where, count, detail))
    return causes


def _count_indexes(text: str, completions: int) -> tuple[int, str]:
    """How many indexes a list such as "1,3-5" names, and what is wrong with it."""
    if not text:
        return 0, ""
    total, last = 0, -1
    for interval in text.split(","):
        limits = interval.split("-")
        if len(limits) > 2:
            detail = "violates the requirement that an index interval can have at most two parts separated by '-'"
            return 0, f'the fragment "{interval}" {detail}'
        first = last + 1
        for position, word in enumerate(limits):
            if not (word.isascii() and word.isdigit()):
                return 0, f'cannot convert string to integer for index: "{word}"'
            number = int(word)
            if number >= completions:
                return 0, f'too large index: "{word}"'
            if number <= last:
                return 0, f"non-increasing order, previous: {last}, current: {number}"
            first = first if position else number
            last = number
        total += last - first + 1
    return total, ""
