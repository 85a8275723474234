"""Impersonation: what the headers ask for, and what the caller must be allowed for it."""

import pytest
from multidict import CIMultiDict

from services.apiserver.auth.authorize import AuthorizerChain, Granted
from services.apiserver.auth.impersonate import impersonated
from services.apiserver.registry.context import User
from services.apiserver.registry.registry import Target
from tillerman.api.status import StatusError

CALLER = User("caller", ("system:authenticated",))


class Allowing:
    """Allows impersonation of (resource, namespace, name, subresource)."""

    def __init__(self, *allowed: tuple[str, str, str, str]) -> None:
        self._allowed = allowed

    def allows(self, user: User, verb: str, target: Target) -> bool:
        asked = (target.resource, target.namespace, target.name, target.subresource)
        return verb == "impersonate" and asked in self._allowed

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        return False

    def granted(self, user: User, namespace: str) -> Granted:
        return Granted()


def chain(*allowed: tuple[str, str, str, str]) -> AuthorizerChain:
    return AuthorizerChain([Allowing(*allowed)])


def test_without_headers_the_caller_stays_who_it_is() -> None:
    assert impersonated(CALLER, CIMultiDict({"Accept": "x"}), chain()) is CALLER


def test_a_user_gets_what_everybody_who_logs_in_has() -> None:
    found = impersonated(CALLER, CIMultiDict({"Impersonate-User": "jane"}), chain(("users", "", "jane", "")))
    assert found == User("jane", ("system:authenticated",))


def test_a_service_account_gets_its_groups() -> None:
    headers = CIMultiDict({"Impersonate-User": "system:serviceaccount:ns:robot"})
    found = impersonated(CALLER, headers, chain(("serviceaccounts", "ns", "robot", "")))
    assert found.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")


def test_every_part_has_to_be_allowed() -> None:
    headers = CIMultiDict(
        [
            ("impersonate-user", "jane"),
            ("Impersonate-Group", "one"),
            ("Impersonate-Group", "two"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Extra-acme.com%2fscope", "read"),
        ]
    )
    parts = [
        ("users", "", "jane", ""),
        ("groups", "", "one", ""),
        ("groups", "", "two", ""),
        ("userextras", "", "read", "acme.com/scope"),
        ("uids", "", "7", ""),
    ]
    found = impersonated(CALLER, headers, chain(*parts))
    assert found == User("jane", ("one", "two", "system:authenticated"), "7", (("acme.com/scope", ("read",)),))
    for missing in parts:
        with pytest.raises(StatusError) as refused:
            impersonated(CALLER, headers, chain(*(part for part in parts if part != missing)))
        assert refused.value.code == 403
        assert f'cannot impersonate resource "{missing[0]}' in str(refused.value)


def test_parts_without_a_user_are_refused() -> None:
    with pytest.raises(StatusError, match="without impersonating a user"):
        impersonated(CALLER, CIMultiDict({"Impersonate-Group": "one"}), chain())


def test_anonymous_is_not_authenticated() -> None:
    headers = CIMultiDict({"Impersonate-User": "system:anonymous"})
    found = impersonated(CALLER, headers, chain(("users", "", "system:anonymous", "")))
    assert found.groups == ("system:unauthenticated",)
