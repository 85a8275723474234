"""RBAC: Roles and ClusterRoles, bound to users, groups and service accounts, read from the caches.

Answers are remembered until one of the four resources changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.apiserver.auth.authorize import Granted
from services.apiserver.cache.resource import ResourceCache
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.context import User
from services.apiserver.registry.registry import Target
from services.apiserver.registry.resource import Resource

API = "rbac.authorization.k8s.io/v1"
REMEMBERED = 50_000


class Rbac:
    """An auth.authorize.Rule."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._answers: dict[Any, bool] = {}
        self._rules: dict[Any, list[tuple[str, Any]]] = {}
        self._caches: list[ResourceCache] = []
        self._seen: list[int] = []

    def allows(self, user: User, verb: str, target: Target) -> bool:
        self._refresh()
        question = (user.name, user.groups, verb, target)
        answer = self._answers.get(question)
        if answer is None:
            if len(self._answers) > REMEMBERED:
                self._answers.clear()
            answer = self._answers[question] = any(
                (not namespace or namespace == target.namespace) and covers(rule, verb, target)
                for namespace, rule in self.rules_of(user)
            )
        return answer

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        self._refresh()
        return any(not namespace and covers_path(rule, verb, path) for namespace, rule in self.rules_of(user))

    def granted(self, user: User, namespace: str) -> Granted:
        self._refresh()
        return Granted([rule for bound, rule in self.rules_of(user) if bound in ("", namespace)])

    def rules_of(self, user: User) -> list[tuple[str, Any]]:
        """(namespace, PolicyRule) of everything that is bound to the user; namespace "" is the whole cluster."""
        key = (user.name, user.groups)
        found = self._rules.get(key)
        if found is None:
            found = self._rules[key] = list(self._bound(user))
        return found

    def _bound(self, user: User) -> Iterator[tuple[str, Any]]:
        for entry in self._resource("clusterrolebindings").cache.entries.values():
            binding = entry.message()
            if any(is_subject(s, user, "") for s in binding.subjects):
                for rule in self._role("", binding.roleRef):
                    yield "", rule
        for entry in self._resource("rolebindings").cache.entries.values():
            binding = entry.message()
            namespace = binding.metadata.namespace
            if any(is_subject(s, user, namespace) for s in binding.subjects):
                for rule in self._role(namespace, binding.roleRef):
                    yield namespace, rule

    def _role(self, namespace: str, ref: Any) -> Any:
        if ref.kind == "ClusterRole":
            roles = self._resource("clusterroles")
            key = roles.key("", ref.name)
        else:
            roles = self._resource("roles")
            key = roles.key(namespace, ref.name)
        entry = roles.cache.entries.get(key)
        return () if entry is None else entry.message().rules

    def _resource(self, name: str) -> Resource:
        return self._catalog.get(API, name)

    def _refresh(self) -> None:
        if not self._caches:
            names = ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
            self._caches = [self._resource(name).cache for name in names]
        seen = [cache.changed for cache in self._caches]
        if seen != self._seen:
            self._seen = seen
            self._answers.clear()
            self._rules.clear()


def covers(rule: Any, verb: str, target: Target) -> bool:
    if not _any(rule.verbs, verb) or not _any(rule.apiGroups, target.group):
        return False
    if rule.resourceNames and target.name not in rule.resourceNames:
        return False
    wanted = f"{target.resource}/{target.subresource}" if target.subresource else target.resource
    return any(
        name in ("*", wanted) or (target.subresource and name == f"*/{target.subresource}") for name in rule.resources
    )


def covers_path(rule: Any, verb: str, path: str) -> bool:
    if not _any(rule.verbs, verb):
        return False
    return any(url in ("*", path) or (url.endswith("*") and path.startswith(url[:-1])) for url in rule.nonResourceURLs)


def is_subject(subject: Any, user: User, namespace: str) -> bool:
    if subject.kind == "User":
        return bool(subject.name == user.name)
    if subject.kind == "Group":
        return subject.name in user.groups
    if subject.kind == "ServiceAccount":
        return bool(user.name == f"system:serviceaccount:{subject.namespace or namespace}:{subject.name}")
    return False


def _any(values: Any, wanted: str) -> bool:
    return wanted in values or "*" in values
