"""A patched object's JSON form as a message again."""

from __future__ import annotations

from typing import Any

from services.apiserver.registry.context import Context
from tillerman.api import codec
from tillerman.api.json_text import compact
from tillerman.api.scheme import SCHEME
from tillerman.api.status import StatusError, invalid, invalid_value


def decode(message: Any, content: dict[str, Any], context: Context) -> Any:
    """The patched object as a message. Raises Invalid with the decoder's words.

    What was patched was an object before, so the patch is what does not fit.
    """
    if fault := _other_kind(message, content):
        raise _not_fitting(content, fault)
    unknown: list[str] | None = [] if context.field_validation == "Warn" else None
    try:
        decoded = codec.from_dict(content, message, strict=context.field_validation == "Strict", unknown=unknown)
    except codec.DecodeError as error:
        raise _not_fitting(content, str(error)) from error
    if unknown:
        context.warnings.extend(unknown)
    return decoded


def _not_fitting(content: dict[str, Any], detail: str) -> StatusError:
    shown = compact({name: content[name] for name in sorted(content)})
    return invalid("", "", [invalid_value("patch", shown, detail)])


def _other_kind(message: Any, content: dict[str, Any]) -> str:
    """What is wrong with the kind that the patch gave the object; another version of it is none of this."""
    own_version, own_kind = SCHEME.kind_of(message)
    kind, version = content.get("kind") or own_kind, content.get("apiVersion") or own_version
    if (kind, version) == (own_kind, own_version) or not isinstance(kind, str) or not isinstance(version, str):
        return ""
    group, own_group = version.rpartition("/")[0], own_version.rpartition("/")[0]
    try:
        SCHEME.message_type(version, kind)
    except LookupError:
        scheme = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"
        return f'no kind "{kind}" is registered for version "{version}" in scheme "{scheme}"'
    if (kind, group) == (own_kind, own_group):
        return ""
    package = own_group.partition(".")[0] or "core"
    return f"unable to decode {version if group else '/' + version}, Kind={kind} into *{package}.{own_kind}"
