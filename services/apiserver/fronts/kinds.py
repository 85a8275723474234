"""Which kind a request's body is, and what a subresource can be asked for."""

from __future__ import annotations

from services.apiserver.registry.registry import Target
from tillerman.api.scheme import ResourceInfo

# The bodies of subresources, where they aren't the object itself.
SUBRESOURCE_KINDS = {
    "scale": ("autoscaling/v1", "Scale"),
    "eviction": ("policy/v1", "Eviction"),
    "token": ("authentication.k8s.io/v1", "TokenRequest"),
    "binding": ("v1", "Binding"),
}
# Subresources that are streams: the kind of their options.
STREAMS = {
    "exec": "PodExecOptions",
    "attach": "PodAttachOptions",
    "portforward": "PodPortForwardOptions",
}


def subresource_verbs(name: str) -> tuple[str, ...]:
    if name in STREAMS:
        return ("create", "get")
    if name == "proxy":
        return ("create", "delete", "get", "patch", "update")
    if name == "log":
        return ("get",)
    if name == "finalize":
        return ("update",)
    if name in SUBRESOURCE_KINDS and name != "scale":
        return ("create",)
    return ("get", "patch", "update")


def expected_kind(target: Target, info: ResourceInfo | None) -> tuple[str, str] | None:
    """(api version, kind) of a request's body; None where only the body itself can say (custom resources)."""
    if target.subresource in SUBRESOURCE_KINDS:
        return SUBRESOURCE_KINDS[target.subresource]
    return None if info is None else (info.api_version, info.kind)
