"""Listens on Service addresses and relays: the service proxy of machines where the kernel cannot be programmed.

Cluster IPs have to be addresses that can be bound: `tiller up` takes them from 127.0.0.0/8 in this mode. A port without
endpoints has no listener, so clients are refused at once. What cannot be bound is reported once, and tried again every
few seconds. Runs in the event loop; one caller at a time (the sync loop).
"""

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from services.proxy.model import PortKey, ServicePort, Target
from services.proxy.userspace.balancer import Balancer
from services.proxy.userspace.tcp import TcpRelay
from services.proxy.userspace.udp import UdpRelay

log = structlog.get_logger(__name__)

Relay = TcpRelay | UdpRelay


@dataclass(frozen=True, slots=True)
class Listener:
    """Where one Service port has to be listened for."""

    address: str
    port: int
    protocol: str


class UserspaceBackend:
    """`report(service_key, reason, message)` is called once for what cannot be listened on."""

    mode = "userspace"

    def __init__(
        self,
        *,
        node_addresses: Callable[[], list[str]],
        report: Callable[[PortKey, str, str], object],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node_addresses = node_addresses
        self._report = report
        self._now = now
        self._ports: dict[PortKey, ServicePort] = {}
        self._balancers: dict[PortKey, Balancer] = {}
        self._relays: dict[Listener, tuple[PortKey, Relay]] = {}
        self._draining: list[Relay] = []
        self._reported: set[Listener] = set()

    async def sync(self, changes: Mapping[PortKey, ServicePort | None]) -> None:
        for key, port in changes.items():
            if port is None:
                self._ports.pop(key, None)
                self._balancers.pop(key, None)
            else:
                self._ports[key] = port
                balancer = self._balancers.setdefault(key, Balancer(now=self._now))
                balancer.set(port.targets, port.affinity_seconds)
        await self._listen()
        for key, relay in self._relays.values():
            if key in changes:
                relay.targets_changed()

    async def check(self) -> None:
        """Tries again what could not be bound and lets idle flows and clients go."""
        await self._listen()
        for _, relay in self._relays.values():
            relay.expire()
        self._draining = [r for r in self._draining if isinstance(r, TcpRelay) and r.fronts]

    async def close(self) -> None:
        for _, relay in self._relays.values():
            relay.abort()
        for relay in self._draining:
            relay.abort()
        self._relays.clear()

    def _wanted(self) -> dict[Listener, PortKey]:
        wanted: dict[Listener, PortKey] = {}
        nodes = list(dict.fromkeys(["127.0.0.1", *self._node_addresses()]))
        for key, port in self._ports.items():
            if not port.targets or key.protocol not in ("TCP", "UDP"):
                continue
            places: list[Target] = [(ip, port.port) for ip in port.addresses]
            if port.node_port:
                places += [(ip, port.node_port) for ip in nodes]
            for address, number in places:
                wanted.setdefault(Listener(address, number, key.protocol), key)
        return wanted

    async def _listen(self) -> None:
        wanted = self._wanted()
        for listener, (key, relay) in list(self._relays.items()):
            if wanted.get(listener) != key:
                del self._relays[listener]
                relay.close()
                self._draining.append(relay)
        for listener, key in wanted.items():
            if listener in self._relays:
                continue
            relay = self._relay(listener, key)
            try:
                await relay.listen(listener.address, listener.port)
            except OSError as error:
                self._cannot(listener, key, error)
                continue
            self._relays[listener] = (key, relay)
            self._reported.discard(listener)

    def _relay(self, listener: Listener, key: PortKey) -> Relay:
        balancer = self._balancers[key]
        return TcpRelay(balancer) if listener.protocol == "TCP" else UdpRelay(balancer, now=self._now)

    def _cannot(self, listener: Listener, key: PortKey, error: OSError) -> None:
        if listener in self._reported:
            return
        self._reported.add(listener)
        where = f"{listener.address}:{listener.port}/{listener.protocol}"
        advice = {
            errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; give the Service a higher port",
            errno.EADDRNOTAVAIL: "this machine does not have the address; the userspace proxy needs cluster IPs it can "
            "bind, such as a --service-cluster-ip-range in 127.0.0.0/8",
            errno.EADDRINUSE: "another process listens there; stop it or choose another port",
        }.get(error.errno or 0, error.strerror or str(error))
        log.warning("cannot listen", service=str(key), address=where, error=advice)
        self._report(key, "FailedToListen", f"cannot listen on {where}: {advice}")
