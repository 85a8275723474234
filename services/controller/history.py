"""ControllerRevisions: the history of a DaemonSet's or StatefulSet's pod template."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import orjson

from services.controller.children import CONTROLLER_INDEX, index_by_owner
from services.controller.naming import template_hash
from services.controller.outcomes import unless_gone
from tillerman.api.codec import to_dict
from tillerman.api.meta import owner_reference
from tillerman.api.status import StatusError, is_already_exists
from tillerman.client.client import Client
from tillerman.client.informer import Informer
from tillerman.pb.k8s import apps_v1_pb2 as apps

REVISION_LABEL = "controller-revision-hash"


def template_data(template: Any) -> bytes:
    """The patch that brings the template back, as ControllerRevision.data holds it."""
    return orjson.dumps({"spec": {"template": {**to_dict(template), "$patch": "replace"}}}, option=orjson.OPT_SORT_KEYS)


def is_same(revision: apps.ControllerRevision, data: bytes) -> bool:
    raw = revision.data.raw
    return raw == data or (bool(raw) and orjson.loads(raw) == orjson.loads(data))


class RevisionHistory:
    """Keeps the revisions of one kind of owner; reads through the informer, writes through the client."""

    def __init__(self, client: Client, revisions: Informer[apps.ControllerRevision]) -> None:
        index_by_owner(revisions)
        self._client = client
        self._revisions = revisions

    def of(self, owner: Any) -> list[apps.ControllerRevision]:
        """Oldest first."""
        found = self._revisions.by_index(CONTROLLER_INDEX, owner.metadata.uid)
        return sorted(found, key=lambda revision: (revision.revision, revision.metadata.name))

    async def current(self, owner: Any) -> apps.ControllerRevision:
        """The revision of the owner's template: an old one with a new number if it is back, else a new one."""
        known = self.of(owner)
        data = template_data(owner.spec.template)
        number = max((revision.revision for revision in known), default=0)
        same = next((revision for revision in reversed(known) if is_same(revision, data)), None)
        if same is not None:
            if same.revision == number:
                return same
            newest = apps.ControllerRevision()
            newest.CopyFrom(same)
            newest.revision = number + 1
            return await self._client.resource(apps.ControllerRevision).update(newest)
        return await self._create(owner, data, number + 1)

    async def _create(self, owner: Any, data: bytes, number: int) -> apps.ControllerRevision:
        client = self._client.resource(apps.ControllerRevision)
        collisions = owner.status.collisionCount
        while True:
            digest = template_hash(owner.spec.template, collisions)
            revision = apps.ControllerRevision()
            revision.metadata.name = f"{owner.metadata.name}-{digest}"
            revision.metadata.namespace = owner.metadata.namespace
            revision.metadata.labels.update(owner.spec.template.metadata.labels)
            revision.metadata.labels[REVISION_LABEL] = digest
            revision.metadata.ownerReferences.append(owner_reference(owner))
            revision.data.raw = data
            revision.revision = number
            try:
                return await client.create(revision)
            except StatusError as error:
                if not is_already_exists(error):
                    raise
                present = await client.get(revision.metadata.name, revision.metadata.namespace)
                if is_same(present, data):
                    return present
                collisions += 1

    async def truncate(self, owner: Any, live: Collection[str]) -> None:
        """Deletes the oldest revisions beyond the limit; those whose name is in `live` stay."""
        limit = owner.spec.revisionHistoryLimit if owner.spec.HasField("revisionHistoryLimit") else 10
        idle = [revision for revision in self.of(owner) if revision.metadata.name not in live]
        for revision in surplus(idle, limit):
            await unless_gone(
                self._client.resource(apps.ControllerRevision).delete(
                    revision.metadata.name, revision.metadata.namespace, uid=revision.metadata.uid
                )
            )


def surplus(revisions: Sequence[apps.ControllerRevision], limit: int) -> list[apps.ControllerRevision]:
    return list(revisions[: max(len(revisions) - limit, 0)])


def hash_of(revision: apps.ControllerRevision) -> str:
    return revision.metadata.labels.get(REVISION_LABEL, "")
