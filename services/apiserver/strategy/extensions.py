"""CustomResourceDefinition."""

from __future__ import annotations

from typing import Any

from services.apiserver.crd import lifecycle
from services.apiserver.crd.definition import ESTABLISHED, is_true
from services.apiserver.strategy.admission import client_config
from services.apiserver.strategy.causes import (
    Cause,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    not_supported,
    required,
)
from services.apiserver.strategy.custom.versions import version_rules
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.masking import keep_metadata
from services.apiserver.strategy.names import dns1035_label, dns_subdomain
from tillerman.pb.k8s import apiextensions_v1_pb2 as apiextensions

_ONE_STORAGE = "must have exactly one version marked as storage version"


def _create(definition: Any) -> None:
    definition.status.SetInParent()
    _store_versions(definition)


def _store_versions(definition: Any) -> None:
    """The storage version counts as stored from now on; of several, which validation refuses, the first."""
    storage = next((version.name for version in definition.spec.versions if version.storage), None)
    if storage is not None and storage not in definition.status.storedVersions:
        definition.status.storedVersions.append(storage)


def _update(new: Any, old: Any) -> None:
    _store_versions(new)


def _validate(definition: Any) -> list[Cause]:
    spec = definition.spec
    causes = _group(spec.group)
    if not spec.scope:
        causes.append(required("spec.scope"))
    elif spec.scope not in ("Cluster", "Namespaced"):
        causes.append(not_supported("spec.scope", spec.scope, ["Cluster", "Namespaced"]))
    causes += _versions(spec)
    causes += _names("spec.names", spec.names)
    if spec.preserveUnknownFields and spec.conversion.strategy != "None":
        detail = "must be None if spec.preserveUnknownFields is true"
        causes.append(invalid("spec.conversion.strategy", spec.conversion.strategy, detail))
    causes += _conversion("spec.conversion", spec.conversion)
    if spec.preserveUnknownFields:
        detail = "cannot set to true, set x-preserve-unknown-fields to true in spec.versions[*].schema instead"
        causes.append(invalid("spec.preserveUnknownFields", True, detail))
    return causes + _stored_versions(definition)


def _group(group: str) -> list[Cause]:
    if not group:
        return [required("spec.group")]
    problems = dns_subdomain(group)
    if problems:
        return [invalid("spec.group", group, ",".join(problems))]
    if len(group.split(".")) < 2:
        return [invalid("spec.group", group, "should be a domain with at least one dot")]
    return []


def _versions(spec: Any) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, version in enumerate(spec.versions):
        path = f"spec.versions[{index}]"
        problems = dns1035_label(version.name)
        if problems:
            causes.append(invalid(f"{path}.name", version.name, ",".join(problems)))
        if version.name in names:
            causes.append(invalid("spec.versions", version.name, "must contain unique version names"))
        names.add(version.name)
        causes += _deprecation(f"{path}.deprecationWarning", version)
    if sum(version.storage for version in spec.versions) != 1:
        causes.append(invalid("spec.versions", [v.name for v in spec.versions], _ONE_STORAGE))
    # Kubernetes keeps the first version's name once more, as v1beta1 had it.
    first = spec.versions[0].name if spec.versions else ""
    if first and (problems := dns1035_label(first)):
        causes.append(invalid("spec.version", first, ",".join(problems)))
    return causes + version_rules(spec)


def _deprecation(path: str, version: Any) -> list[Cause]:
    if not version.HasField("deprecationWarning"):
        return []
    text = version.deprecationWarning
    if not version.deprecated:
        return [invalid(path, text, "can only be set for deprecated versions")]
    causes = []
    if len(text.encode()) > 256:
        causes.append(invalid(path, text, "must be <= 256 characters long"))
    if not text:
        causes.append(invalid(path, text, "must not be an empty string"))
    odd = next((index for index, letter in enumerate(text) if not letter.isprintable()), None)
    if odd is not None:
        detail = f"must only contain printable UTF-8 characters; non-printable character found at index {odd}"
        causes.append(invalid(path, text, detail))
    return causes


def _names(path: str, names: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("plural", "singular", "kind", "listKind"):
        value = getattr(names, field)
        if not value:
            causes.append(required(f"{path}.{field}"))
            continue
        lower = value.lower() if field in ("kind", "listKind") else value
        problems = dns1035_label(lower)
        if problems:
            prefix = "may have mixed case, but should otherwise match: " if field in ("kind", "listKind") else ""
            causes.append(invalid(f"{path}.{field}", value, prefix + ",".join(problems)))
    for field in ("shortNames", "categories"):
        for index, value in enumerate(getattr(names, field)):
            if problems := dns1035_label(value):
                causes.append(invalid(f"{path}.{field}[{index}]", value, ",".join(problems)))
    if names.kind and names.kind == names.listKind:
        causes.append(invalid(f"{path}.listKind", names.listKind, "kind and listKind may not be the same"))
    return causes


def _conversion(path: str, conversion: Any) -> list[Cause]:
    """Kubernetes reports the webhook's parts under the names that they had in v1beta1."""
    if not conversion.strategy:
        return [required(f"{path}.strategy")]
    causes: list[Cause] = []
    if conversion.strategy not in ("None", "Webhook"):
        causes.append(not_supported(f"{path}.strategy", conversion.strategy, ["None", "Webhook"]))
    where, webhook = f"{path}.webhookClientConfig", conversion.webhook
    if conversion.strategy != "Webhook":
        detail = "should not be set when strategy is not set to Webhook"
        if webhook.HasField("clientConfig"):
            causes.append(forbidden(where, detail))
        if webhook.conversionReviewVersions:
            causes.append(forbidden(f"{path}.conversionReviewVersions", detail))
        return causes
    if webhook.HasField("clientConfig"):
        causes += client_config(where, webhook.clientConfig)
    else:
        causes.append(required(where, "required when strategy is set to Webhook"))
    return causes + _review_versions(f"{path}.conversionReviewVersions", list(webhook.conversionReviewVersions))


def _review_versions(path: str, versions: list[str]) -> list[Cause]:
    if not versions:
        return [required(path)]
    causes: list[Cause] = []
    for index, version in enumerate(versions):
        if version in versions[:index]:
            causes.append(invalid(f"{path}[{index}]", version, "duplicate version"))
        else:
            causes += invalid_all(f"{path}[{index}]", version, dns1035_label(version))
    if not {"v1", "v1beta1"} & set(versions):
        causes.append(invalid(path, versions, "must include at least one of v1, v1beta1"))
    return causes


def _stored_versions(crd: Any) -> list[Cause]:
    path, stored = "status.storedVersions", list(crd.status.storedVersions)
    if not stored:
        return [invalid(path, [], "must have at least one stored version")]
    causes = [
        invalid(path, version.name, f"must have the storage version {version.name}")
        for version in crd.spec.versions
        if version.storage and version.name not in stored
    ]
    known = {version.name for version in crd.spec.versions}
    for index, name in enumerate(stored):
        if name not in known:
            causes.append(invalid(f"{path}[{index}]", name, "must appear in spec.versions"))
    return causes


def _approval(new: Any, old: Any | None) -> list[Cause]:
    """Definitions in Kubernetes' own groups say where they were approved, unless they never did."""
    if not lifecycle.protected(new.spec.group):
        return []
    given = new.metadata.annotations.get(lifecycle.APPROVED_BY, "")
    _, reason, message = lifecycle.approval(given)
    if old is not None:
        before = old.metadata.annotations.get(lifecycle.APPROVED_BY, "")
        if lifecycle.approval(before)[1] == reason:
            return []
    path = f"metadata.annotations[{lifecycle.APPROVED_BY}]"
    if reason == "MissingAnnotation":
        return [required(path, message)]
    return [invalid(path, given, message)] if reason == "InvalidAnnotation" else []


def _validate_create(definition: Any) -> list[Cause]:
    """`_validate` runs on updates too, where the parts of the name cannot change and an old annotation may stay."""
    return [*_own_name(definition), *_validate(definition), *_approval(definition, None)]


def _own_name(definition: Any) -> list[Cause]:
    if definition.metadata.name == f"{definition.spec.names.plural}.{definition.spec.group}":
        return []
    return [invalid("metadata.name", definition.metadata.name, 'must be spec.names.plural+"."+spec.group')]


def _validate_update(new: Any, old: Any) -> list[Cause]:
    causes = _validate(new)
    if is_true(old, ESTABLISHED):
        causes += immutable("spec.scope", new.spec.scope, old.spec.scope)
        causes += immutable("spec.names.kind", new.spec.names.kind, old.spec.names.kind)
    causes += immutable("spec.group", new.spec.group, old.spec.group)
    causes += immutable("spec.names.plural", new.spec.names.plural, old.spec.names.plural)
    return causes + _approval(new, old)


def _validate_status(new: Any, old: Any) -> list[Cause]:
    return _stored_versions(new)


KINDS = {
    apiextensions.CustomResourceDefinition: Kind(
        namespaced=False,
        plain_finalizers=True,
        status=True,
        generation=True,
        create=_create,
        update=_update,
        update_status=keep_metadata,
        validate=_validate_create,
        validate_on_update=False,
        validate_update=_validate_update,
        validate_status=_validate_status,
    ),
}
