"""The proxy's flags."""

import ipaddress
from dataclasses import dataclass

from tillerman.service.options import OptionsError, ServiceOptions, option


@dataclass(kw_only=True)
class ProxyOptions(ServiceOptions):
    """Programs Services into the kernel (or relays them in userspace) and answers cluster DNS."""

    mode: str = option("auto", help="nftables, userspace, or auto: nftables where this process may program the kernel.")
    table: str = option("tillerman", help="Name of the proxy's own nftables table.")
    cluster_cidr: str = option("", help="Addresses of all pods.")
    cluster_dns: str = option("", help="Cluster IP of DNS; empty serves no DNS.")
    cluster_domain: str = option("cluster.local", help="Domain of the cluster's names.")
    dns_bind: str = option(
        "", help="address:port on which DNS listens; by default the pod network's gateway, or the cluster IP itself."
    )
    node_port_addresses: list[str] = option(
        [], help="Networks (CIDR) on whose addresses NodePorts answer; default all."
    )
    resolv_conf: str = option("/etc/resolv.conf", help="Where the resolvers for all other names are found.")
    cleanup: bool = option(False, help="Remove the table and the firewall rules of this proxy, and exit.")

    def check(self) -> None:
        if self.mode not in ("auto", "nftables", "userspace"):
            raise OptionsError(f'--mode: "{self.mode}" is none of auto, nftables, userspace')
        for flag, value in (
            ("--cluster-cidr", self.cluster_cidr),
            *(("--node-port-addresses", v) for v in self.node_port_addresses),
        ):
            try:
                if value:
                    ipaddress.IPv4Network(value)
            except ValueError as error:
                raise OptionsError(f"{flag}: {error}") from error
        if self.cluster_dns:
            try:
                ipaddress.IPv4Address(self.cluster_dns)
            except ValueError as error:
                raise OptionsError(f"--cluster-dns: {error}") from error
        host, _, port = self.dns_bind.rpartition(":")
        if self.dns_bind and not (host and port.isdigit()):
            raise OptionsError(f'--dns-bind: "{self.dns_bind}" is no address:port')
        if not self.cleanup:
            super().check()

    @property
    def pod_network(self) -> ipaddress.IPv4Network | None:
        return ipaddress.IPv4Network(self.cluster_cidr) if self.cluster_cidr else None

    @property
    def node_port_networks(self) -> tuple[ipaddress.IPv4Network, ...]:
        return tuple(ipaddress.IPv4Network(cidr) for cidr in self.node_port_addresses)
