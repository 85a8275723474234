"""admissionregistration.k8s.io: webhook configurations."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    invalid,
    invalid_all,
    not_supported,
    qualified_name,
    required,
    too_many,
)
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns1035_label, dns_subdomain
from services.apiserver.strategy.selectors import label_selector
from services.apiserver.webhooks import conditions as conditions_of_webhooks
from tillerman.pb.k8s import admissionregistration_v1_pb2 as admissionregistration

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
MAX_CONDITIONS = 64
_SCOPES = ("*", "Cluster", "Namespaced")


def _validate(configuration: Any) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, webhook in enumerate(configuration.Webhooks):
        path = f"webhooks[{index}]"
        causes += _webhook(path, webhook)
        if webhook.name in names:
            causes.append(duplicate(f"{path}.name", webhook.name))
        names.add(webhook.name)
    return causes


def _webhook(path: str, webhook: Any) -> list[Cause]:
    causes = three_segments(f"{path}.name", webhook.name)
    for index, rule in enumerate(webhook.rules):
        causes += _rule(f"{path}.rules[{index}]", rule)
    for field, allowed in (("failurePolicy", ("Fail", "Ignore")), ("matchPolicy", ("Equivalent", "Exact"))):
        if webhook.HasField(field) and getattr(webhook, field) not in allowed:
            causes.append(not_supported(f"{path}.{field}", getattr(webhook, field), allowed))
    if not webhook.HasField("sideEffects"):
        causes.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    elif webhook.sideEffects not in ("None", "NoneOnDryRun"):
        causes.append(not_supported(f"{path}.sideEffects", webhook.sideEffects, ["None", "NoneOnDryRun"]))
    if webhook.HasField("timeoutSeconds") and not 1 <= webhook.timeoutSeconds <= 30:
        detail = "the timeout value must be between 1 and 30 seconds"
        causes.append(invalid(f"{path}.timeoutSeconds", webhook.timeoutSeconds, detail))
    for field in ("namespaceSelector", "objectSelector"):
        if webhook.HasField(field):
            causes += label_selector(f"{path}.{field}", getattr(webhook, field))
    causes += _conditions(f"{path}.matchConditions", webhook.matchConditions)
    causes += client_config(f"{path}.clientConfig", webhook.clientConfig)
    causes += _review_versions(f"{path}.admissionReviewVersions", webhook.admissionReviewVersions)
    if "reinvocationPolicy" in webhook.DESCRIPTOR.fields_by_name and webhook.HasField("reinvocationPolicy"):
        policy = webhook.reinvocationPolicy
        if policy not in ("Never", "IfNeeded"):
            causes.append(not_supported(f"{path}.reinvocationPolicy", policy, ["IfNeeded", "Never"]))
    return causes


def _conditions(path: str, conditions: Any) -> list[Cause]:
    if len(conditions) > MAX_CONDITIONS:
        return [too_many(path, len(conditions), MAX_CONDITIONS)]
    causes: list[Cause] = []
    names: set[str] = set()
    for index, condition in enumerate(conditions):
        where, expression = f"{path}[{index}]", condition.expression
        if not expression.strip():
            causes.append(required(f"{where}.expression"))
        elif (problem := conditions_of_webhooks.fault(expression)) is not None:
            causes.append(invalid(f"{where}.expression", expression, problem))
        if not condition.name:
            causes.append(required(f"{where}.name"))
            continue
        causes += invalid_all(f"{where}.name", condition.name, qualified_name(condition.name))
        if condition.name in names:
            causes.append(duplicate(f"{where}.name", condition.name))
        names.add(condition.name)
    return causes


def three_segments(path: str, name: str) -> list[Cause]:
    """A fully qualified name, as webhooks' are."""
    if not name:
        return [required(path)]
    problems = dns_subdomain(name)
    if problems:
        return invalid_all(path, name, problems)
    if len(name.split(".")) < 3:
        return [invalid(path, name, "should be a domain with at least three segments separated by dots")]
    return []


def _review_versions(path: str, versions: Any) -> list[Cause]:
    if not versions:
        return [required(path, "must specify one of v1, v1beta1")]
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, version in enumerate(versions):
        if version in seen:
            causes.append(invalid(f"{path}[{index}]", version, "duplicate version"))
        seen.add(version)
        causes += invalid_all(f"{path}[{index}]", version, dns1035_label(version))
    if not causes and not seen & {"v1", "v1beta1"}:
        causes.append(invalid(path, list(versions), "must include at least one of v1, v1beta1"))
    return causes


def _rule(path: str, entry: Any) -> list[Cause]:
    causes: list[Cause] = []
    rule = entry.rule
    if not entry.operations:
        causes.append(required(f"{path}.operations"))
    if len(entry.operations) > 1 and "*" in entry.operations:
        detail = "if '*' is present, must not specify other operations"
        causes.append(invalid(f"{path}.operations", list(entry.operations), detail))
    for index, operation in enumerate(entry.operations):
        if operation not in _OPERATIONS:
            causes.append(not_supported(f"{path}.operations[{index}]", operation, _OPERATIONS))
    for field in ("apiGroups", "apiVersions"):
        values = getattr(rule, field)
        if not values:
            causes.append(required(f"{path}.{field}"))
        if len(values) > 1 and "*" in values:
            what = "API groups" if field == "apiGroups" else "API versions"
            causes.append(invalid(f"{path}.{field}", list(values), f"if '*' is present, must not specify other {what}"))
        if field == "apiVersions":
            causes += [required(f"{path}.{field}[{i}]") for i, value in enumerate(values) if not value]
    causes += _resources(f"{path}.resources", rule.resources)
    if rule.HasField("scope") and rule.scope not in _SCOPES:
        causes.append(not_supported(f"{path}.scope", rule.scope, _SCOPES))
    return causes


def _resources(path: str, resources: Any) -> list[Cause]:
    if not resources:
        return [required(path)]
    causes: list[Cause] = []
    whole = {r.split("/")[0] for r in resources if r.endswith("/*")}
    everywhere = {r.split("/")[1] for r in resources if r.startswith("*/")}
    for index, resource in enumerate(resources):
        where = f"{path}[{index}]"
        if not resource:
            causes.append(required(where))
        elif resource == "*/*" and len(resources) > 1:
            detail = "if '*/*' is present, must not specify other resources"
            causes.append(invalid(path, list(resources), detail))
        elif resource == "*" and any("/" not in other for other in resources if other != "*"):
            detail = "if '*' is present, must not specify other resources without subresources"
            causes.append(invalid(path, list(resources), detail))
        elif "/" in resource:
            name, sub = resource.split("/", 1)
            if sub != "*" and name in whole:
                detail = f"if '{name}/*' is present, must not specify {resource}"
                causes.append(invalid(where, resource, detail))
            if name != "*" and sub in everywhere:
                detail = f"if '*/{sub}' is present, must not specify {resource}"
                causes.append(invalid(where, resource, detail))
    return causes


def client_config(path: str, config: Any) -> list[Cause]:
    """Where a webhook is: exactly one of a URL and a Service."""
    if config.HasField("url") == config.HasField("service"):
        return [required(path, "exactly one of url or service is required")]
    return _url(f"{path}.url", config.url) if config.HasField("url") else _service(f"{path}.service", config.service)


def _url(path: str, text: str) -> list[Cause]:
    form = "; desired format: https://host[/path]"
    try:
        url = urlsplit(text)
        host = url.hostname
    except ValueError as error:
        return [required(path, f"url must be a valid URL: {error}{form}")]
    causes: list[Cause] = []
    if url.scheme != "https":
        causes.append(invalid(path, url.scheme, f"'https' is the only allowed URL scheme{form}"))
    if not host:
        causes.append(invalid(path, "", f"host must be provided{form}"))
    for value, what in (
        (url.username, "user information"),
        (url.fragment, "fragments"),
        (url.query, "query parameters"),
    ):
        if value:
            causes.append(invalid(path, value, f"{what} are not permitted in the URL"))
    return causes


def _service(path: str, service: Any) -> list[Cause]:
    causes = [required(f"{path}.{field}") for field in ("name", "namespace") if not getattr(service, field)]
    if service.HasField("port") and not 1 <= service.port <= 65535:
        detail = "port is not valid: must be between 1 and 65535, inclusive"
        causes.append(invalid(f"{path}.port", service.port, detail))
    if service.HasField("path"):
        causes += _service_path(f"{path}.path", service.path)
    return causes


def _service_path(path: str, text: str) -> list[Cause]:
    if not text.startswith("/"):
        return [invalid(path, text, "must start with a '/'")] if text else []
    if text == "/":
        return []
    causes: list[Cause] = []
    for index, step in enumerate(text.removeprefix("/").removesuffix("/").split("/")):
        if not step:
            causes.append(invalid(path, text, f"segment[{index}] may not be empty"))
        else:
            causes += [invalid(path, text, f"segment[{index}]: {problem}") for problem in dns_subdomain(step)]
    return causes


_RULES = Kind(namespaced=False, generation=True, unconditional_update=False, validate=_validate)
KINDS = {
    admissionregistration.ValidatingWebhookConfiguration: _RULES,
    admissionregistration.MutatingWebhookConfiguration: _RULES,
}
