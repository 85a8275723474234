"""StatusManager: sends pod statuses to the API server, only what changed, many in one call.

Workers set statuses; one task sends them. While a call is under way further changes gather, so the batch grows with the
load by itself.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from services.kubelet.metrics import STATUS_UPDATES
from tillerman.api.codec import to_dict
from tillerman.api.status import StatusError, is_conflict, is_not_found
from tillerman.client.client import BatchOp, Client
from tillerman.client.clock import Clock
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
_BATCH = 100
_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Entry:
    namespace: str
    name: str
    wanted: core.PodStatus
    # As the API server has it, so far as is known.
    sent: core.PodStatus


class StatusManager:
    def __init__(self, client: Client, *, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._dirty: dict[str, None] = {}
        self._wake = asyncio.Event()
        # Woken after every call to the API server.
        self._waiters: list[asyncio.Future[None]] = []

    def last(self, pod: core.Pod) -> core.PodStatus:
        """What was said last of the pod, or what the API server has."""
        entry = self._entries.get(pod.metadata.uid)
        return entry.wanted if entry is not None else pod.status

    def set(self, pod: core.Pod, status: core.PodStatus) -> None:
        uid = pod.metadata.uid
        entry = self._entries.get(uid)
        if entry is None:
            entry = _Entry(pod.metadata.namespace, pod.metadata.name, status, pod.status)
            self._entries[uid] = entry
        elif entry.wanted == status and entry.sent == status:
            return
        entry.wanted = status
        if entry.sent != status:
            self._dirty[uid] = None
            self._wake.set()

    def correct(self, pod: core.Pod) -> None:
        """The pod as the API server has it now: somebody may have overwritten the status."""
        entry = self._entries.get(pod.metadata.uid)
        if entry is None or pod.metadata.uid in self._dirty or pod.status == entry.sent:
            return
        if _patch(pod.status, entry.wanted):
            entry.sent = pod.status
            self._dirty[pod.metadata.uid] = None
            self._wake.set()

    async def settled(self, uid: str) -> None:
        """Returns when the API server has been told the pod's last status."""
        while (entry := self._entries.get(uid)) is not None and entry.sent != entry.wanted:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def forget(self, uid: str) -> None:
        self._entries.pop(uid, None)
        self._dirty.pop(uid, None)
        self._notify()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                uids = list(self._dirty)[:_BATCH]
                for uid in uids:
                    del self._dirty[uid]
                await self._send(uids)
                self._notify()

    async def _send(self, uids: list[str]) -> None:
        batch = []
        for uid in uids:
            entry = self._entries.get(uid)
            if entry is None:
                continue
            patch = _patch(entry.sent, entry.wanted)
            if patch:
                batch.append((uid, entry, entry.wanted, patch))
            else:
                entry.sent = entry.wanted
        if not batch:
            return
        operations = [
            BatchOp.patch(
                core.Pod,
                entry.name,
                entry.namespace,
                {"metadata": {"uid": uid}, "status": patch},
                type="merge",
                subresource="status",
            )
            for uid, entry, _, patch in batch
        ]
        try:
            outcomes = await self._client.batch(operations)
        except StatusError as error:
            log.warning("status_batch_failed", error=str(error), pods=len(batch))
            STATUS_UPDATES.labels("error").inc(len(batch))
            for uid, *_ in batch:
                self._dirty[uid] = None
            await self._clock.sleep(_RETRY_SECONDS)
            return
        for (uid, entry, status, _), outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, StatusError):
                STATUS_UPDATES.labels("success").inc()
                entry.sent = status
            elif is_not_found(outcome) or is_conflict(outcome):
                # The pod is gone, or another one has its name; its watch will say so.
                STATUS_UPDATES.labels("gone").inc()
                entry.sent = status
            else:
                STATUS_UPDATES.labels("error").inc()
                log.warning("status_update_failed", pod=f"{entry.namespace}/{entry.name}", error=str(outcome))
                self._clock.call_later(_RETRY_SECONDS, lambda uid=uid: self._again(uid))  # type: ignore[misc]

    def _again(self, uid: str) -> None:
        if uid in self._entries:
            self._dirty[uid] = None
            self._wake.set()


def _patch(old: core.PodStatus, new: core.PodStatus) -> dict[str, Any]:
    """A merge patch of the status' fields: lists are replaced whole, a field that is gone is null."""
    before, after = to_dict(old), to_dict(new)
    patch = {name: value for name, value in after.items() if before.get(name) != value}
    patch.update({name: None for name in before if name not in after and name in _OWNED})
    return patch


# Fields that the kubelet takes away again; others are left as somebody else set them.
_OWNED = (
    "reason",
    "message",
    "podIP",
    "podIPs",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
)
