"""Which requests a webhook is asked about: rules, scopes, selectors, equivalent versions. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.apiserver.webhooks.client import Endpoint, endpoint_of
from tillerman.api import selectors

ADMISSION_GROUP = "admissionregistration.k8s.io"
# Webhooks that could block their own repair are asked about nothing of these.
EXEMPT = frozenset(
    {
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    }
)
SIDE_EFFECT_FREE = ("None", "NoneOnDryRun")


@dataclass(frozen=True, slots=True)
class Kind:
    """One form of a request: the group, version and resource under which it may be named, and the object's kind."""

    group: str
    version: str
    resource: str
    object_group: str
    object_version: str
    object_kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class Rule:
    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    scope: str

    def matches(self, operation: str, kind: Kind, subresource: str, namespaced: bool) -> bool:
        """``namespaced``: whether the request is about something inside of a namespace."""
        return (
            ("*" in self.operations or operation in self.operations)
            and ("*" in self.groups or kind.group in self.groups)
            and ("*" in self.versions or kind.version in self.versions)
            and (self.scope == "*" or (self.scope == "Namespaced") == namespaced)
            and any(name in ("*", kind.resource) and sub in ("*", subresource) for name, sub in self.resources)
        )


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of one configuration, read once. ``uid`` tells it from all others."""

    uid: str
    name: str
    endpoint: Endpoint
    rules: tuple[Rule, ...]
    equivalent: bool
    ignores_failure: bool
    timeout: float
    side_effects: bool
    versions: tuple[str, ...]
    reinvocable: bool
    namespaces: selectors.LabelSelector
    objects: selectors.LabelSelector
    conditions: tuple[str, ...]

    def kind_for(self, operation: str, forms: Sequence[Kind], subresource: str, namespaced: bool) -> Kind | None:
        """The form in which it wants the request (the first of ``forms`` is how it was made); None: not at all."""
        for form in forms if self.equivalent else forms[:1]:
            if any(rule.matches(operation, form, subresource, namespaced) for rule in self.rules):
                return form
        return None


def hooks_of(configurations: Iterable[Any]) -> list[Hook]:
    """All webhooks in the order in which they are asked: by the configuration's name, then as they stand there."""
    found = []
    for configuration in sorted(configurations, key=lambda c: c.metadata.name):
        for index, webhook in enumerate(configuration.Webhooks):
            found.append(_hook(f"{configuration.metadata.name}/{webhook.name}/{index}", webhook))
    return found


def _hook(uid: str, webhook: Any) -> Hook:
    return Hook(
        uid=uid,
        name=webhook.name,
        endpoint=endpoint_of(webhook.clientConfig),
        rules=tuple(_rule(entry) for entry in webhook.rules),
        equivalent=webhook.matchPolicy != "Exact",
        ignores_failure=webhook.failurePolicy == "Ignore",
        timeout=float(webhook.timeoutSeconds if webhook.HasField("timeoutSeconds") else 10),
        side_effects=webhook.sideEffects not in SIDE_EFFECT_FREE,
        versions=tuple(webhook.admissionReviewVersions),
        reinvocable=getattr(webhook, "reinvocationPolicy", "") == "IfNeeded",
        namespaces=selectors.from_message(webhook.namespaceSelector),
        objects=selectors.from_message(webhook.objectSelector),
        conditions=tuple(condition.expression for condition in webhook.matchConditions),
    )


def _rule(entry: Any) -> Rule:
    rule = entry.rule
    resources = []
    for text in rule.resources:
        name, _, sub = text.partition("/")
        resources.append((name, sub))
    return Rule(
        operations=frozenset(entry.operations),
        groups=frozenset(rule.apiGroups),
        versions=frozenset(rule.apiVersions),
        resources=tuple(resources),
        scope=rule.scope or "*",
    )


def is_exempt(group: str, resource: str) -> bool:
    return group == ADMISSION_GROUP and resource in EXEMPT


def objects_match(selector: selectors.LabelSelector, labels: Iterable[Mapping[str, str] | None]) -> bool:
    """Whether the new or the old object has fitting labels; None stands for an object that there is not."""
    return selector.empty or any(found is not None and selector.matches(dict(found)) for found in labels)
