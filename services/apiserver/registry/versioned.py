"""The registry as the fronts see it: requests for another version of a stored resource are converted on the way."""

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
from services.apiserver.registry.registry import VIEWS, Registry, Target
from services.apiserver.registry.versions import View
from services.apiserver.registry.writing import Written
from tillerman.pb.k8s import meta_v1_pb2


class VersionedRegistry(Registry):
    """Every verb of Registry, for every served version."""

    async def get(self, target: Target, context: Context, resource_version: str = "") -> Entry | Message:
        view, target = _stored(target, context)
        found = await super().get(target, context, resource_version)
        return view.entry(found) if view is not None and isinstance(found, Entry) else found

    async def list(
        self, target: Target, context: Context, options: ListOptions, label_selector: str = "", field_selector: str = ""
    ) -> ListPage:
        view, target = _stored(target, context)
        if view is None:
            return await super().list(target, context, options, label_selector, field_selector)
        page = await super().list(target, context, options, label_selector, view.field_selector(field_selector))
        return replace(page, entries=[view.entry(entry) for entry in page.entries])

    async def watch(
        self,
        target: Target,
        context: Context,
        options: WatchOptions,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[builtins.list[WatchEvent]]:
        view, target = _stored(target, context)
        if view is None:
            return await super().watch(target, context, options, label_selector, field_selector)
        batches = await super().watch(target, context, options, label_selector, view.field_selector(field_selector))
        return _converted(view, batches)

    async def create(self, target: Target, body: Any, context: Context) -> Written | Message:
        view, target = _stored(target, context)
        if view is not None and not target.subresource:
            body = view.to_storage(body)
        return _written(view, await super().create(target, body, context))

    async def update(self, target: Target, body: Any, context: Context) -> Written | Message:
        view, target = _stored(target, context)
        if view is not None:
            body = view.to_storage(body)
        return _written(view, await super().update(target, body, context))

    async def patch(self, target: Target, patch_type: str, patch: bytes, context: Context) -> Written | Message:
        view, target = _stored(target, context)
        return _written(view, await super().patch(target, patch_type, patch, context))

    async def delete(self, target: Target, options: meta_v1_pb2.DeleteOptions, context: Context) -> Deleted:
        view, target = _stored(target, context)
        deleted = await super().delete(target, options, context)
        return deleted if view is None else Deleted(view.entry(deleted.entry), deleted.gone)

    async def delete_collection(
        self,
        target: Target,
        options: meta_v1_pb2.DeleteOptions,
        context: Context,
        label_selector: str = "",
        field_selector: str = "",
    ) -> builtins.list[Entry]:
        view, target = _stored(target, context)
        entries = await super().delete_collection(target, options, context, label_selector, field_selector)
        return entries if view is None else [view.entry(entry) for entry in entries]


def _stored(target: Target, context: Context) -> tuple[View | None, Target]:
    asked = (target.api_version, target.resource)
    view = VIEWS.get(asked)
    if view is None:
        return None, target
    context.asked = asked
    return view, replace(target, api_version=view.stored[0], resource=view.stored[1])


def _written(view: View | None, answer: Written | Message) -> Written | Message:
    if view is None or not isinstance(answer, Written):
        return answer
    return replace(answer, entry=view.entry(answer.entry))


async def _converted(
    view: View, batches: AsyncIterator[builtins.list[WatchEvent]]
) -> AsyncIterator[builtins.list[WatchEvent]]:
    try:
        async for events in batches:
            yield [view.event(event) for event in events]
    finally:
        await batches.aclose()  # type: ignore[attr-defined]
