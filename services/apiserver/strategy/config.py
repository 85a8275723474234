"""ConfigMap, Secret and ServiceAccount."""

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
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns_subdomain
from tillerman.api.codec import json_type
from tillerman.api.json_syntax import syntax_error
from tillerman.api.validation import is_config_key
from tillerman.pb.k8s import core_v1_pb2 as core

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
    return _frozen(new, old, ("data", "binaryData")) + _validate_config_map(new)


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
    except (ValueError, RecursionError) as error:
        problem = syntax_error(data[key]) or str(error)
    else:
        shape = "map[string]interface {}"
        fits = isinstance(parsed, dict | None)
        problem = "" if fits else f"json: cannot unmarshal {json_type(parsed)} into Go value of type {shape}"
    return [invalid(path, "<secret contents redacted>", problem)] if problem else []


def _update_secret(new: Any, old: Any) -> list[Cause]:
    """What may not change is told before what is wrong with it (of ConfigMaps too)."""
    return immutable("type", new.type, old.type) + _frozen(new, old, ("data",)) + _validate_secret(new)


def _keep_secret_type(new: Any, old: Any) -> None:
    # An update that leaves the type out means the one it has; defaults have already filled Opaque.
    if not new.type:
        new.type = old.type


KINDS = {
    core.ConfigMap: Kind(validate=_validate_config_map, validate_update=_update_config_map, validate_on_update=False),
    core.Secret: Kind(
        update=_keep_secret_type, validate=_validate_secret, validate_update=_update_secret, validate_on_update=False
    ),
    core.ServiceAccount: Kind(name=dns_subdomain),
}
