"""May this user do that: a chain of authorizers, the first that allows wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Target
from tillerman.api.status import StatusError, forbidden
from tillerman.pb.k8s import rbac_v1_pb2


@dataclass(slots=True)
class Granted:
    """rbac/v1 PolicyRules that hold for a user; ``unknown``: why there may be others."""

    rules: list[Any] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class Rule(Protocol):
    """True when it allows; False says nothing."""

    def allows(self, user: User, verb: str, target: Target) -> bool: ...

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        """For URLs that are no resources: /healthz, /version."""

    def granted(self, user: User, namespace: str) -> Granted:
        """What it would allow in a namespace, and in the whole cluster."""


class AlwaysAllow:
    def allows(self, user: User, verb: str, target: Target) -> bool:
        return True

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        return True

    def granted(self, user: User, namespace: str) -> Granted:
        return Granted(everything())


def everything() -> list[Any]:
    """The rules of who may do anything."""
    whole = rbac_v1_pb2.PolicyRule(verbs=["*"], apiGroups=["*"], resources=["*"])
    return [whole, rbac_v1_pb2.PolicyRule(verbs=["*"], nonResourceURLs=["*"])]


class AuthorizerChain:
    """system:masters may do anything; else one of the rules must allow."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)

    def allows(self, user: User, verb: str, target: Target) -> bool:
        return "system:masters" in user.groups or any(rule.allows(user, verb, target) for rule in self._rules)

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        return "system:masters" in user.groups or any(rule.allows_path(user, verb, path) for rule in self._rules)

    def granted(self, user: User, namespace: str) -> Granted:
        """What all of them grant together."""
        if "system:masters" in user.groups:
            return Granted(everything())
        whole = Granted()
        for rule in self._rules:
            part = rule.granted(user, namespace)
            whole.rules += part.rules
            whole.unknown += part.unknown
        return whole

    async def authorize(self, context: Context, verb: str, target: Target) -> None:
        """Raises Forbidden with Kubernetes' words."""
        if not self.allows(context.user, verb, target):
            raise denial(context.user, verb, target)


def denial(user: User, verb: str, target: Target) -> StatusError:
    resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    scope = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
    detail = f'User "{user.name}" cannot {verb} resource "{resource}" in API group "{target.group}"{scope}'
    return forbidden(target.resource, target.name, detail, target.group)
