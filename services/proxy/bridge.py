"""What the kernel needs besides the proxy's table, on the bridge that carries the pods.

- hairpin mode on every port, so that a pod's connection to its own Service may go back out where it came in;
- route_localnet, so that NodePorts answer on 127.0.0.1 (the table's guard keeps everybody else off 127.0.0.0/8);
- routes to Service addresses on a machine without a network, where the host's own connections to them would fail
  before they reach the table;
- a rule in Docker's DOCKER-USER chain, since Docker drops what is forwarded to its networks from outside.

The first three vanish with the bridge; `remove_forward_rules` removes the rule. A netlink socket tells of new ports, so
that a new pod's port is set up within milliseconds. One task runs `BridgeKeeper.run`.
"""

import asyncio
import fcntl
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

SIOCGIFADDR = 0x8915
RTMGRP_LINK, RTMGRP_IPV4_IFADDR = 0x1, 0x10
NETWORKS = Path("/sys/class/net")
SYSCTL = Path("/proc/sys/net")

# Without news from netlink the bridge is looked at again after so many seconds.
RESWEEP_SECONDS = 10.0
# Docker keeps DOCKER-USER as it is; somebody else may have emptied it.
RECHECK_RULES_SECONDS = 60.0


def interface_addresses() -> dict[str, ipaddress.IPv4Address]:
    """The first IPv4 address of every interface."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            found[name] = ipaddress.IPv4Address(answer[20:24])
    return found


def is_local_address(value: str) -> bool:
    """True when this machine has the address (it can be bound)."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((value, 0))
    except OSError:
        return False
    return True


def pod_bridge(cluster_cidr: ipaddress.IPv4Network) -> str | None:
    """The bridge with an address among the pods', if it is there already."""
    for name, address in interface_addresses().items():
        if address in cluster_cidr and (NETWORKS / name / "bridge").exists():
            return name
    return None


def bridge_netfilter() -> bool:
    """True when packets between two ports of a bridge pass through netfilter."""
    try:
        return (SYSCTL / "bridge" / "bridge-nf-call-iptables").read_text().strip() == "1"
    except OSError:
        return False


def write(path: Path, value: str) -> None:
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except OSError as error:
        if path.exists():
            log.warning("cannot set", path=str(path), value=value, error=str(error))


class BridgeKeeper:
    """`on_change` is called with bridge-netfilter's state at first and when it changes. The /16 around `cluster_dns` is
    taken for the range of cluster IPs."""

    def __init__(
        self,
        cluster_cidr: ipaddress.IPv4Network,
        *,
        comment: str,
        on_change: Callable[[bool], object],
        cluster_dns: str = "",
        external_ips: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._cidr = cluster_cidr
        self._comment = comment
        self._on_change = on_change
        self._cluster_dns = cluster_dns
        self._external_ips = external_ips
        self._netfilter: bool | None = None
        self._rules_until = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as news:
            news.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR))
            news.setblocking(False)
            loop.add_reader(news.fileno(), self._drain, news, changed)
            try:
                while True:
                    changed.clear()
                    self.sweep()
                    await self._route_services()
                    if loop.time() >= self._rules_until and await asyncio.to_thread(
                        allow_forwarding, self._cidr, self._comment
                    ):
                        self._rules_until = loop.time() + RECHECK_RULES_SECONDS
                    try:
                        async with asyncio.timeout(RESWEEP_SECONDS):
                            await changed.wait()
                    except TimeoutError:
                        pass
            finally:
                loop.remove_reader(news.fileno())

    @staticmethod
    def _drain(news: socket.socket, changed: asyncio.Event) -> None:
        try:
            while news.recv(1 << 16):
                changed.set()
        except BlockingIOError:
            pass
        except OSError:
            changed.set()  # the socket overflowed: look at everything

    def sweep(self) -> None:
        """Sets up the bridge and all its ports."""
        write(SYSCTL / "ipv4" / "ip_forward", "1")
        netfilter = bridge_netfilter()
        if netfilter != self._netfilter:
            self._netfilter = netfilter
            self._on_change(netfilter)
        bridge = pod_bridge(self._cidr)
        if bridge is None:
            return
        write(SYSCTL / "ipv4" / "conf" / bridge / "route_localnet", "1")
        try:
            ports = os.listdir(NETWORKS / bridge / "brif")
        except OSError:
            return
        for port in ports:
            write(NETWORKS / bridge / "brif" / port / "hairpin_mode", "1")

    async def _route_services(self) -> None:
        if not self._cluster_dns or is_routed(self._cluster_dns) or (bridge := pod_bridge(self._cidr)) is None:
            return
        wanted = [f"{self._cluster_dns}/16", *(f"{ip}/32" for ip in self._external_ips() if not is_routed(ip))]
        networks = [str(ipaddress.IPv4Network(address, strict=False)) for address in wanted]
        try:
            await asyncio.to_thread(add_routes, bridge, networks)
        except OSError as error:
            log.warning("no route to Service addresses", error=str(error), networks=networks)


def is_routed(address: str) -> bool:
    """True when a packet to the address would leave this machine somewhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return False
    return True


def add_routes(bridge: str, networks: Iterable[str]) -> None:
    """Routes that end with the bridge. Raises OSError."""
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as routes:
        for network in networks:
            try:
                routes.route("replace", dst=network, oif=socket.if_nametoindex(bridge))
            except NetlinkError as error:
                raise OSError(error.code, f"{network} dev {bridge}: {error}") from error


def forward_rules(cidr: ipaddress.IPv4Network, comment: str) -> list[list[str]]:
    """What DOCKER-USER must let through: redirected connections to pods, and traffic between pods of two machines."""
    marked = ["-m", "comment", "--comment", comment]
    return [
        ["-d", str(cidr), "-m", "conntrack", "--ctstate", "DNAT", *marked, "-j", "ACCEPT"],
        ["-s", str(cidr), "-d", str(cidr), *marked, "-j", "ACCEPT"],
        ["-s", str(cidr), "-m", "conntrack", "--ctstate", "DNAT", *marked, "-j", "ACCEPT"],
    ]


def iptables(*arguments: str) -> bool:
    return subprocess.run(["iptables", "-w", "5", *arguments], capture_output=True, check=False).returncode == 0


def allow_forwarding(cidr: ipaddress.IPv4Network, comment: str) -> bool:
    """Adds the missing forward rules. True also where there is no DOCKER-USER chain and so nothing to do."""
    if shutil.which("iptables") is None or not iptables("-n", "-L", "DOCKER-USER"):
        return True
    done = True
    for rule in forward_rules(cidr, comment):
        if not iptables("-C", "DOCKER-USER", *rule):
            done = iptables("-I", "DOCKER-USER", *rule) and done
    if not done:
        log.warning(
            "could not add the forward rules to DOCKER-USER; NodePorts may not be reachable from other machines"
        )
    return done


def remove_forward_rules(cidr: ipaddress.IPv4Network, comment: str) -> int:
    """Removes what allow_forwarding added; returns how many rules that were."""
    removed = 0
    if shutil.which("iptables") is None:
        return removed
    for rule in forward_rules(cidr, comment):
        while iptables("-D", "DOCKER-USER", *rule):
            removed += 1
    return removed
