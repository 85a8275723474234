"""AdmissionReview: what a webhook is sent, and what counts as an answer. No I/O."""

from __future__ import annotations

import base64
import binascii
import uuid
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.apiserver.admission.chain import CONNECT, CREATE, DELETE, UPDATE, Attributes
from services.apiserver.registry.versions import VIEWS
from services.apiserver.webhooks.client import WebhookError
from services.apiserver.webhooks.rules import Hook, Kind
from tillerman.api import codec
from tillerman.api.scheme import SCHEME
from tillerman.api.status import StatusError, bad_request, internal
from tillerman.pb.k8s import meta_v1_pb2

API_VERSION = "admission.k8s.io/v1"
_OPTIONS = {CREATE: "CreateOptions", UPDATE: "UpdateOptions", DELETE: "DeleteOptions"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``status``: of a refusal, None where the webhook allows. ``patch``: JSON patch operations."""

    status: meta_v1_pb2.Status | None
    patch: list[Any] | None = None
    warnings: list[str] = field(default_factory=list)


def dry_run(attributes: Attributes) -> bool:
    options = attributes.options
    return attributes.context.dry_run or (options is not None and bool(options.dryRun))


def forms_of(attributes: Attributes) -> list[Kind]:
    """The request as it was made, then the other versions in which the same resource is served."""
    resource = attributes.resource
    stored = (resource.info.api_version, resource.name)
    asked = attributes.context.asked or stored
    named = [asked, *([stored] if stored != asked else [])]
    named += [served for served, view in VIEWS.items() if view.stored == stored and served not in named]
    named += [(api_version, resource.name) for api_version in resource.other_versions()]
    forms = []
    for api_version, name in named:
        group, _, version = api_version.rpartition("/")
        object_version, kind = attributes.kind or (api_version, resource.info.kind)
        object_group, _, object_version = object_version.rpartition("/")
        forms.append(Kind(group, version, name, object_group, object_version, kind))
    return forms


async def to_form(attributes: Attributes, obj: Any, form: Kind) -> dict[str, Any] | None:
    """The JSON of an object as the form has it."""
    if obj is None:
        return None
    if attributes.kind is not None:
        return codec.to_dict(obj, kind=attributes.kind)
    view = VIEWS.get((form.api_version, form.resource))
    if view is not None:
        return codec.to_dict(view.from_storage(obj), kind=(form.api_version, form.object_kind))
    if form.api_version != attributes.resource.info.api_version:
        return await attributes.resource.to_version(obj, form.api_version)
    return attributes.resource.to_dict(obj)


async def from_form(attributes: Attributes, content: dict[str, Any], form: Kind) -> Any:
    """The object of a JSON form, with what is left out filled in. Raises InternalError."""
    try:
        if attributes.kind is not None:
            return codec.from_dict(content, SCHEME.message_type(*attributes.kind))
        view = VIEWS.get((form.api_version, form.resource))
        if view is not None:
            obj = view.to_storage(codec.from_dict(content, view.info.message))
        elif form.api_version != attributes.resource.info.api_version:
            obj = await attributes.resource.from_version(content)
        else:
            obj = attributes.resource.from_dict(content)
    except codec.DecodeError as error:
        raise internal(str(error)) from error
    attributes.resource.default(obj)
    return obj


async def request_of(attributes: Attributes, form: Kind, asked: Kind, obj: dict[str, Any] | None) -> dict[str, Any]:
    """The AdmissionReview that is sent. ``obj``: the new object's JSON in this form."""
    user = attributes.context.user
    user_info: dict[str, Any] = {"username": user.name}
    if user.uid:
        user_info["uid"] = user.uid
    user_info["groups"] = list(user.groups)
    if user.extra:
        user_info["extra"] = {name: list(values) for name, values in user.extra}
    request: dict[str, Any] = {"uid": str(uuid.uuid4()), "kind": _kind(form), "resource": _resource(form)}
    if attributes.subresource:
        request["subResource"] = attributes.subresource
    request |= {"requestKind": _kind(asked), "requestResource": _resource(asked)}
    if attributes.subresource:
        request["requestSubResource"] = attributes.subresource
    if name := attributes.name:
        request["name"] = name
    if namespace := namespace_of(attributes):
        request["namespace"] = namespace
    request |= {
        "operation": attributes.operation,
        "userInfo": user_info,
        "object": obj,
        "oldObject": await to_form(attributes, attributes.old, form),
        "dryRun": dry_run(attributes),
        "options": _options(attributes),
    }
    return {"kind": "AdmissionReview", "apiVersion": API_VERSION, "request": request}


def namespace_of(attributes: Attributes) -> str:
    """A Namespace counts as lying in itself."""
    if is_namespace(attributes):
        return attributes.name
    return attributes.namespace if attributes.resource.namespaced else ""


def is_namespace(attributes: Attributes) -> bool:
    return (attributes.resource.group, attributes.resource.name) == ("", "namespaces")


def _kind(form: Kind) -> dict[str, str]:
    return {"group": form.object_group, "version": form.object_version, "kind": form.object_kind}


def _resource(form: Kind) -> dict[str, str]:
    return {"group": form.group, "version": form.version, "resource": form.resource}


def _options(attributes: Attributes) -> dict[str, Any] | None:
    if attributes.operation == CONNECT:
        return None
    options: dict[str, Any] = {"kind": _OPTIONS[attributes.operation], "apiVersion": "meta.k8s.io/v1"}
    if attributes.options is not None:
        return options | codec.to_dict(attributes.options, kind=("meta.k8s.io/v1", "DeleteOptions"))
    context = attributes.context
    if context.dry_run:
        options["dryRun"] = ["All"]
    if context.field_manager:
        options["fieldManager"] = context.field_manager
    if context.field_validation:
        options["fieldValidation"] = context.field_validation
    return options


def verdict_of(hook: Hook, answer: dict[str, Any], uid: str, *, mutating: bool) -> Verdict:
    """Raises WebhookError for an answer that is none."""
    try:
        return _verdict(hook, answer, uid, mutating=mutating)
    except WebhookError as error:
        raise WebhookError(f"received invalid webhook response: {error}") from error


def _verdict(hook: Hook, answer: dict[str, Any], uid: str, *, mutating: bool) -> Verdict:
    given = f"{answer.get('apiVersion') or ''}, Kind={answer.get('kind') or ''}"
    expected = f"{API_VERSION}, Kind=AdmissionReview"
    response = answer.get("response")
    if not isinstance(response, dict):
        raise WebhookError("webhook response was absent")
    if response.get("uid") != uid:
        raise WebhookError(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    if given != expected:
        raise WebhookError(f"expected webhook response of {expected}, got {given}")
    patch, patch_type = response.get("patch") or "", response.get("patchType")
    if mutating:
        if patch and patch_type is None:
            raise WebhookError("webhook returned response.patch but not response.patchType")
        if not patch and patch_type is not None:
            raise WebhookError("webhook returned response.patchType but not response.patch")
        if patch_type == "":
            raise WebhookError('webhook returned invalid response.patchType of ""')
    elif patch:
        raise WebhookError("validating webhook may not return response.patch")
    elif patch_type is not None:
        raise WebhookError("validating webhook may not return response.patchType")
    warnings = [str(text) for text in response.get("warnings") or ()]
    if response.get("allowed") is not True:
        return Verdict(refusal(hook.name, response.get("status")), None, warnings)
    return Verdict(None, _operations(patch, patch_type) if patch else None, warnings)


def _operations(patch: Any, patch_type: Any) -> list[Any]:
    """Raises WebhookError for a type of patch that there is not, InternalError for a patch that is none."""
    if patch_type != "JSONPatch":
        raise WebhookError(f'unsupported patch type "{patch_type}"')
    try:
        operations = orjson.loads(base64.b64decode(patch, validate=True))
    except (ValueError, TypeError, binascii.Error) as error:
        raise internal(f"the webhook's patch is no JSON patch: {error}") from error
    if not isinstance(operations, list):
        raise internal("the webhook's patch is no JSON patch: it is not a list of operations")
    return operations


def refusal(hook: str, status: Any) -> meta_v1_pb2.Status:
    """The Status of a request that a webhook denies, from what the webhook said."""
    found = meta_v1_pb2.Status()
    if isinstance(status, dict):
        try:
            found = codec.from_dict(status, meta_v1_pb2.Status)  # type: ignore[assignment]
        except codec.DecodeError as error:
            raise WebhookError(str(error)) from error
    if found.code < 400:
        found.code = 400
    if found.status in ("", "Success"):
        found.status = "Failure"
    denied = f'admission webhook "{hook}" denied the request'
    why = found.message or found.reason
    found.message = f"{denied}: {why}" if why else f"{denied} without explanation"
    return found


def failed(hook: Hook, error: WebhookError | str) -> StatusError:
    return internal(f'failed calling webhook "{hook.name}": {error}')


def no_dry_run(hook: Hook) -> StatusError:
    return bad_request(f'admission webhook "{hook.name}" does not support dry run')
