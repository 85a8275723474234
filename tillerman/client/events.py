"""EventRecorder: what happened to an object, for people to read (`tiller get events`).

`event` is synchronous and never raises or waits: it notes the event in a bounded queue. One task (`run`) sends what is
noted in batches. An event that repeats is counted instead of created again; events of one object and reason that differ
only in their message are combined after ten; and an object that floods is limited to 25 events, then one in 5 minutes.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from tillerman.client.batch import BatchOp
from tillerman.client.client import Client
from tillerman.client.clock import Clock, RealClock
from tillerman.pb.k8s import core_v1_pb2 as core

log = logging.getLogger(__name__)

_QUEUE = 2000
_BATCH = 100
_REMEMBERED = 4096
_SEND_ATTEMPTS = 8
# Seconds in which events of one kind count as one series, and how many messages a series may have.
_SERIES_SECONDS = 600.0
_SERIES_MESSAGES = 10
_BURST = 25.0
_REFILL_PER_SECOND = 1 / 300


@dataclass(slots=True)
class _Seen:
    """An event that the API server has, or is about to have."""

    name: str
    namespace: str
    count: int
    first: float
    last: float
    stored: bool = False


@dataclass(slots=True)
class _Series:
    started: float
    messages: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Allowance:
    tokens: float
    at: float


@dataclass(slots=True)
class _Noted:
    reference: core.ObjectReference
    type: str
    reason: str
    message: str
    at: float

    @property
    def key(self) -> tuple[str, ...]:
        ref = self.reference
        return (ref.kind, ref.namespace, ref.name, ref.uid, ref.fieldPath, self.type, self.reason, self.message)


class EventRecorder:
    def __init__(self, client: Client, component: str, host: str = "", clock: Clock | None = None) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock or RealClock()
        self._noted: deque[_Noted] = deque()
        self._wake = asyncio.Event()
        self._sending = asyncio.Lock()
        self._seen: OrderedDict[tuple[str, ...], _Seen] = OrderedDict()
        self._series: OrderedDict[tuple[str, ...], _Series] = OrderedDict()
        self._allowances: OrderedDict[tuple[str, ...], _Allowance] = OrderedDict()
        self._last_stamp = 0
        self.dropped = 0

    def event(
        self, obj: Message | Mapping[str, Any], type: str, reason: str, message: str, *, field_path: str = ""
    ) -> None:
        """type: "Normal" or "Warning"; reason in CamelCase. obj: an object, or an ObjectReference to one. field_path
        names a part of it: "spec.containers{web}"."""
        try:
            reference = _reference(obj, field_path)
            noted = _Noted(reference, type, reason, message[:1024], self._clock.time())
            if len(self._noted) >= _QUEUE or not self._allowed(noted):
                self.dropped += 1
                return
            noted.message = self._combined(noted)
            self._noted.append(noted)
            self._wake.set()
        except Exception:
            log.exception("event %s %s could not be recorded", reason, message)

    async def run(self) -> None:
        """Sends until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Returns when what was noted before is sent, or given up on."""
        async with self._sending:
            while self._noted:
                batch = [self._noted.popleft() for _ in range(min(_BATCH, len(self._noted)))]
                await self._send(batch)

    async def _send(self, batch: list[_Noted]) -> None:
        from tillerman.api.status import StatusError

        pending: dict[tuple[str, ...], tuple[_Noted, _Seen]] = {}
        for noted in batch:
            pending[noted.key] = (noted, self._count(noted))
        for attempt in range(_SEND_ATTEMPTS):
            work = [*pending.items()]
            operations = [
                self._update(seen, noted) if seen.stored else BatchOp.create(self._build(noted, seen))
                for _, (noted, seen) in work
            ]
            try:
                outcomes = await self._client.batch(operations)
            except StatusError as error:
                log.debug("events not sent (attempt %d): %s", attempt + 1, error)
                await self._clock.sleep(min(0.1 * 2.0**attempt, 10.0))
                continue
            for (key, (_, seen)), outcome in zip(work, outcomes, strict=True):
                if self._settled(seen, outcome):
                    del pending[key]
            if not pending:
                return
        self.dropped += len(pending)
        log.warning("%d events dropped: the API server did not take them", len(pending))

    def _settled(self, seen: _Seen, outcome: object) -> bool:
        """False when the event is to be sent again."""
        from tillerman.api.status import StatusError, is_already_exists, is_not_found

        if not isinstance(outcome, StatusError) or (not seen.stored and is_already_exists(outcome)):
            seen.stored = True
            return True
        if seen.stored and is_not_found(outcome):
            # It has expired on the server: make it anew.
            seen.stored = False
            seen.name = f"{seen.name.rpartition('.')[0]}.{self._stamp():x}"
            return False
        log.debug("event %s/%s refused: %s", seen.namespace, seen.name, outcome)
        return True

    def _count(self, noted: _Noted) -> _Seen:
        seen = self._seen.get(noted.key)
        if seen is not None and noted.at - seen.last < _SERIES_SECONDS:
            seen.count += 1
            seen.last = noted.at
            self._seen.move_to_end(noted.key)
            return seen
        name = f"{noted.reference.name}.{self._stamp():x}"
        seen = _Seen(name, noted.reference.namespace or "default", 1, noted.at, noted.at)
        _remember(self._seen, noted.key, seen)
        return seen

    def _build(self, noted: _Noted, seen: _Seen) -> core.Event:
        event = core.Event(
            reason=noted.reason,
            message=noted.message,
            type=noted.type,
            count=seen.count,
            reportingComponent=self._component,
            reportingInstance=self._host,
        )
        event.metadata.name = seen.name
        event.metadata.namespace = seen.namespace
        event.involvedObject.CopyFrom(noted.reference)
        event.source.component = self._component
        if self._host:
            event.source.host = self._host
        event.firstTimestamp.seconds = int(seen.first)
        event.lastTimestamp.seconds = int(seen.last)
        return event

    def _update(self, seen: _Seen, noted: _Noted) -> BatchOp:
        from tillerman.api.times import from_seconds, rfc3339

        patch = {"count": seen.count, "lastTimestamp": rfc3339(from_seconds(float(int(seen.last))))}
        return BatchOp.patch(core.Event, seen.name, seen.namespace, patch)

    def _allowed(self, noted: _Noted) -> bool:
        ref = noted.reference
        key = (ref.kind, ref.namespace, ref.name, ref.uid)
        allowance = self._allowances.get(key)
        if allowance is None:
            allowance = _Allowance(_BURST, noted.at)
            _remember(self._allowances, key, allowance)
        allowance.tokens = min(_BURST, allowance.tokens + (noted.at - allowance.at) * _REFILL_PER_SECOND)
        allowance.at = noted.at
        if allowance.tokens < 1:
            return False
        allowance.tokens -= 1
        return True

    def _combined(self, noted: _Noted) -> str:
        """The message to send: beyond ten different ones of a series, they are told as one."""
        key = noted.key[:-1]
        series = self._series.get(key)
        if series is None or noted.at - series.started > _SERIES_SECONDS:
            series = _Series(noted.at)
            _remember(self._series, key, series)
        series.messages.add(noted.message)
        if len(series.messages) <= _SERIES_MESSAGES:
            return noted.message
        return "(combined from similar events)"

    def _stamp(self) -> int:
        """Nanoseconds, never the same twice: the tail of an event's name."""
        self._last_stamp = max(self._last_stamp + 1, int(self._clock.time() * 1e9))
        return self._last_stamp


def _remember(memory: "OrderedDict[tuple[str, ...], Any]", key: tuple[str, ...], value: object) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _reference(obj: Message | Mapping[str, Any], field_path: str) -> core.ObjectReference:
    if isinstance(obj, core.ObjectReference):
        reference = core.ObjectReference()
        reference.CopyFrom(obj)
    elif isinstance(obj, Mapping):
        meta = obj.get("metadata", {})
        reference = core.ObjectReference(
            apiVersion=obj.get("apiVersion", ""), kind=obj.get("kind", ""), namespace=meta.get("namespace", ""),
            name=meta.get("name", ""), uid=meta.get("uid", ""), resourceVersion=meta.get("resourceVersion", ""),
        )  # fmt: skip
    else:
        from tillerman.api.scheme import SCHEME
        from tillerman.client.typed import identity_of

        api_version, kind = SCHEME.kind_of(obj)
        identity = identity_of(obj)
        reference = core.ObjectReference(
            apiVersion=api_version, kind=kind, namespace=identity.namespace, name=identity.name, uid=identity.uid,
            resourceVersion=identity.resource_version,
        )  # fmt: skip
    if field_path:
        reference.fieldPath = field_path
    return reference
