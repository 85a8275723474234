"""When a container starts again: its own restart policy and rules, and what a resize of its resources does."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import Cause, duplicate, forbidden, invalid, one_of, required, too_many

_POLICIES = ("Always", "Never", "OnFailure")
_ACTIONS = ("Restart", "RestartAllContainers")
_MAX_RULES, _MAX_EXIT_CODES = 20, 255
_RESIZED = ("cpu", "memory")
_RESIZES = ("NotRequired", "RestartContainer")


def restart_policy(path: str, container: Any) -> list[Cause]:
    causes: list[Cause] = []
    where, rules = f"{path}.restartPolicyRules", container.restartPolicyRules
    if container.HasField("restartPolicy"):
        causes += one_of(f"{path}.restartPolicy", container.restartPolicy, _POLICIES)
    elif rules:
        causes.append(required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    if len(rules) > _MAX_RULES:
        return [*causes, too_many(where, len(rules), _MAX_RULES)]
    for index, rule in enumerate(rules):
        causes += _rule(f"{where}[{index}]", rule)
    return causes


def _rule(path: str, rule: Any) -> list[Cause]:
    causes = one_of(f"{path}.action", rule.action, _ACTIONS)
    where = f"{path}.exitCodes"
    if not rule.HasField("exitCodes"):
        return [*causes, required(where, "must be specified")]
    codes = rule.exitCodes
    causes += one_of(f"{where}.operator", codes.operator, ("In", "NotIn"))
    if len(codes.values) > _MAX_EXIT_CODES:
        causes.append(too_many(f"{where}.values", len(codes.values), _MAX_EXIT_CODES))
    return causes


def resize_policies(path: str, policies: Any, pod_policy: str) -> list[Cause]:
    """All complaints but that of a repeated resource are about the list itself."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        if policy.resourceName in seen:
            causes.append(duplicate(f"{path}[{index}]", policy.resourceName))
        seen.add(policy.resourceName)
        causes += one_of(path, policy.resourceName, _RESIZED)
        causes += one_of(path, policy.restartPolicy, _RESIZES)
        if pod_policy == "Never" and policy.restartPolicy not in ("", "NotRequired"):
            detail = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            causes.append(invalid(path, policy.restartPolicy, detail))
    return causes


def only_for_containers_that_run_on(path: str, container: Any) -> list[Cause]:
    """A debugging container runs once."""
    causes = []
    if container.HasField("restartPolicy"):
        causes.append(forbidden(f"{path}.restartPolicy", "cannot be set for an Ephemeral Container"))
    if container.resizePolicy:
        causes.append(forbidden(f"{path}.resizePolicy", "cannot be set for an Ephemeral Container"))
    return causes
