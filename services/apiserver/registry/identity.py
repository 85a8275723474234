"""Which object a write is about: its name and namespace agree with the request's, and it is the one that was meant."""

from __future__ import annotations

import secrets
from typing import Any

from services.apiserver.registry.resource import Resource
from tillerman.api.status import StatusError, bad_request, conflict

SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
MAX_GENERATED_BASE = 58


def precondition_failed(what: str, wanted: str, found: str) -> str:
    return f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"


def precondition_conflict(
    resource: Resource, namespace: str, name: str, wanted: str, found: str, what: str = "UID"
) -> StatusError:
    """A write that is meant for another object of the name than the one that is there (``found`` empty: none)."""
    detail = (
        f"StorageError: invalid object, Code: 4, Key: {resource.key(namespace, name)}, ResourceVersion: 0, "
        f"AdditionalErrorMsg: {precondition_failed(what, wanted, found)}"
    )
    return conflict(resource.name, name, resource.group, detail)


def check_identity(resource: Resource, obj: Any, namespace: str, name: str) -> None:
    """The object's name and namespace agree with the request's. Fills them in where they are empty."""
    meta = obj.metadata
    if name:
        check_name(meta.name, name)
    if not resource.namespaced:
        # Kubernetes drops a namespace that a cluster-wide object cannot have.
        meta.ClearField("namespace")
    asked = namespace if resource.namespaced else ""
    if meta.namespace and meta.namespace != asked:
        if not name:
            raise other_namespace()
        check_namespace(meta.namespace, asked)
    if resource.namespaced:
        meta.namespace = namespace


def other_namespace() -> StatusError:
    return bad_request("the namespace of the provided object does not match the namespace sent on the request")


def check_name(name: str, asked: str) -> None:
    """Raises BadRequest unless an object's name is the one that the request is about."""
    if not name:
        raise bad_request(f"the name of the object ({asked} based on URL) was undeterminable: name must be provided")
    if name != asked:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({asked})")


def check_namespace(namespace: str, asked: str) -> None:
    """Raises BadRequest for an object that says it is of another namespace."""
    if namespace and namespace != asked:
        detail = f"the namespace of the object ({namespace}) does not match the namespace on the request ({asked})"
        raise bad_request(detail)


def generate_name(base: str) -> str:
    return base[:MAX_GENERATED_BASE] + "".join(secrets.choice(SUFFIX_ALPHABET) for _ in range(5))
