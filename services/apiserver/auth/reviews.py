"""Reviews: resources without storage that answer who somebody is and what they may do."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from services.apiserver.auth.authorize import AuthorizerChain
from services.apiserver.auth.tokens import BearerTokens
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Target, Virtual
from services.apiserver.registry.subresources import Binding
from tillerman.api.status import Cause, bad_request, invalid, invalid_value
from tillerman.pb.k8s import meta_v1_pb2

AUTHENTICATION, AUTHORIZATION = "authentication.k8s.io/v1", "authorization.k8s.io/v1"


def reviews(
    *, catalog: Catalog, binding: Binding, authorizer: AuthorizerChain, tokens: BearerTokens
) -> dict[tuple[str, str], Virtual]:
    """By (api version, resource)."""
    access = AccessReview(authorizer)
    return {
        ("v1", "bindings"): Bindings(catalog, binding),
        (AUTHENTICATION, "tokenreviews"): TokenReview(tokens),
        (AUTHENTICATION, "selfsubjectreviews"): SelfReview(),
        (AUTHORIZATION, "subjectaccessreviews"): access,
        (AUTHORIZATION, "localsubjectaccessreviews"): access,
        (AUTHORIZATION, "selfsubjectaccessreviews"): SelfAccessReview(authorizer),
        (AUTHORIZATION, "selfsubjectrulesreviews"): SelfRulesReview(authorizer),
    }


class Bindings:
    """POST bindings: the same as pods/binding of the pod that the binding names."""

    def __init__(self, catalog: Catalog, binding: Binding) -> None:
        self._catalog = catalog
        self._binding = binding

    async def create(self, target: Target, body: Any, context: Context) -> Message:
        pod = Target("v1", "pods", target.namespace, body.metadata.name, "binding")
        return await self._binding.create(self._catalog.get("v1", "pods"), pod, body, context)


class TokenReview:
    def __init__(self, tokens: BearerTokens) -> None:
        self._tokens = tokens

    async def create(self, target: Target, body: Any, context: Context) -> Message:
        if not body.spec.token:
            raise bad_request("token is required for TokenReview in authentication")
        body.ClearField("status")
        verdict = await self._tokens.review(body.spec.token, list(body.spec.audiences))
        body.status.user.SetInParent()
        if verdict.user is None:
            body.status.error = verdict.error
        else:
            body.status.authenticated = True
            _fill(body.status.user, verdict.user)
            body.status.audiences.extend(verdict.audiences)
        answer: Message = body
        return answer


class SelfReview:
    async def create(self, target: Target, body: Any, context: Context) -> Message:
        _fill(body.status.userInfo, context.user)
        answer: Message = body
        return answer


class AccessReview:
    def __init__(self, authorizer: AuthorizerChain) -> None:
        self._authorizer = authorizer

    async def create(self, target: Target, body: Any, context: Context) -> Message:
        spec = body.spec
        _check(body, target)
        extra = tuple((name, tuple(values.items)) for name, values in spec.extra.items())
        groups = tuple(spec.groups)
        _answer(body, User(spec.user, groups, spec.uid, extra), self._authorizer)
        answer: Message = body
        return answer


class SelfAccessReview:
    def __init__(self, authorizer: AuthorizerChain) -> None:
        self._authorizer = authorizer

    async def create(self, target: Target, body: Any, context: Context) -> Message:
        _check(body, target, needs_user=False)
        _answer(body, context.user, self._authorizer)
        answer: Message = body
        return answer


class SelfRulesReview:
    """What the caller may do in a namespace."""

    def __init__(self, authorizer: AuthorizerChain) -> None:
        self._authorizer = authorizer

    async def create(self, target: Target, body: Any, context: Context) -> Message:
        if not body.spec.namespace:
            raise bad_request("no namespace on request")
        granted = self._authorizer.granted(context.user, body.spec.namespace)
        body.ClearField("status")
        status = body.status
        status.incomplete = bool(granted.unknown)
        if granted.unknown:
            status.evaluationError = ", ".join(granted.unknown)
        for rule in granted.rules:
            if rule.resources:
                parts = {"apiGroups": rule.apiGroups, "resources": rule.resources, "resourceNames": rule.resourceNames}
                status.resourceRules.add(verbs=rule.verbs, **parts)
            if rule.nonResourceURLs:
                status.nonResourceRules.add(verbs=rule.verbs, nonResourceURLs=rule.nonResourceURLs)
        answer: Message = body
        return answer


LOCAL = "localsubjectaccessreviews"


def _check(body: Any, target: Target, *, needs_user: bool = True) -> None:
    """Raises Invalid, BadRequest. A local review that names no namespace is about the request's."""
    local = target.resource == LOCAL
    if local and not body.metadata.namespace:
        body.metadata.namespace = target.namespace
    if causes := review_faults(body, local=local, needs_user=needs_user):
        # Kubernetes names no kind here.
        raise invalid(".authorization.k8s.io", "", causes)
    if local and body.metadata.namespace != target.namespace:
        raise bad_request(f"spec.resourceAttributes.namespace must match namespace: {target.namespace}")


def review_faults(body: Any, *, local: bool, needs_user: bool) -> list[Cause]:
    spec = body.spec
    causes = []
    about_resource, about_path = spec.HasField("resourceAttributes"), spec.HasField("nonResourceAttributes")
    if about_resource and about_path:
        detail = "cannot be specified in combination with resourceAttributes"
        causes.append(invalid_value("spec.nonResourceAttributes", "nonResourceAttributes", detail))
    if not about_resource and not about_path:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        causes.append(invalid_value("spec.resourceAttributes", None, detail))
    if needs_user and not spec.user and not spec.groups:
        causes.append(invalid_value("spec.user", "", "at least one of user or group must be specified"))
    allowed = {"managedFields", "namespace"} if local else {"managedFields"}
    # Go's clients send every field, also the empty ones.
    given = {field.name for field, value in body.metadata.ListFields() if value and value != meta_v1_pb2.Time()}
    if given - allowed:
        detail = "must be empty except for namespace" if local else "must be empty"
        causes.append(invalid_value("metadata", body.metadata.name, detail))
    if local and about_resource and spec.resourceAttributes.namespace != body.metadata.namespace:
        detail = "must match metadata.namespace"
        causes.append(invalid_value("spec.resourceAttributes.namespace", spec.resourceAttributes.namespace, detail))
    if local and about_path:
        detail = "disallowed on this kind of request"
        causes.append(invalid_value("spec.nonResourceAttributes", "nonResourceAttributes", detail))
    return causes


def _answer(body: Any, user: User, authorizer: AuthorizerChain) -> None:
    spec = body.spec
    body.ClearField("status")
    if spec.HasField("resourceAttributes"):
        wanted = spec.resourceAttributes
        api_version = f"{wanted.group}/{wanted.version or '*'}" if wanted.group else wanted.version or "v1"
        target = Target(api_version, wanted.resource, wanted.namespace, wanted.name, wanted.subresource)
        body.status.allowed = authorizer.allows(user, wanted.verb, target)
    else:
        wanted = spec.nonResourceAttributes
        body.status.allowed = authorizer.allows_path(user, wanted.verb, wanted.path)


def _fill(info: Any, user: User) -> None:
    info.username = user.name
    info.groups.extend(user.groups)
    if user.uid:
        info.uid = user.uid
    for name, values in user.extra:
        info.extra[name].items.extend(values)
