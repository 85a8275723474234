"""The plugins MutatingAdmissionWebhook and ValidatingAdmissionWebhook.

Configurations are read from the cache and parsed once per change. Which webhooks a kind of request concerns is kept
until then, so a request that concerns none costs a look into a dict. Mutating webhooks are asked one after another, in
the order of their configurations' names; validating ones all at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.apiserver.admission.chain import DELETE, Attributes, BasePlugin, refused
from services.apiserver.patch import json_patch
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.reading import Reader
from services.apiserver.registry.resource import Resource
from services.apiserver.webhooks import conditions, metrics
from services.apiserver.webhooks.client import WebhookClient, WebhookError
from services.apiserver.webhooks.metrics import WebhookMetrics
from services.apiserver.webhooks.review import (
    Verdict,
    dry_run,
    failed,
    forms_of,
    from_form,
    is_namespace,
    namespace_of,
    no_dry_run,
    request_of,
    to_form,
    verdict_of,
)
from services.apiserver.webhooks.rules import ADMISSION_GROUP, Hook, Kind, hooks_of, is_exempt, objects_match
from tillerman.api.status import StatusError, internal, not_found

log = structlog.get_logger("apiserver.webhooks")


class Hooks:
    """The webhooks of one kind of configuration, kept up to date with the cache."""

    def __init__(self, catalog: Catalog, resource: str) -> None:
        self._catalog = catalog
        self._name = resource
        self._resource: Resource | None = None
        self._changed = -1
        self._hooks: list[Hook] = []
        self._known: dict[Any, list[tuple[Hook, Kind]]] = {}

    def concerned(self, attributes: Attributes) -> list[tuple[Hook, Kind]]:
        """The webhooks whose rules fit, each with the form of the request that it wants."""
        if self._resource is None:
            self._resource = self._catalog.get(f"{ADMISSION_GROUP}/v1", self._name)
        cache = self._resource.cache
        if cache.changed != self._changed:
            self._changed = cache.changed
            self._hooks = hooks_of([entry.message() for entry in cache.entries.values()])
            self._known.clear()
        if not self._hooks:
            return []
        resource = attributes.resource
        namespaced = resource.namespaced and bool(attributes.namespace)
        asked = attributes.context.asked
        key = (resource, attributes.operation, attributes.subresource, namespaced, asked)
        found = self._known.get(key)
        if found is None:
            forms = forms_of(attributes)
            fits = (
                (hook, hook.kind_for(attributes.operation, forms, attributes.subresource, namespaced))
                for hook in self._hooks
            )
            found = self._known[key] = [(hook, form) for hook, form in fits if form is not None]
        return found


@dataclass(slots=True)
class Reinvocation:
    """What the second round of one request needs: who asked to be asked again, and whom a later change concerns."""

    asked: set[str] = field(default_factory=set)
    due: set[str] = field(default_factory=set)
    second_round: bool = False
    # What the webhooks left, to see whether a plugin changed it since.
    left: Any = None


class Caller:
    """Asks one webhook about one request, and tells what comes of it to the metrics and, on failure, to the policy."""

    def __init__(self, *, catalog: Catalog, reader: Reader, client: WebhookClient, counters: WebhookMetrics) -> None:
        self._catalog = catalog
        self._reader = reader
        self._client = client
        self._counters = counters

    async def selected(self, hook: Hook, attributes: Attributes) -> bool:
        """By the labels of the namespace and of the object. Raises NotFound for a namespace that does not exist."""
        if not hook.namespaces.empty:
            labels = await self._namespace_labels(attributes)
            if labels is not None and not hook.namespaces.matches(dict(labels)):
                return False
        return objects_match(hook.objects, (_labels(attributes.obj), _labels(attributes.old)))

    async def _namespace_labels(self, attributes: Attributes) -> Mapping[str, str] | None:
        """None for what lies in no namespace: such requests are never exempted."""
        name = namespace_of(attributes)
        if is_namespace(attributes) and attributes.operation != DELETE and attributes.obj is not None:
            return _labels(attributes.obj) or {}
        if not name:
            return None
        namespaces = self._catalog.get("v1", "namespaces")
        key = namespaces.key("", name)
        entry = namespaces.cache.entries.get(key) or await self._reader.fresh(namespaces, key)
        if entry is None:
            raise not_found("namespaces", name)
        return entry.labels

    def wanted(self, hook: Hook, attributes: Attributes, request: dict[str, Any]) -> bool:
        """Whether the webhook's conditions hold. Raises Forbidden where that cannot be said and its policy is Fail."""
        if not hook.conditions:
            return True
        try:
            return conditions.hold(hook.conditions, request)
        except conditions.ConditionError as error:
            if hook.ignores_failure:
                return False
            raise refused(attributes, str(error)) from error

    async def ask(
        self, hook: Hook, attributes: Attributes, review: dict[str, Any], *, mutating: bool
    ) -> Verdict | None:
        """None where a failure is ignored. Raises StatusError for a refusal, and for a failure that is not ignored."""
        if hook.side_effects and dry_run(attributes):
            raise no_dry_run(hook)
        kind = metrics.ADMIT if mutating else metrics.VALIDATING
        began = time.perf_counter()
        try:
            verdict = await self._answer(hook, review, mutating=mutating)
        except WebhookError as error:
            return self._failed(hook, attributes, kind, time.perf_counter() - began, error)
        except StatusError as error:
            seconds = time.perf_counter() - began
            self._counters.called(hook.name, kind, attributes.operation, seconds, error.code)
            self._counters.rejected(hook.name, kind, attributes.operation, metrics.INTERNAL_ERROR, error.code)
            raise
        attributes.context.warnings.extend(verdict.warnings)
        code = verdict.status.code if verdict.status is not None else 200
        self._counters.called(hook.name, kind, attributes.operation, time.perf_counter() - began, code)
        if verdict.status is not None:
            self._counters.rejected(hook.name, kind, attributes.operation, metrics.NO_ERROR, code)
            raise StatusError(verdict.status)
        return verdict

    async def _answer(self, hook: Hook, review: dict[str, Any], *, mutating: bool) -> Verdict:
        if "v1" not in hook.versions:
            raise WebhookError("webhook does not accept v1 AdmissionReviewRequest")
        try:
            answer = await self._client.call(hook.endpoint, review, timeout=hook.timeout)
        except WebhookError as error:
            raise WebhookError(f"failed to call webhook: {error}") from error
        return verdict_of(hook, answer, review["request"]["uid"], mutating=mutating)

    def _failed(
        self, hook: Hook, attributes: Attributes, kind: str, seconds: float, error: WebhookError
    ) -> Verdict | None:
        failure = failed(hook, error)
        if hook.ignores_failure:
            log.warning("a webhook failed, which its policy ignores", webhook=hook.name, error=str(error))
            self._counters.called(hook.name, kind, attributes.operation, seconds, 200)
            self._counters.ignored(hook.name, kind)
            return None
        self._counters.called(hook.name, kind, attributes.operation, seconds, failure.code)
        self._counters.rejected(hook.name, kind, attributes.operation, metrics.CALLING_ERROR, failure.code)
        raise failure


class _Webhooks(BasePlugin):
    resource: str

    def __init__(self, catalog: Catalog, caller: Caller) -> None:
        self._hooks = Hooks(catalog, self.resource)
        self._caller = caller

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        return not is_exempt(resource.group, resource.name)


class MutatingWebhooks(_Webhooks):
    resource = "mutatingwebhookconfigurations"
    reads = frozenset({(f"{ADMISSION_GROUP}/v1", resource)})

    async def admit(self, attributes: Attributes) -> None:
        concerned = self._hooks.concerned(attributes)
        if not concerned:
            return
        attributes.repeatable = False
        state = attributes.reinvocation
        if state is None:
            state = attributes.reinvocation = Reinvocation()
        else:
            state.second_round = True
            if attributes.obj != state.left:
                # A plugin built on what the webhooks made: all that asked for it look again.
                state.due |= state.asked
        for hook, form in concerned:
            if state.second_round and hook.uid not in state.due:
                continue
            if not await self._caller.selected(hook, attributes):
                continue
            changed = await self._ask(hook, form, attributes)
            if changed and not state.second_round:
                attributes.reinvoke = True
                state.due |= state.asked
            if hook.reinvocable and not state.second_round:
                state.asked.add(hook.uid)
        if not state.second_round and attributes.obj is not None:
            state.left = attributes.resource.copy(attributes.obj)

    async def _ask(self, hook: Hook, form: Kind, attributes: Attributes) -> bool:
        """Whether the webhook changed the object."""
        current = await to_form(attributes, attributes.obj, form)
        review = await request_of(attributes, form, forms_of(attributes)[0], current)
        if not self._caller.wanted(hook, attributes, review["request"]):
            return False
        verdict = await self._caller.ask(hook, attributes, review, mutating=True)
        if verdict is None or not verdict.patch:
            return False
        if current is None:
            raise internal(
                f'admission webhook "{hook.name}" attempted to modify the object, '
                "which is not supported for this operation"
            )
        try:
            patched = json_patch.apply(current, verdict.patch)
        except StatusError as error:
            raise internal(error.message) from error
        new = await from_form(attributes, patched, form)
        if new == attributes.obj:
            return False
        attributes.obj = new
        return True


class ValidatingWebhooks(_Webhooks):
    resource = "validatingwebhookconfigurations"
    reads = frozenset({(f"{ADMISSION_GROUP}/v1", resource)})

    async def validate(self, attributes: Attributes) -> None:
        concerned = self._hooks.concerned(attributes)
        if not concerned:
            return
        attributes.repeatable = False
        chosen = [(hook, form) for hook, form in concerned if await self._caller.selected(hook, attributes)]
        if not chosen:
            return
        asked = forms_of(attributes)[0]
        shown: dict[Kind, dict[str, Any] | None] = {}
        reviews = []
        for hook, form in chosen:
            if form not in shown:
                shown[form] = await to_form(attributes, attributes.obj, form)
            review = await request_of(attributes, form, asked, shown[form])
            if self._caller.wanted(hook, attributes, review["request"]):
                reviews.append((hook, review))
        answers = await asyncio.gather(
            *(self._caller.ask(hook, attributes, review, mutating=False) for hook, review in reviews),
            return_exceptions=True,
        )
        # All have answered: nothing goes on in the background. The first refusal in order is the one told.
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer


def _labels(obj: Any) -> Mapping[str, str] | None:
    """None for what has no metadata."""
    meta = getattr(obj, "metadata", None)
    return None if meta is None else dict(meta.labels)
