"""Puts cluster DNS together and keeps its server on an address that pods reach.

With nftables that is the pod network's gateway (found again when the network is made anew), with userspace relays the
Service's own cluster IP.
"""

import asyncio
import errno
import ipaddress
from pathlib import Path

import structlog

from services.proxy.bridge import interface_addresses, pod_bridge
from services.proxy.dns.records import Source, Zone
from services.proxy.dns.server import DnsServer, Resolver
from services.proxy.dns.upstream import Upstream
from services.proxy.options import ProxyOptions
from services.proxy.watch import ServiceWatch

log = structlog.get_logger(__name__)

DNS_PORT = 53
# Taken when port 53 is not to be had.
UNPRIVILEGED_PORT = 10053
LOOK_SECONDS = 2.0


class ClusterDns:
    def __init__(self, options: ProxyOptions, mode: str, watch: ServiceWatch) -> None:
        self._options = options
        self._mode = mode
        networks = [ipaddress.IPv4Network(cidr) for cidr in (options.cluster_cidr,) if cidr]
        source = Source(watch.services.get, watch.services.list, watch.slices_of, watch.services_at, watch.slices_at)
        zone = Zone(options.cluster_domain, source, networks=networks)
        upstream = Upstream(resolv_conf=Path(options.resolv_conf), exclude=self._own_addresses)
        self.resolver = Resolver(zone, upstream)
        self._server: DnsServer | None = None

    def _own_addresses(self) -> set[str]:
        own = {self._options.cluster_dns}
        return own | {self._server.address} if self._server is not None else own

    def where(self) -> tuple[str, int]:
        """The server's address and port; ("", 0) before it runs."""
        return (self._server.address, self._server.port) if self._server is not None else ("", 0)

    def wanted_address(self) -> str:
        options = self._options
        if options.dns_bind:
            return options.dns_bind.rpartition(":")[0]
        network = options.pod_network
        if self._mode == "userspace" or network is None:
            return options.cluster_dns
        bridge = pod_bridge(network)
        # The first address is the gateway's by convention; it is bound before there is a bridge to ask.
        return str(interface_addresses()[bridge] if bridge else network[1])

    async def start(self) -> None:
        """Raises OSError when no port can be had."""
        address = self.wanted_address()
        wanted = int(self._options.dns_bind.rpartition(":")[2] or DNS_PORT)
        server = DnsServer(self.resolver)
        for port in dict.fromkeys((wanted, UNPRIVILEGED_PORT, 0)):
            try:
                await server.start(address, port)
                break
            except OSError as error:
                if port == 0 or error.errno not in (errno.EACCES, errno.EADDRINUSE):
                    raise
        self._server = server
        log.info("cluster DNS listens", address=server.address, port=server.port)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()

    async def run(self) -> None:
        """Moves the server when the pod network's gateway has another address than before."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._server is None or self._server.address == self.wanted_address():
                continue
            old = self._server
            try:
                await self.start()
            except OSError as error:
                log.warning("cluster DNS cannot move to the new gateway", error=str(error))
                continue
            await old.stop()
