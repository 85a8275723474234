"""ConfigMap, Secret, ServiceAccount and Event."""

from __future__ import annotations

import json
from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    required,
    too_long,
)
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns_label, dns_subdomain, path_segment
from tillerman.api.validation import is_config_key, is_qualified_name
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import events_v1_pb2 as events

_SIZE_LIMIT = 1024 * 1024
_FROZEN = "field is immutable when `immutable` is set"
_DOCKER_CFG, _DOCKER_CONFIG_JSON = ".dockercfg", ".dockerconfigjson"
_SERVICE_ACCOUNT_NAME = "kubernetes.io/service-account.name"


def _validate_config_map(config: Any) -> list[Cause]:
    causes: list[Cause] = []
    size = 0
    for key, value in config.data.items():
        causes += invalid_all(f"data[{key}]", key, is_config_key(key))
        if key in config.binaryData:
            causes.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value.encode())
    for key, raw in config.binaryData.items():
        causes += invalid_all(f"binaryData[{key}]", key, is_config_key(key))
        size += len(raw)
    # Kubernetes names no field here but prints its empty path.
    return causes + ([too_long("[]", _SIZE_LIMIT)] if size > _SIZE_LIMIT else [])


def _update_config_map(new: Any, old: Any) -> list[Cause]:
    return _frozen(new, old, ("data", "binaryData"))


def _frozen(new: Any, old: Any, fields: tuple[str, ...]) -> list[Cause]:
    if not old.immutable:
        return []
    causes = [] if new.immutable else [forbidden("immutable", _FROZEN)]
    return causes + [forbidden(f, _FROZEN) for f in fields if dict(getattr(new, f)) != dict(getattr(old, f))]


def _validate_secret(secret: Any) -> list[Cause]:
    causes: list[Cause] = []
    for key in secret.data:
        causes += invalid_all(f"data[{key}]", key, is_config_key(key))
    if sum(map(len, secret.data.values())) > _SIZE_LIMIT:
        causes.append(too_long("data", _SIZE_LIMIT))
    return causes + _secret_type(secret)


def _secret_type(secret: Any) -> list[Cause]:
    """The keys that a well-known type of Secret must have."""
    data = secret.data
    match secret.type:
        case "kubernetes.io/service-account-token":
            if not secret.metadata.annotations.get(_SERVICE_ACCOUNT_NAME):
                return [required(f"metadata.annotations[{_SERVICE_ACCOUNT_NAME}]")]
        case "kubernetes.io/dockercfg":
            return _json_value(data, _DOCKER_CFG)
        case "kubernetes.io/dockerconfigjson":
            return _json_value(data, _DOCKER_CONFIG_JSON)
        case "kubernetes.io/basic-auth" if "username" not in data and "password" not in data:
            # The unfilled "%s" is Kubernetes' own.
            return [required("data[%s][username]"), required("data[%s][password]")]
        case "kubernetes.io/ssh-auth" if not data.get("ssh-privatekey"):
            return [required("data[%s][ssh-privatekey]")]
        case "kubernetes.io/tls":
            return [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
    return []


def _json_value(data: Any, key: str) -> list[Cause]:
    path = f"data[{key}]"
    if key not in data:
        return [required(path)]
    try:
        parsed = json.loads(data[key])
        problem = "" if isinstance(parsed, dict) else "json: cannot unmarshal into a map"
    except ValueError as error:
        problem = str(error)
    return [invalid(path, "<secret contents redacted>", problem)] if problem else []


def _update_secret(new: Any, old: Any) -> list[Cause]:
    return immutable("type", new.type, old.type) + _frozen(new, old, ("data",))


def _keep_secret_type(new: Any, old: Any) -> None:
    # An update that leaves the type out means the one it has; defaults have already filled Opaque.
    if not new.type:
        new.type = old.type


def _validate_event(event: Any) -> list[Cause]:
    """The core group's Event, as old clients write it."""
    causes: list[Cause] = []
    namespace = event.involvedObject.namespace
    if not namespace:
        # An event about a cluster-wide object goes to the default namespace (or the system's own).
        if event.metadata.namespace not in ("", "default", "kube-system"):
            causes.append(invalid("involvedObject.namespace", namespace, "does not match event.namespace"))
    elif event.metadata.namespace != namespace:
        causes.append(invalid("involvedObject.namespace", namespace, "does not match event.namespace"))
    return causes + invalid_all("metadata.namespace", event.metadata.namespace, dns_label(event.metadata.namespace))


def _validate_new_event(event: Any) -> list[Cause]:
    """events.k8s.io/v1: the reporter, the action and the reason are needed."""
    causes: list[Cause] = []
    if not event.HasField("eventTime") or not event.eventTime.seconds:
        # Events converted from the old form have none; then nothing else is asked of them.
        causes.append(required("eventTime"))
    if event.type not in ("Normal", "Warning"):
        causes.append(invalid("type", event.type, f"has invalid value: {event.type}"))
    if not causes or event.reportingController:
        if not event.reportingController:
            causes.append(required("reportingController"))
        else:
            problems = is_qualified_name(event.reportingController)
            causes += invalid_all("reportingController", event.reportingController, problems)
        for field, limit in (("reportingInstance", 128), ("action", 128), ("reason", 128)):
            value = getattr(event, field)
            if not value:
                causes.append(required(field))
            elif len(value) > limit:
                causes.append(invalid(field, "", f"can have at most {limit} characters"))
    if len(event.note) > 1024:
        causes.append(invalid("message", "", "can have at most 1024 characters"))
    return causes


def _update_new_event(new: Any, old: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("reportingController", "reportingInstance", "action", "reason", "note", "type"):
        causes += immutable(field, getattr(new, field), getattr(old, field))
    for field in ("regarding", "related"):
        if not semantically_equal(getattr(new, field), getattr(old, field)):
            causes += immutable(field, getattr(new, field), None)
    return causes


KINDS = {
    core.ConfigMap: Kind(validate=_validate_config_map, validate_update=_update_config_map),
    core.Secret: Kind(update=_keep_secret_type, validate=_validate_secret, validate_update=_update_secret),
    core.ServiceAccount: Kind(name=dns_subdomain),
    core.Event: Kind(name=path_segment, create_on_update=True, validate=_validate_event),
    events.Event: Kind(
        name=path_segment,
        create_on_update=True,
        validate=_validate_new_event,
        validate_update=_update_new_event,
        validate_on_update=False,
    ),
}
