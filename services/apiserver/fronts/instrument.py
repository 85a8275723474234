"""The apiserver's metrics, under Kubernetes' names."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from services.apiserver.cache.hub import CacheHub
from services.apiserver.registry.registry import Target
from tillerman.api.scheme import SCHEME
from tillerman.service.tally import Cell, Counts, Durations, Series

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LABELS = ("verb", "group", "version", "resource", "subresource", "scope")
log = structlog.get_logger("apiserver.storage")
MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE", "DELETECOLLECTION"})


def _prefixes() -> list[tuple[str, str]]:
    return [
        (info.etcd_prefix, info.group_resource)
        for info in SCHEME.resources()
        if info.etcd_prefix and not info.same_storage_as
    ]


def _count(hub: CacheHub, prefix: str) -> float:
    return float(hub.count(prefix))


class Request:
    """A request being served; ``code``: the HTTP code that it ends with."""

    __slots__ = ("_began", "_measured", "code")

    def __init__(self, measured: _Measured, code: int) -> None:
        self._measured = measured
        self.code = code

    def __enter__(self) -> Request:
        self._measured.running.value += 1
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        measured = self._measured
        measured.running.value -= 1
        if measured.seconds is not None:
            measured.seconds.observe(time.perf_counter() - self._began)
        ended = measured.ended.get(self.code)
        if ended is None:
            ended = measured.ended[self.code] = measured.count(self.code)
        ended.value += 1


class _Measured:
    """The numbers of one verb on one resource. ``running``: how many are being served."""

    __slots__ = ("count", "ended", "running", "seconds")

    def __init__(self, running: Cell, seconds: Series | None, count: Callable[[int], Cell]) -> None:
        self.running = running
        self.seconds = seconds
        self.count = count
        self.ended: dict[int, Cell] = {}


class Instrument:
    """Label combinations are bounded by the catalog: requests for unknown resources share one."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self._requests = Counts(
            "apiserver_request",
            "Requests by verb, resource and code.",
            (*LABELS, "component", "code"),
            registry=registry,
        )
        self._seconds = Durations(
            "apiserver_request_duration_seconds",
            "Seconds per request.",
            (*LABELS, "component"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._running = Counts(
            "apiserver_current_inflight_requests",
            "Requests being served.",
            ("request_kind",),
            gauge=True,
            registry=registry,
        )
        for kind in ("readOnly", "mutating"):
            self._running.cell(kind)
        self._long = Counts(
            "apiserver_longrunning_requests",
            "Watches and streams.",
            (*LABELS, "component"),
            gauge=True,
            registry=registry,
        )
        self._events = Counts(
            "apiserver_watch_events",
            "Events sent to watchers.",
            ("group", "version", "resource"),
            registry=registry,
        )
        self._etcd = Durations(
            "etcd_request_duration_seconds",
            "Seconds per etcd call.",
            ("operation", "type"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._undecodable = Counts(
            "apiserver_storage_decode_errors",
            "Stored values that could not be decoded.",
            ("resource",),
            registry=registry,
        )
        self._objects = Gauge("apiserver_storage_objects", "Objects stored.", ("resource",), registry=registry)
        self._stored_under = dict(_prefixes())
        self._measured: dict[tuple[bool, tuple[str, ...]], _Measured] = {}
        self._resources: set[tuple[str, str]] = set()

    def allow(self, api_version: str, resource: str) -> None:
        """Names a resource that is served: it gets labels of its own."""
        self._resources.add((api_version, resource))

    def observe_storage(self, hub: CacheHub) -> None:
        """Counts the stored objects whenever metrics are read."""
        for prefix, resource in _prefixes():
            self._objects.labels(resource).set_function(partial(_count, hub, prefix))

    def undecodable(self, prefix: str, key: str, cause: str) -> None:
        """A stored value that is no object: told once, with its key."""
        log.error("a stored value cannot be decoded; serving the others", key=key, cause=cause)
        resource = self._stored_under.get(prefix) or ".".join(reversed(prefix.split("/")[2:-1]))
        self._undecodable.cell(resource).value += 1

    def request(self, verb: str, target: Target) -> Request:
        """Measures what is done with it entered."""
        return Request(self._of(verb, target, long=False), 201 if verb == "POST" else 200)

    def stream(self, verb: str, target: Target) -> Request:
        """The same for a watch or a stream."""
        return Request(self._of(verb, target, long=True), 200)

    def events(self, target: Target, count: int) -> None:
        self._events.cell(target.group, target.version, target.resource).value += count

    def etcd(self, operation: str, seconds: float) -> None:
        self._etcd.series(operation, "").observe(seconds)

    def _of(self, verb: str, target: Target, *, long: bool) -> _Measured:
        if (target.api_version, target.resource) in self._resources:
            scope = "resource" if target.name else "namespace" if target.namespace else "cluster"
            named = (verb, target.api_version, target.resource, target.subresource, scope)
        else:
            named = (verb, "", "", "", "")
        measured = self._measured.get((long, named))
        if measured is None:
            measured = self._measured[long, named] = self._measure(verb, named, long=long)
        return measured

    def _measure(self, verb: str, named: tuple[str, ...], *, long: bool) -> _Measured:
        _, api_version, *rest = named
        group, _, version = api_version.rpartition("/")
        labels = (verb, group, version, *rest, "apiserver")
        running = self._long.cell(*labels) if long else self._running.cell(_kind_of(verb))
        seconds = None if long else self._seconds.series(*labels)
        return _Measured(running, seconds, lambda code: self._requests.cell(*labels, str(code)))


def _kind_of(verb: str) -> str:
    return "mutating" if verb in MUTATING else "readOnly"
