"""Service account tokens for projected volumes: asked from the API server, and renewed at four fifths of their life."""

from dataclasses import dataclass
from typing import cast

from tillerman.api.times import to_seconds
from tillerman.client.client import Client
from tillerman.client.clock import Clock
from tillerman.pb.k8s import authentication_v1_pb2 as authentication
from tillerman.pb.k8s import core_v1_pb2 as core

_DEFAULT_SECONDS = 3600
_RENEW_AT = 0.8


@dataclass(slots=True)
class _Token:
    text: str
    renew_at: float


class TokenSource:
    def __init__(self, client: Client, *, clock: Clock) -> None:
        self._accounts = client.resource(core.ServiceAccount)
        self._clock = clock
        self._tokens: dict[tuple[str, str], _Token] = {}

    async def token(self, pod: core.Pod, projection: core.ServiceAccountTokenProjection) -> str:
        """Raises StatusError."""
        key = (pod.metadata.uid, projection.path)
        known = self._tokens.get(key)
        if known is not None and known.renew_at > self._clock.time():
            return known.text
        seconds = projection.expirationSeconds if projection.HasField("expirationSeconds") else _DEFAULT_SECONDS
        request = authentication.TokenRequest()
        request.spec.expirationSeconds = seconds
        if projection.audience:
            request.spec.audiences.append(projection.audience)
        bound = request.spec.boundObjectRef
        bound.kind, bound.apiVersion = "Pod", "v1"
        bound.name, bound.uID = pod.metadata.name, pod.metadata.uid
        name = pod.spec.serviceAccountName or "default"
        answer = await self._accounts.subresource_create(name, pod.metadata.namespace, "token", request)
        status = cast(authentication.TokenRequest, answer).status
        now = self._clock.time()
        lifetime = max(to_seconds(status.expirationTimestamp) - now, 60.0)
        self._tokens[key] = _Token(status.token, now + lifetime * _RENEW_AT)
        return status.token

    def next_refresh(self) -> float | None:
        """Epoch seconds."""
        return min((token.renew_at for token in self._tokens.values()), default=None)

    def due(self) -> set[str]:
        """Uids of pods with a token to renew."""
        now = self._clock.time()
        return {uid for (uid, _), token in self._tokens.items() if token.renew_at <= now}

    def forget(self, uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == uid]:
            del self._tokens[key]
