"""The registry as the fronts see it: requests for another version of a stored resource are converted on the way.

Built-in resources have Views; a custom resource brings its objects into the asked version's form by itself.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from services.apiserver.cache.changes import WatchEvent
from services.apiserver.cache.entry import Entry
from services.apiserver.registry.context import Context
from services.apiserver.registry.deletion import Deleted
from services.apiserver.registry.reading import ListOptions, ListPage, WatchOptions
from services.apiserver.registry.registry import Registry, Target
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.versions import VIEWS, View
from services.apiserver.registry.writing import Written
from tillerman.pb.k8s import meta_v1_pb2


class VersionedRegistry(Registry):
    """Every verb of Registry, for every served version."""

    async def get(self, target: Target, context: Context, resource_version: str = "") -> Entry | Message:
        view, target = _stored(target, context)
        found = await super().get(target, context, resource_version)
        if not isinstance(found, Entry):
            return found
        return await self._one(target, view, found)

    async def list(
        self, target: Target, context: Context, options: ListOptions, label_selector: str = "", field_selector: str = ""
    ) -> ListPage:
        view, target = _stored(target, context)
        fields = field_selector if view is None else view.field_selector(field_selector)
        return await self._page(target, view, await super().list(target, context, options, label_selector, fields))

    async def watch(
        self,
        target: Target,
        context: Context,
        options: WatchOptions,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[builtins.list[WatchEvent]]:
        view, target = _stored(target, context)
        if view is not None:
            batches = await super().watch(target, context, options, label_selector, view.field_selector(field_selector))
            return _converted(view, batches)
        batches = await super().watch(target, context, options, label_selector, field_selector)
        resource = self.catalog.get(target.api_version, target.resource)
        return _served(resource, batches) if resource.custom else batches

    async def create(self, target: Target, body: Any, context: Context) -> Written | Message:
        view, target = _stored(target, context)
        self._warn(target, context)
        if view is not None and not target.subresource:
            body = view.to_storage(body)
        return await self._written(target, view, await super().create(target, body, context))

    async def update(self, target: Target, body: Any, context: Context) -> Written | Message:
        view, target = _stored(target, context)
        self._warn(target, context)
        if view is not None and isinstance(body, view.info.message):
            body = view.to_storage(body)
        return await self._written(target, view, await super().update(target, body, context))

    async def patch(self, target: Target, patch_type: str, patch: bytes, context: Context) -> Written | Message:
        view, target = _stored(target, context)
        self._warn(target, context)
        return await self._written(target, view, await super().patch(target, patch_type, patch, context))

    async def delete(self, target: Target, options: meta_v1_pb2.DeleteOptions, context: Context) -> Deleted:
        view, target = _stored(target, context)
        deleted = await super().delete(target, options, context)
        return Deleted(await self._one(target, view, deleted.entry), deleted.gone)

    async def delete_collection(
        self,
        target: Target,
        options: meta_v1_pb2.DeleteOptions,
        context: Context,
        listing: ListOptions,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ListPage:
        view, target = _stored(target, context)
        fields = field_selector if view is None else view.field_selector(field_selector)
        page = await super().delete_collection(target, options, context, listing, label_selector, fields)
        return await self._page(target, view, page)

    async def _page(self, target: Target, view: View | None, page: ListPage) -> ListPage:
        if view is not None:
            return replace(page, entries=[view.entry(entry) for entry in page.entries])
        if self.is_virtual(target.api_version, target.resource):
            return page
        resource = self.catalog.get(target.api_version, target.resource)
        return replace(page, entries=list(await resource.served(page.entries))) if resource.custom else page

    def _warn(self, target: Target, context: Context) -> None:
        if warning := self.deprecation(target):
            context.warnings.append(warning)

    async def _one(self, target: Target, view: View | None, entry: Entry) -> Entry:
        if view is not None:
            return view.entry(entry)
        if self.is_virtual(target.api_version, target.resource):
            return entry
        resource = self.catalog.get(target.api_version, target.resource)
        return (await resource.served([entry]))[0] if resource.custom else entry

    async def _written(self, target: Target, view: View | None, answer: Written | Message) -> Written | Message:
        if not isinstance(answer, Written):
            return answer
        entry = await self._one(target, view, answer.entry)
        return answer if entry is answer.entry else replace(answer, entry=entry)


def _stored(target: Target, context: Context) -> tuple[View | None, Target]:
    asked = (target.api_version, target.resource)
    view = VIEWS.get(asked)
    if view is None:
        return None, target
    context.asked = asked
    return view, replace(target, api_version=view.stored[0], resource=view.stored[1])


async def _converted(
    view: View, batches: AsyncIterator[builtins.list[WatchEvent]]
) -> AsyncIterator[builtins.list[WatchEvent]]:
    try:
        async for events in batches:
            yield [view.event(event) for event in events]
    finally:
        await batches.aclose()  # type: ignore[attr-defined]


async def _served(
    resource: Resource, batches: AsyncIterator[builtins.list[WatchEvent]]
) -> AsyncIterator[builtins.list[WatchEvent]]:
    try:
        async for events in batches:
            entries = await resource.served([event.entry for event in events])
            yield [WatchEvent(event.type, entry) for event, entry in zip(events, entries, strict=True)]
    finally:
        await batches.aclose()  # type: ignore[attr-defined]
