"""May this user do that: a chain of authorizers, the first that allows wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Target
from tillerman.api.status import StatusError, forbidden


class Rule(Protocol):
    """True when it allows; False says nothing."""

    def allows(self, user: User, verb: str, target: Target) -> bool: ...

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        """For URLs that are no resources: /healthz, /version."""


class AlwaysAllow:
    def allows(self, user: User, verb: str, target: Target) -> bool:
        return True

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        return True


class AuthorizerChain:
    """system:masters may do anything; else one of the rules must allow."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)

    def allows(self, user: User, verb: str, target: Target) -> bool:
        return "system:masters" in user.groups or any(rule.allows(user, verb, target) for rule in self._rules)

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        return "system:masters" in user.groups or any(rule.allows_path(user, verb, path) for rule in self._rules)

    async def authorize(self, context: Context, verb: str, target: Target) -> None:
        """Raises Forbidden with Kubernetes' words."""
        if not self.allows(context.user, verb, target):
            raise denial(context.user, verb, target)


def denial(user: User, verb: str, target: Target) -> StatusError:
    resource = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    scope = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
    detail = f'User "{user.name}" cannot {verb} resource "{resource}" in API group "{target.group}"{scope}'
    return forbidden(target.resource, target.name, detail, target.group)
