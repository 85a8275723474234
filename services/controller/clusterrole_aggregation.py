"""ClusterRoles with an aggregationRule: their rules are the sum of those of the roles that the rule selects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from services.controller.framework import Controller, ControllerContext
from tillerman.api.meta import key_of
from tillerman.api.selectors import from_message
from tillerman.pb.k8s import rbac_v1_pb2 as rbac


def aggregated(role: rbac.ClusterRole, others: Iterable[rbac.ClusterRole]) -> list[rbac.PolicyRule]:
    """The rules of the roles that ``role`` selects, in the order of their names, each once."""
    selectors = [from_message(selector) for selector in role.aggregationRule.clusterRoleSelectors]
    rules: list[rbac.PolicyRule] = []
    for other in sorted(others, key=lambda one: one.metadata.name):
        if other.metadata.name != role.metadata.name and any(s.matches(other.metadata.labels) for s in selectors):
            rules += [rule for rule in other.rules if rule not in rules]
    return rules


class ClusterRoleAggregation(Controller):
    name = "clusterrole-aggregation"
    workers: ClassVar[int] = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._roles = self.informer(rbac.ClusterRole)
        self._roles.add_handler(on_add=self._seen, on_update=lambda _, new: self._seen(new), on_delete=self._seen)

    def known_keys(self) -> list[str]:
        return [key_of(role) for role in self._roles.list() if role.HasField("aggregationRule")]

    def _seen(self, _role: rbac.ClusterRole) -> None:
        """Any role may be part of any other, and there are few."""
        for key in self.known_keys():
            self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        role = self._roles.get(key)
        if role is None or not role.HasField("aggregationRule"):
            return None
        rules = aggregated(role, self._roles.list())
        if rules != list(role.rules):
            changed = rbac.ClusterRole()
            changed.CopyFrom(role)
            del changed.rules[:]
            changed.rules.extend(rules)
            await self.client.resource(rbac.ClusterRole).update(changed)
        return None
