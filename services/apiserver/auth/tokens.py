"""Bearer tokens: service account tokens, signed and verified here; bootstrap tokens, which are Secrets in kube-system;
and those of a file.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.managed import begins_record, track_body
from services.apiserver.registry.reading import Reader
from services.apiserver.registry.registry import BaseSubresource, Target
from services.apiserver.registry.resource import Resource
from tillerman.api import times
from tillerman.api.status import bad_request, conflict, internal, invalid, invalid_value

MIN_SECONDS, DEFAULT_SECONDS, MAX_SECONDS = 600, 3600, 1 << 32
PRIVATE_CLAIM = "kubernetes.io"
CACHED_SECONDS, CACHED_TOKENS = 10.0, 10_000
INVALID = "invalid bearer token"


@dataclass(frozen=True, slots=True)
class _Key:
    id: str
    algorithm: str
    public: Any


class TokenKeys:
    """``signing``: PEM private key, or None when tokens are only verified. ``verifying``: PEM files, private or
    public.
    """

    def __init__(self, *, signing: Path | None, verifying: Sequence[Path], issuer: str) -> None:
        self.issuer = issuer
        self._signing = signing
        self._files = [*verifying, *([signing] if signing else [])]
        self._keys: dict[str, _Key] | None = None
        self._private: Any = None

    def sign(self, claims: dict[str, Any]) -> str:
        """Raises InternalError when there is no key to sign with."""
        import jwt
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if self._signing is None:
            raise internal("service account tokens cannot be issued: --service-account-signing-key-file is not set")
        if self._private is None:
            self._private = load_pem_private_key(self._signing.read_bytes(), None)
        key = _key(self._private.public_key())
        return jwt.encode(claims, self._private, algorithm=key.algorithm, headers={"kid": key.id})

    def claims(self, token: str) -> dict[str, Any] | None:
        """The verified claims; None for a token that is not ours. Raises TokenRefused."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return None
        key = self._load().get(str(header.get("kid")))
        if key is None:
            return None
        try:
            found: dict[str, Any] = jwt.decode(
                token, key.public, algorithms=[key.algorithm], issuer=self.issuer, options={"verify_aud": False}
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenRefused("service account token has expired") from error
        except jwt.PyJWTError:
            return None
        return found

    def configuration(self, server: str) -> dict[str, Any]:
        """The OpenID provider configuration; ``server``: where the keys are served."""
        algorithms = sorted({key.algorithm for key in self._load().values()})
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{server}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        }

    def jwks(self) -> dict[str, Any]:
        """The public keys, as a JSON Web Key Set."""
        import jwt

        found = []
        for key in self._load().values():
            fields = jwt.get_algorithm_by_name(key.algorithm).to_jwk(key.public, as_dict=True)
            found.append({**fields, "use": "sig", "kid": key.id, "alg": key.algorithm})
        return {"keys": found}

    def _load(self) -> dict[str, _Key]:
        if self._keys is None:
            from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

            self._keys = {}
            for path in self._files:
                pem = path.read_bytes()
                public = load_pem_private_key(pem, None).public_key() if b"PRIVATE" in pem else load_pem_public_key(pem)
                key = _key(public)
                self._keys[key.id] = key
        return self._keys


def _key(public: Any) -> _Key:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key_id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
    if isinstance(public, rsa.RSAPublicKey):
        return _Key(key_id, "RS256", public)
    return _Key(key_id, {256: "ES256", 384: "ES384", 521: "ES512"}[public.key_size], public)


class TokenRefused(Exception):
    """A token that is ours and does not count; the message says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``audiences``: those of the asked ones that the token is for. ``error``: why there is no user, if one can say."""

    user: User | None
    audiences: tuple[str, ...] = ()
    error: str = ""


class BearerTokens:
    """auth.authenticate.TokenAuthenticator.

    An account or bound object that is gone or another one ends its tokens, a few seconds later at most: good tokens
    are remembered for CACHED_SECONDS, as Kubernetes does. ``clock``: seconds.
    """

    def __init__(
        self,
        keys: TokenKeys,
        catalog: Catalog,
        *,
        static: Mapping[str, User] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keys = keys
        self._catalog = catalog
        self._static = static or {}
        self._clock = clock
        self._good: dict[tuple[str, tuple[str, ...]], tuple[float, Verdict]] = {}

    async def user_of(self, token: str) -> User | None:
        return (await self.review(token)).user

    async def review(self, token: str, audiences: Sequence[str] = ()) -> Verdict:
        """``audiences``: whom the token shall be for, by default this server."""
        wanted = tuple(audiences) or (self.keys.issuer,)
        until, verdict = self._good.get((token, wanted), (0.0, Verdict(None)))
        if self._clock() < until:
            return verdict
        try:
            verdict = self._verdict(token, wanted)
        except TokenRefused as refused:
            return Verdict(None, error=f"[{INVALID}, {refused}]")
        if verdict.user is not None:
            if len(self._good) >= CACHED_TOKENS:
                self._good.clear()
            self._good[token, wanted] = self._clock() + CACHED_SECONDS, verdict
        return verdict

    def _verdict(self, token: str, wanted: tuple[str, ...]) -> Verdict:
        user = self._static.get(token) or self._bootstrap(token)
        if user is not None:
            # Such tokens name no audience: they are for this server.
            return Verdict(user, (self.keys.issuer,)) if self.keys.issuer in wanted else Verdict(None, error=INVALID)
        claims = self.keys.claims(token)
        private = claims.get(PRIVATE_CLAIM) if claims else None
        if claims is None or not isinstance(private, dict):
            return Verdict(None, error=INVALID)
        issued_for = claims.get("aud", [])
        audiences = tuple(audience for audience in issued_for if audience in wanted)
        if not audiences:
            raise TokenRefused(
                f"token audiences {quoted(issued_for)} is invalid for the target audiences {quoted(wanted)}"
            )
        return Verdict(self._account(private, str(claims.get("jti", ""))), audiences)

    def _account(self, private: dict[str, Any], token_id: str) -> User:
        """Raises TokenRefused when what the token was issued for is gone."""
        namespace = private.get("namespace", "")
        account = private.get("serviceaccount") or {}
        if self._uid("serviceaccounts", namespace, account.get("name", "")) != account.get("uid"):
            raise TokenRefused("service account token has been invalidated")
        extra: list[tuple[str, tuple[str, ...]]] = []
        if token_id:
            extra.append(("authentication.kubernetes.io/credential-id", (f"JTI={token_id}",)))
        for kind, resource in (("pod", "pods"), ("secret", "secrets")):
            bound = private.get(kind)
            if bound:
                if self._uid(resource, namespace, bound.get("name", "")) != bound.get("uid"):
                    raise TokenRefused("service account token has been invalidated")
                if kind == "pod":
                    extra.append(("authentication.kubernetes.io/pod-name", (bound["name"],)))
                    extra.append(("authentication.kubernetes.io/pod-uid", (bound["uid"],)))
        return service_account_user(namespace, account["name"], account["uid"], tuple(extra))

    def _uid(self, resource: str, namespace: str, name: str) -> str | None:
        found = self._catalog.get("v1", resource)
        entry = found.cache.entries.get(found.key(namespace, name))
        return None if entry is None else str(entry.message().metadata.uid)

    def _bootstrap(self, token: str) -> User | None:
        """Tokens "id.secret", as Secrets of type bootstrap.kubernetes.io/token hold them."""
        import hmac

        token_id, dot, secret = token.partition(".")
        if not dot or len(token_id) != 6 or len(secret) != 16:
            return None
        secrets = self._catalog.get("v1", "secrets")
        entry = secrets.cache.entries.get(secrets.key("kube-system", f"bootstrap-token-{token_id}"))
        if entry is None:
            return None
        data = {name: value.decode(errors="replace") for name, value in entry.message().data.items()}
        if not hmac.compare_digest(data.get("token-secret", ""), secret):
            return None
        if data.get("usage-bootstrap-authentication") != "true":
            return None
        expiry = data.get("expiration")
        if expiry and times.to_seconds(times.parse_rfc3339(expiry)) <= time.time():
            return None
        groups = [g for g in data.get("auth-extra-groups", "").split(",") if g.startswith("system:bootstrappers:")]
        return User(f"system:bootstrap:{token_id}", ("system:bootstrappers", *groups, "system:authenticated"))


def quoted(texts: Sequence[str]) -> str:
    return "[" + " ".join(f'"{text}"' for text in texts) + "]"


def read_static(path: Path) -> dict[str, User]:
    """Tokens of a CSV file, one a line: token, user name, uid, and optionally "group1,group2". Raises ValueError."""
    found: dict[str, User] = {}
    with path.open(newline="") as lines:
        for number, row in enumerate(csv.reader(lines, skipinitialspace=True), start=1):
            if not row or row[0].startswith("#"):
                continue
            if len(row) < 3 or not row[0]:
                raise ValueError(f"{path}, line {number}: a token, a user name and a uid are needed")
            groups = [group.strip() for group in row[3].split(",")] if len(row) > 3 and row[3] else []
            found[row[0]] = User(row[1], (*groups, "system:authenticated"), row[2])
    return found


def service_account_user(
    namespace: str, name: str, uid: str, extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"system:serviceaccount:{namespace}:{name}", groups, uid, extra)


class TokenRequest(BaseSubresource):
    """serviceaccounts/token."""

    def __init__(self, *, keys: TokenKeys, catalog: Catalog, reader: Reader) -> None:
        self._keys = keys
        self._catalog = catalog
        self._reader = reader

    async def create(self, resource: Resource, target: Target, body: Any, context: Context) -> Message:
        account = (await self._reader.get(resource, target.namespace, target.name)).message()
        spec = body.spec
        if not spec.audiences:
            spec.audiences.append(self._keys.issuer)
        if not spec.HasField("expirationSeconds"):
            spec.expirationSeconds = DEFAULT_SECONDS
        if begins_record(context):
            track_body(body, context)
        causes = []
        path = "spec.expirationSeconds"
        if spec.expirationSeconds < MIN_SECONDS:
            causes.append(
                invalid_value(path, spec.expirationSeconds, "may not specify a duration less than 10 minutes")
            )
        if spec.expirationSeconds > MAX_SECONDS:
            causes.append(
                invalid_value(path, spec.expirationSeconds, "may not specify a duration larger than 2^32 seconds")
            )
        if causes:
            raise invalid("TokenRequest.authentication.k8s.io", "", causes)
        private: dict[str, Any] = {
            "namespace": target.namespace,
            "serviceaccount": {"name": target.name, "uid": account.metadata.uid},
        }
        if spec.HasField("boundObjectRef"):
            await self._bind(spec.boundObjectRef, target, private)
        now = int(time.time())
        expires = now + spec.expirationSeconds
        claims = {
            "aud": list(spec.audiences),
            "exp": expires,
            "iat": now,
            "iss": self._keys.issuer,
            "jti": str(uuid.uuid4()),
            PRIVATE_CLAIM: private,
            "nbf": now,
            "sub": f"system:serviceaccount:{target.namespace}:{target.name}",
        }
        body.status.token = self._keys.sign(claims)
        body.status.expirationTimestamp.CopyFrom(times.from_seconds(expires))
        answer: Message = body
        return answer

    async def _bind(self, wanted: Any, target: Target, private: dict[str, Any]) -> None:
        kinds = {"Pod": "pods", "Secret": "secrets"}
        if wanted.kind not in kinds or wanted.apiVersion not in ("v1", ""):
            version = wanted.apiVersion if "/" in wanted.apiVersion else f"/{wanted.apiVersion}"
            raise bad_request(f"cannot bind token to object of type {version}, Kind={wanted.kind}")
        resource = self._catalog.get("v1", kinds[wanted.kind])
        found = (await self._reader.get(resource, target.namespace, wanted.name)).message()
        if wanted.uID and wanted.uID != found.metadata.uid:
            detail = (
                f"the UID in the bound object reference ({wanted.uID}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise conflict(wanted.kind, wanted.name, detail=detail)
        if wanted.kind == "Pod" and found.spec.serviceAccountName != target.name:
            whose = f'cannot bind token for serviceaccount "{target.name}" to pod'
            raise bad_request(f"{whose} running with different serviceaccount name.")
        private[wanted.kind.lower()] = {"name": wanted.name, "uid": found.metadata.uid}
