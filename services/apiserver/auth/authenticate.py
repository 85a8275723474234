"""Who calls: a client certificate (CN is the user, O the groups), or a bearer token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from services.apiserver.registry.context import User
from tillerman.api.status import unauthorized

ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))
ANONYMOUS = "system:anonymous"


class TokenAuthenticator(Protocol):
    """The user of a token; None when it is not one of ours or not valid."""

    async def user_of(self, token: str) -> User | None: ...


class Authenticator:
    """``identity(context)`` and ``bearer(context)`` as ServiceRuntime has them.

    ``insecure``: everybody is the admin.
    """

    def __init__(
        self,
        *,
        identity: Callable[[Any], Any],
        bearer: Callable[[Any], str],
        tokens: TokenAuthenticator | None,
        insecure: bool,
    ) -> None:
        self._identity = identity
        self._bearer = bearer
        self._tokens = tokens
        self._insecure = insecure
        self._users: dict[tuple[str, tuple[str, ...]], User] = {}

    async def __call__(self, context: Any) -> User:
        """Raises Unauthorized."""
        if self._insecure:
            return ADMIN
        info = self._identity(context)
        if info.name and info.name != ANONYMOUS:
            key = (info.name, tuple(info.groups))
            user = self._users.get(key)
            if user is None:
                groups = key[1] if "system:authenticated" in key[1] else (*key[1], "system:authenticated")
                user = self._users[key] = User(info.name, groups)
                if len(self._users) > 10_000:
                    self._users.clear()
            return user
        token = self._bearer(context)
        if token and self._tokens is not None:
            found = await self._tokens.user_of(token)
            if found is not None:
                return found
        raise unauthorized()


Authenticate = Callable[[Any], Awaitable[User]]
