"""The apiserver's metrics, under Kubernetes' names."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from services.apiserver.cache.hub import CacheHub
from services.apiserver.registry.registry import Target
from tillerman.api.scheme import SCHEME

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LABELS = ("verb", "group", "version", "resource", "subresource", "scope")
MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE", "DELETECOLLECTION"})


def _prefixes() -> list[tuple[str, str]]:
    return [
        (info.etcd_prefix, info.group_resource)
        for info in SCHEME.resources()
        if info.etcd_prefix and not info.same_storage_as
    ]


def _count(hub: CacheHub, prefix: str) -> float:
    return float(hub.count(prefix))


@dataclass(slots=True)
class Outcome:
    """``code``: the HTTP code that the request ended with."""

    code: int = 200


class Instrument:
    """Label combinations are bounded by the catalog: requests for unknown resources share one."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self._requests = Counter(
            "apiserver_request_total",
            "Requests by verb, resource and code.",
            (*LABELS, "component", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "apiserver_request_duration_seconds",
            "Seconds per request.",
            (*LABELS, "component"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._inflight = Gauge(
            "apiserver_current_inflight_requests", "Requests being served.", ("request_kind",), registry=registry
        )
        self._running = {kind: self._inflight.labels(kind) for kind in ("readOnly", "mutating")}
        self._long = Gauge(
            "apiserver_longrunning_requests", "Watches and streams.", (*LABELS, "component"), registry=registry
        )
        self._events = Counter(
            "apiserver_watch_events_total",
            "Events sent to watchers.",
            ("group", "version", "resource"),
            registry=registry,
        )
        self._etcd = Histogram(
            "etcd_request_duration_seconds",
            "Seconds per etcd call.",
            ("operation", "type"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._objects = Gauge("apiserver_storage_objects", "Objects stored.", ("resource",), registry=registry)
        self._known: dict[Any, Any] = {}
        self._resources: set[tuple[str, str]] = set()

    def allow(self, api_version: str, resource: str) -> None:
        """Names a resource that is served: it gets labels of its own."""
        self._resources.add((api_version, resource))

    def observe_storage(self, hub: CacheHub) -> None:
        """Counts the stored objects whenever metrics are read."""
        for prefix, resource in _prefixes():
            self._objects.labels(resource).set_function(partial(_count, hub, prefix))

    @contextlib.contextmanager
    def request(self, verb: str, target: Target) -> Iterator[Outcome]:
        labels = self._labels(verb, target)
        running = self._running["mutating" if verb in MUTATING else "readOnly"]
        running.inc()
        outcome = Outcome(201 if verb == "POST" else 200)
        began = time.perf_counter()
        try:
            yield outcome
        finally:
            running.dec()
            self._child(self._seconds, (*labels, "apiserver")).observe(time.perf_counter() - began)
            self._child(self._requests, (*labels, "apiserver", str(outcome.code))).inc()

    @contextlib.contextmanager
    def stream(self, verb: str, target: Target) -> Iterator[Outcome]:
        labels = (*self._labels(verb, target), "apiserver")
        gauge = self._child(self._long, labels)
        gauge.inc()
        outcome = Outcome()
        try:
            yield outcome
        finally:
            gauge.dec()
            self._child(self._requests, (*labels, str(outcome.code))).inc()

    def events(self, target: Target, count: int) -> None:
        self._child(self._events, (target.group, target.version, target.resource)).inc(count)

    def etcd(self, operation: str, seconds: float) -> None:
        self._child(self._etcd, (operation, "")).observe(seconds)

    def _labels(self, verb: str, target: Target) -> tuple[str, ...]:
        if (target.api_version, target.resource) not in self._resources:
            return (verb, "", "", "", "", "")
        scope = "resource" if target.name else "namespace" if target.namespace else "cluster"
        return (verb, target.group, target.version, target.resource, target.subresource, scope)

    def _child(self, metric: Any, labels: tuple[str, ...]) -> Any:
        # prometheus_client's own lookup takes a lock and several calls; this is on every request.
        key = (metric, labels)
        child = self._known.get(key)
        if child is None:
            child = self._known[key] = metric.labels(*labels)
        return child
