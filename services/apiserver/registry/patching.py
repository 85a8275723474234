"""patch: JSON, merge, strategic-merge patches and server-side apply, as updates computed from the current object."""

from __future__ import annotations

from typing import Any

from services.apiserver.patch.dispatch import apply_patch
from services.apiserver.registry.context import Context
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.writing import Writer, Written
from tillerman.api import codec
from tillerman.api.status import bad_request, conflict

APPLY = "application/apply-patch+yaml"


class Patcher:
    """Raises StatusError. A patch that names no resourceVersion is computed again when somebody else wrote in
    between.
    """

    def __init__(self, *, writer: Writer) -> None:
        self._writer = writer

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch_type: str,
        patch: bytes,
        context: Context,
        subresource: str = "",
    ) -> Written:
        async def apply(old: Any) -> Any:
            current = codec.to_dict(old)
            version = current.get("metadata", {}).get("resourceVersion", "")
            patched = apply_patch(patch_type, current, patch, resource.info)
            wanted = (patched.get("metadata") or {}).get("resourceVersion", "")
            if wanted and wanted != version:
                raise conflict(resource.name, name, resource.group)
            return decode(resource, patched, context)

        return await self._writer.modify(resource, namespace, name, apply, context, subresource)


def decode(resource: Resource, content: dict[str, Any], context: Context) -> Any:
    """The patched object as a message. Raises BadRequest with the decoder's words."""
    unknown: list[str] | None = [] if context.field_validation == "Warn" else None
    try:
        message = codec.from_dict(
            content, resource.info.message, strict=context.field_validation == "Strict", unknown=unknown
        )
    except codec.DecodeError as error:
        raise bad_request(str(error)) from error
    if unknown:
        context.warnings.extend(unknown)
    return message
