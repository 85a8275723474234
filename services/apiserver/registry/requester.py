"""Who asks for a certificate: the API server says it, whatever the request's body claims; approvers go by it."""

from __future__ import annotations

from typing import Any

from services.apiserver.registry.context import User

REQUESTS = ("certificates.k8s.io", "certificatesigningrequests")


def name_requester(spec: Any, user: User) -> None:
    """Sets the fields of a CertificateSigningRequest's spec that tell of its author."""
    for field in ("username", "uid", "groups", "extra"):
        spec.ClearField(field)
    spec.username = user.name
    if user.uid:
        spec.uid = user.uid
    spec.groups.extend(user.groups)
    for name, values in user.extra:
        spec.extra[name].items.extend(values)
