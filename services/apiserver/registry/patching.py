"""patch: JSON, merge, strategic-merge patches and server-side apply, as updates computed from the current object."""

from __future__ import annotations

from typing import Any

from services.apiserver import patch as patches
from services.apiserver.registry.context import Context
from services.apiserver.registry.decoding import decode
from services.apiserver.registry.identity import check_identity
from services.apiserver.registry.managed import manager_of
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.versions import View, form
from services.apiserver.registry.writing import Writer, Written
from tillerman.api import codec, times
from tillerman.api.status import StatusError, bad_request, conflict, invalid, is_not_found, required

ATTEMPTS = 5


class Patcher:
    """Raises StatusError. A patch that names no resourceVersion is computed again when somebody wrote in between.

    ``view``: the version that the patch is written for, where it isn't the stored one.
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
        view: View | None = None,
    ) -> Written:
        info = view.info if view is not None else resource.info
        if patch_type == patches.APPLY_PATCH:
            return await self._apply(resource, namespace, name, patch, context, subresource, view)
        patches.check_type(patch_type, custom=resource.custom)

        async def change(old: Any) -> Any:
            current = _form(resource, old, view)
            patched = patches.apply_patch(
                patch_type, current, patch, None if resource.custom else info.message.DESCRIPTOR
            )
            check_version(resource, name, patched, current)
            return self._named(resource, namespace, name, patched, context, view)

        return await self._writer.modify(resource, namespace, name, change, context, subresource)

    async def _apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: bytes,
        context: Context,
        subresource: str,
        view: View | None,
    ) -> Written:
        """Creates the object when there is none; nobody else's fields are taken unless forced."""
        if not context.field_manager:
            raise invalid("PatchOptions.meta.k8s.io", "", [required("fieldManager", "is required for apply patch")])
        applied, repeated = patches.parse_applied(patch)
        if repeated and context.field_validation == "Strict":
            raise bad_request(f"error strict decoding YAML: {repeated}")
        if repeated and context.field_validation == "Warn":
            context.warnings.append(repeated)
        info = view.info if view is not None else resource.info

        def in_version(content: dict[str, Any], version: str) -> dict[str, Any] | None:
            if resource.custom:
                return None
            return form(resource, self._decoded(resource, content, Context(), view), version)

        def merged(live: dict[str, Any] | None) -> dict[str, Any]:
            return patches.apply(
                live,
                applied,
                api_version=info.api_version,
                kind=info.kind,
                manager=manager_of(context),
                time=times.rfc3339(times.now()),
                force=context.force,
                types=None if view is not None else resource.field_types,
                convert=in_version,
            )

        async def change(old: Any) -> Any:
            current = _form(resource, old, view)
            wanted = merged(current)
            check_version(resource, name, applied, current)
            return self._named(resource, namespace, name, wanted, context, view)

        for _ in range(ATTEMPTS):
            try:
                return await self._writer.modify(resource, namespace, name, change, context, subresource, track=False)
            except StatusError as error:
                if not is_not_found(error) or subresource or error.status.details.name != name:
                    raise
            fresh = self._decoded(resource, merged(None), context, view)
            if fresh.metadata.uid:
                uid = fresh.metadata.uid
                detail = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise conflict(resource.name, name, resource.group, detail)
            try:
                return await self._writer.create(resource, namespace, fresh, context, name, track=False)
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
        raise conflict(resource.name, name, resource.group)

    def _named(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        content: dict[str, Any],
        context: Context,
        view: View | None,
    ) -> Any:
        """The patched object; a patch cannot give it another name. Raises BadRequest."""
        decoded = self._decoded(resource, content, context, view)
        check_identity(resource, decoded, namespace, name)
        return decoded

    def _decoded(self, resource: Resource, content: dict[str, Any], context: Context, view: View | None) -> Any:
        if view is None:
            return resource.patched(content, context)
        return view.to_storage(decode(view.info.message, content, context))


def _form(resource: Resource, obj: Any, view: View | None) -> dict[str, Any]:
    """The JSON form that a patch is laid over."""
    return resource.to_dict(obj) if view is None else codec.to_dict(view.from_storage(obj))


def check_version(resource: Resource, name: str, wanted: dict[str, Any], current: dict[str, Any]) -> None:
    """Raises Conflict when the patch names a resourceVersion that is not the current one."""
    meta = wanted.get("metadata")
    version = meta.get("resourceVersion") if isinstance(meta, dict) else ""
    if version and version != current.get("metadata", {}).get("resourceVersion"):
        raise conflict(resource.name, name, resource.group)
