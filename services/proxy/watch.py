"""From watched objects to rules: one task that turns changes of Services, EndpointSlices and Nodes into syncs.

Informer handlers only note the Service's key. The task takes all noted keys at once, computes their ports and hands the
difference to the backend. While a sync runs, changes gather; so a burst becomes few syncs, and a lone change waits
for nothing but the short gathering time. What a failed sync left undone is tried again, with growing pauses.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from services.proxy import metrics
from services.proxy.bridge import is_local_address
from services.proxy.model import Endpoint, PortKey, ServicePort, Target, service_of, service_ports
from services.proxy.warmup import Warmup
from tillerman.api.meta import key_of
from tillerman.api.times import parse_rfc3339, to_seconds
from tillerman.client.informer import Informer, InformerFactory
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery

log = structlog.get_logger(__name__)

# A pod's readiness changes several objects within a few milliseconds: they go to the kernel together.
GATHER_SECONDS = 0.004
CHECK_SECONDS = 5.0
RETRY_SECONDS = (0.05, 5.0)
TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"
SERVICE_INDEX = "service"
ADDRESS_INDEX = "address"


class Backend(Protocol):
    """What carries the rules out: the kernel's table or userspace relays."""

    mode: str

    async def sync(self, changes: Mapping[PortKey, ServicePort | None]) -> None: ...

    async def check(self) -> None:
        """Repairs what others broke; called every few seconds."""

    async def close(self) -> None: ...


class ServiceWatch:
    """The current Services with their slices, and the loop that keeps a backend in step with them."""

    def __init__(
        self,
        factory: InformerFactory,
        *,
        on_service: Callable[[str], object],
        skip: Callable[[ServicePort], bool] = lambda port: False,
        own_address: Callable[[], str] = str,
    ) -> None:
        self.services: Informer[core.Service] = factory.informer(core.Service)
        self.slices: Informer[discovery.EndpointSlice] = factory.informer(discovery.EndpointSlice)
        self.nodes: Informer[core.Node] = factory.informer(core.Node)
        self.ports: dict[PortKey, ServicePort] = {}
        self.synced = asyncio.Event()
        self._on_service = on_service
        self._skip = skip
        self._warmup = Warmup(on_ready=self._again)
        self._own_address = own_address
        self._by_service: dict[str, set[PortKey]] = {}
        self._dirty: set[str] = set()
        self._triggers: dict[str, list[float]] = {}
        self._wake = asyncio.Event()
        self._local_nodes: set[str] = set()
        self._all_nodes: dict[str, tuple[str, ...]] = {}
        self.slices.add_index(SERVICE_INDEX, lambda s: filter(None, [service_of(s)]))
        self.slices.add_index(ADDRESS_INDEX, lambda s: {a for e in s.endpoints for a in e.addresses})
        self.services.add_index(ADDRESS_INDEX, lambda s: set(s.spec.clusterIPs) or {s.spec.clusterIP})
        self.services.add_handler(
            on_add=self._service_changed,
            on_update=lambda _, new: self._service_changed(new),
            on_delete=self._service_changed,
        )
        self.slices.add_handler(
            on_add=self._slice_changed,
            on_update=self._slice_updated,
            on_delete=self._slice_changed,
        )
        self.nodes.add_handler(
            on_add=self._node_changed,
            on_update=lambda _, new: self._node_changed(new),
            on_delete=self._node_gone,
        )

    # What others read

    def slices_of(self, service_key: str) -> list[discovery.EndpointSlice]:
        return self.slices.by_index(SERVICE_INDEX, service_key)

    def services_at(self, cluster_ip: str) -> list[core.Service]:
        return self.services.by_index(ADDRESS_INDEX, cluster_ip)

    def slices_at(self, address: str) -> list[discovery.EndpointSlice]:
        return self.slices.by_index(ADDRESS_INDEX, address)

    def node_addresses(self) -> list[str]:
        """The addresses of this machine's nodes."""
        return sorted({ip for name in self._local_nodes for ip in self._all_nodes.get(name, ())})

    def is_local(self, endpoint: Endpoint) -> bool:
        """True for endpoints on this machine. One that names no node counts as far, unless it is this process."""
        return endpoint.node in self._local_nodes or endpoint.address == self._own_address()

    # Handlers: note and return

    def _note(self, key: str) -> None:
        self._dirty.add(key)
        self._on_service(key)
        metrics.LAST_QUEUED.set_to_current_time()
        self._wake.set()

    def _again(self, key: str) -> None:
        self._dirty.add(key)
        self._wake.set()

    def _service_changed(self, service: core.Service) -> None:
        metrics.SERVICE_CHANGES.inc()
        self._note(key_of(service))

    def _slice_changed(self, slice_: discovery.EndpointSlice) -> None:
        metrics.ENDPOINT_CHANGES.inc()
        key = service_of(slice_)
        if key is None:
            return
        trigger = slice_.metadata.annotations.get(TRIGGER_ANNOTATION)
        if trigger and self.synced.is_set():
            try:
                self._triggers.setdefault(key, []).append(to_seconds(parse_rfc3339(trigger)))
            except ValueError:
                pass
        self._note(key)

    def _slice_updated(self, old: discovery.EndpointSlice, new: discovery.EndpointSlice) -> None:
        if (before := service_of(old)) is not None and before != service_of(new):
            self._note(before)
        self._slice_changed(new)

    def _node_changed(self, node: core.Node) -> None:
        name = node.metadata.name
        addresses = tuple(a.address for a in node.status.addresses if a.type in ("InternalIP", "ExternalIP"))
        if self._all_nodes.get(name) == addresses:
            return
        self._all_nodes[name] = addresses
        self._set_local(name, any(is_local_address(ip) for ip in addresses))

    def _node_gone(self, node: core.Node) -> None:
        self._all_nodes.pop(node.metadata.name, None)
        self._set_local(node.metadata.name, False)

    def _set_local(self, name: str, local: bool) -> None:
        if local == (name in self._local_nodes):
            return
        (self._local_nodes.add if local else self._local_nodes.discard)(name)
        for key in self.services.keys():  # noqa: SIM118 - an informer is no dict
            self._dirty.add(key)
        self._wake.set()

    # The loop

    async def run(self, backend: Backend) -> None:
        """Waits for the first lists, programs everything at once, then follows changes. Runs until cancelled."""
        for informer in (self.services, self.slices, self.nodes):
            await informer.synced.wait()
        self._dirty.update(self.services.keys())
        try:
            await self._follow(backend)
        finally:
            await self._warmup.stop()

    async def _follow(self, backend: Backend) -> None:
        pause = RETRY_SECONDS[0]
        while True:
            self._wake.clear()
            keys, self._dirty = self._dirty, set()
            triggers, self._triggers = self._triggers, {}
            try:
                await self._sync(backend, keys)
            except OSError as error:
                metrics.SYNC_FAILURES.inc()
                log.error("the rules could not be updated; trying again", error=str(error), seconds=pause)
                self._dirty |= keys
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_SECONDS[1])
                continue
            pause = RETRY_SECONDS[0]
            self._observe(triggers)
            self.synced.set()
            self._warmup.begin()
            await self._next(backend)

    async def _next(self, backend: Backend) -> None:
        while not self._wake.is_set():
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                try:
                    await backend.check()
                except OSError as error:
                    log.error("the rules could not be checked", error=str(error))
        await asyncio.sleep(GATHER_SECONDS)

    async def _sync(self, backend: Backend, keys: Iterable[str]) -> None:
        began = time.perf_counter()
        changes: dict[PortKey, ServicePort | None] = {}
        wanted_by_key = {key: self._wanted(key) for key in keys}
        for key, wanted in wanted_by_key.items():
            for gone in self._by_service.get(key, set()) - wanted.keys():
                changes[gone] = None
            changes.update((k, port) for k, port in wanted.items() if self.ports.get(k) != port)
        if changes or not self.synced.is_set():
            await backend.sync(changes)
            metrics.SYNC_DURATION.observe(time.perf_counter() - began)
            metrics.LAST_SYNC.set_to_current_time()
        for key, wanted in wanted_by_key.items():
            before = [self.ports[k] for k in self._by_service.get(key, ())]
            self._warmup.keep(key, all_targets(wanted.values()), all_targets(before))
            for gone in self._by_service.pop(key, set()) - wanted.keys():
                self.ports.pop(gone, None)
            if wanted:
                self._by_service[key] = set(wanted)
                self.ports.update(wanted)
        metrics.PORTS.set(len(self.ports))
        metrics.ENDPOINTS.set(sum(len(p.targets) for p in self.ports.values()))
        metrics.ENDPOINTS_PENDING.set(len(self._dirty))

    def _wanted(self, key: str) -> dict[PortKey, ServicePort]:
        service = self.services.get(key)
        if service is None:
            return {}
        ports = service_ports(service, self.slices_of(key), is_local=self.is_local, is_held=self._is_held)
        return {k: port for k, port in ports.items() if not self._skip(port)}

    def _is_held(self, key: PortKey, endpoint: Endpoint) -> bool:
        if key.protocol != "TCP" or not self.is_local(endpoint):
            return False
        return self._warmup.is_held(f"{key.namespace}/{key.service}", endpoint.target)

    @staticmethod
    def _observe(triggers: Mapping[str, list[float]]) -> None:
        now = time.time()
        for times in triggers.values():
            for at in times:
                metrics.PROGRAMMING_DURATION.observe(max(0.0, now - at))


def all_targets(ports: Iterable[ServicePort]) -> set[Target]:
    """The ready endpoints of the ports, in use or held."""
    return {e.target for port in ports for e in port.endpoints if e.ready}
