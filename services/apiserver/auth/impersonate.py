"""Impersonation: who may, acts as somebody else for one request (the headers Impersonate-User and its kin)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from urllib.parse import unquote

from services.apiserver.auth.authorize import AuthorizerChain, denial
from services.apiserver.registry.context import User
from services.apiserver.registry.registry import Target
from tillerman.api.status import internal

ANONYMOUS = "system:anonymous"
AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"
USER, GROUP, UID, EXTRA = "impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-"
ACCOUNT = "system:serviceaccount:"
AUTHENTICATION = "authentication.k8s.io/v1"


class Headers(Protocol):
    """A request's headers: several may have one name, which is looked up in any case."""

    def items(self) -> Iterable[tuple[str, str]]: ...


def impersonated(user: User, headers: Headers, authorizer: AuthorizerChain) -> User:
    """The user whom the headers name, or ``user`` where they name none.

    Raises Forbidden unless ``user`` may impersonate each part of it, InternalError for parts without a user.
    """
    given = [(name.lower(), value) for name, value in headers.items() if name.lower().startswith("impersonate-")]
    if not given:
        return user
    name = next((value for header, value in given if header == USER), "")
    groups = [value for header, value in given if header == GROUP]
    uid = next((value for header, value in given if header == UID), "")
    extra: dict[str, list[str]] = {}
    for header, value in given:
        if header.startswith(EXTRA):
            extra.setdefault(unquote(header.removeprefix(EXTRA)), []).append(value)
    if not name:
        parts = [*groups, *extra, *([uid] if uid else [])]
        if not parts:
            return user
        raise internal(f"requested {parts} without impersonating a user")
    for target in _targets(name, groups, uid, extra):
        if not authorizer.allows(user, "impersonate", target):
            raise denial(user, "impersonate", target)
    pairs = tuple((key, tuple(values)) for key, values in extra.items())
    return User(name, tuple(_groups(name, groups)), uid, pairs)


def _targets(name: str, groups: list[str], uid: str, extra: dict[str, list[str]]) -> Iterable[Target]:
    """What the caller must be allowed to impersonate."""
    namespace, _, account = name.removeprefix(ACCOUNT).partition(":")
    if name.startswith(ACCOUNT) and namespace and account:
        yield Target("v1", "serviceaccounts", namespace, account)
    else:
        yield Target("v1", "users", "", name)
    for group in groups:
        yield Target("v1", "groups", "", group)
    for key, values in extra.items():
        for value in values:
            yield Target(AUTHENTICATION, "userextras", "", value, key)
    if uid:
        yield Target(AUTHENTICATION, "uids", "", uid)


def _groups(name: str, given: list[str]) -> list[str]:
    """The groups that somebody who logs in under the name gets by that."""
    groups = list(given)
    namespace, _, account = name.removeprefix(ACCOUNT).partition(":")
    if not groups and name.startswith(ACCOUNT) and namespace and account:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    implied = UNAUTHENTICATED if name == ANONYMOUS else AUTHENTICATED
    if not {AUTHENTICATED, UNAUTHENTICATED} & set(groups):
        groups.append(implied)
    return groups
