"""PodSecurity: the levels that a namespace's labels ask of its pods, enforced, warned about or left in the log."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, BasePlugin, refused
from services.apiserver.admission.parsed import KEPT
from services.apiserver.admission.pod_security_checks import LEVELS, told, violations
from services.apiserver.cache.entry import Entry
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.resource import Resource
from tillerman.api.status import Cause, invalid, invalid_value

PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
PODS, NAMESPACES = ("", "pods"), ("", "namespaces")
# How many pods a new level of a namespace is tried on, and how many of them are named.
TRIED, NAMED = 3000, 10

log = structlog.get_logger("apiserver.admission.podsecurity")


def _template(obj: Any) -> Any:
    return obj.spec.template


# Where kinds that make pods keep their template.
TEMPLATES: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("", "podtemplates"): lambda obj: obj.template,
    ("", "replicationcontrollers"): _template,
    ("apps", "replicasets"): _template,
    ("apps", "deployments"): _template,
    ("apps", "statefulsets"): _template,
    ("apps", "daemonsets"): _template,
    ("batch", "jobs"): _template,
    ("batch", "cronjobs"): lambda obj: obj.spec.jobTemplate.spec.template,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """(level, version) by mode."""

    enforce: tuple[str, str]
    audit: tuple[str, str]
    warn: tuple[str, str]


def policy_of(labels: Mapping[str, str]) -> tuple[Policy, list[Cause]]:
    """A label that makes no sense counts as the strictest for enforcement, and as nothing for the others."""
    causes: list[Cause] = []
    found = {}
    for mode in MODES:
        level, version = labels.get(PREFIX + mode, "privileged"), labels.get(f"{PREFIX}{mode}-version", "latest")
        if level not in LEVELS:
            path = f"metadata.labels[{PREFIX}{mode}]"
            causes.append(invalid_value(path, level, f"must be one of {', '.join(LEVELS)}"))
            level = "restricted" if mode == "enforce" else "privileged"
        if version != "latest" and not re.fullmatch(r"v1\.(0|[1-9][0-9]*)", version):
            path = f"metadata.labels[{PREFIX}{mode}-version]"
            causes.append(invalid_value(path, version, 'must be "latest" or "v1.x"'))
            version = "latest"
        found[mode] = (level, version)
    return Policy(**found), causes


class PodSecurity(BasePlugin):
    reads = frozenset({("v1", "namespaces")})

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        # By namespace; worked out again when its entry is another.
        self._policies: dict[str, tuple[Entry, Policy | None]] = {}

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        kind = (resource.group, resource.name)
        if operation not in (CREATE, UPDATE):
            return False
        if kind == PODS:
            return subresource in ("", "ephemeralcontainers")
        return subresource == "" and (kind == NAMESPACES or kind in TEMPLATES)

    async def validate(self, attributes: Attributes) -> None:
        """Raises Forbidden for a pod below the enforced level, Invalid for labels that make no sense."""
        kind = (attributes.resource.group, attributes.resource.name)
        if kind == NAMESPACES:
            self._namespace(attributes)
            return
        policy = self._policy(attributes.namespace)
        if policy is None:
            return
        if kind != PODS:
            template = TEMPLATES[kind](attributes.obj)
            self._judge(attributes, policy, template.metadata, template.spec, enforce=False)
        elif attributes.operation == CREATE or _significant(attributes.obj.spec, attributes.old.spec):
            self._judge(attributes, policy, attributes.obj.metadata, attributes.obj.spec, enforce=True)

    def _policy(self, namespace: str) -> Policy | None:
        """None where the namespace asks for nothing."""
        namespaces = self._catalog.get("v1", "namespaces")
        entry = namespaces.cache.entries.get(namespaces.key("", namespace))
        if entry is None:
            return None
        known = self._policies.get(namespace)
        if known is not None and known[0] is entry:
            return known[1]
        labels = entry.labels
        policy = policy_of(labels)[0] if any(label.startswith(PREFIX) for label in labels) else None
        if len(self._policies) >= KEPT:
            self._policies.clear()
        self._policies[namespace] = (entry, policy)
        return policy

    def _judge(self, attributes: Attributes, policy: Policy, metadata: Any, spec: Any, *, enforce: bool) -> None:
        level, version = policy.enforce
        if enforce and (found := violations(level, metadata, spec)):
            raise refused(attributes, f'violates PodSecurity "{level}:{version}": {told(found)}')
        level, version = policy.audit
        if found := violations(level, metadata, spec):
            attributes.repeatable = False
            log.info(
                "a pod would violate the audited level",
                namespace=attributes.namespace,
                name=attributes.shown_name,
                policy=f"{level}:{version}",
                violations=told(found),
            )
        # Who was refused already knows; who warns on the enforced level hears it once.
        level, version = policy.warn
        if found := violations(level, metadata, spec):
            attributes.context.warnings.append(f'would violate PodSecurity "{level}:{version}": {told(found)}')

    # -- namespaces ------------------------------------------------------------------------------------------------

    def _namespace(self, attributes: Attributes) -> None:
        policy, causes = policy_of(attributes.obj.metadata.labels)
        if attributes.operation == CREATE:
            if causes:
                raise invalid("Namespace", attributes.obj.metadata.name, causes)
            return
        before, old_causes = policy_of(attributes.old.metadata.labels)
        if causes:
            # What was wrong before is not this write's fault.
            if not old_causes:
                raise invalid("Namespace", attributes.name, causes)
            return
        if policy.enforce != before.enforce and LEVELS.index(policy.enforce[0]) > LEVELS.index(before.enforce[0]):
            self._warn_of_pods(attributes, *policy.enforce)

    def _warn_of_pods(self, attributes: Attributes, level: str, version: str) -> None:
        pods = self._catalog.get("v1", "pods")
        wrong: dict[str, list[str]] = {}
        for entry in pods.cache.select(pods.range_prefix(attributes.name))[:TRIED]:
            pod = entry.message()
            if found := violations(level, pod.metadata, pod.spec):
                wrong.setdefault(", ".join(reason for reason, _ in found), []).append(pod.metadata.name)
        if not wrong:
            return
        warnings = attributes.context.warnings
        policy = f'"{level}:{version}"'
        warnings.append(
            f'existing pods in namespace "{attributes.name}" violate the new PodSecurity enforce level {policy}'
        )
        for reasons, names in list(wrong.items())[:NAMED]:
            others = f" (and {len(names) - 1} other pod{'s' if len(names) > 2 else ''})" if len(names) > 1 else ""
            warnings.append(f"{names[0]}{others}: {reasons}")


def _significant(new: Any, old: Any) -> bool:
    """Whether an update could make a difference: images, and what is no security matter, do not."""
    if len(new.ephemeralContainers) != len(old.ephemeralContainers):
        return True
    return any(
        new_container.securityContext != old_container.securityContext
        for new_container, old_container in zip(
            [*new.initContainers, *new.containers], [*old.initContainers, *old.containers], strict=False
        )
    )
