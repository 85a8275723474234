"""Ports and address ranges that nobody else on this machine uses.

Several clusters may live side by side, so each takes a slot k: pods in 10.(244-k).0.0/16 and services in
10.(96+k).0.0/16 with Docker; pods in 127.(64+k).0.0/16 and services in 127.(96+k).0.0/16 with plain processes, since
every address of 127.0.0.0/8 can be bound without a privilege. A slot is held by its cluster's supervisor through an
abstract Unix socket, which vanishes with the process.
"""

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

SLOTS = 24

PREFERRED_PORTS = {
    "apiserver": 7443,
    "apiserver-https": 6443,
    "apiserver-metrics": 7444,
    "scheduler": 10258,
    "scheduler-metrics": 10259,
    "controller-manager": 10256,
    "controller-manager-metrics": 10257,
    "cloud-controller-manager": 10262,
    "cloud-controller-manager-metrics": 10263,
    "proxy": 10248,
    "proxy-metrics": 10249,
    "proxy-dns": 10053,
    "etcd": 2379,
    "etcd-peer": 2380,
}
FIRST_KUBELET_PORT = 10300


@dataclass(frozen=True, slots=True)
class Ranges:
    slot: int
    cluster_cidr: str
    service_cidr: str
    cluster_dns: str


def ranges(slot: int, *, loopback: bool) -> Ranges:
    if loopback:
        pods, services = f"127.{64 + slot}.0.0/16", f"127.{96 + slot}.0.0/16"
    else:
        pods, services = f"10.{244 - slot}.0.0/16", f"10.{96 + slot}.0.0/16"
    return Ranges(slot, pods, services, str(ipaddress.ip_network(services)[10]))


def first_address(cidr: str) -> str:
    """The address of the Service `kubernetes`: the first of the service range."""
    return str(ipaddress.ip_network(cidr)[1])


def routed_networks() -> list[ipaddress.IPv4Network]:
    """The networks (default routes left out) that this machine has routes to; a Docker network is one of them."""
    found = []
    try:
        lines = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return []
    for line in lines:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask:
            found.append(ipaddress.IPv4Network((address, bin(mask).count("1"))))
    return found


def free_slot(*, loopback: bool) -> int:
    """The first slot whose ranges no route and no other cluster uses. Raises RuntimeError when all are taken."""
    routes = [] if loopback else routed_networks()
    for slot in range(SLOTS):
        wanted = ranges(slot, loopback=loopback)
        networks = [ipaddress.IPv4Network(wanted.cluster_cidr), ipaddress.IPv4Network(wanted.service_cidr)]
        if any(network.overlaps(route) for network in networks for route in routes):
            continue
        if (held := hold_slot(slot)) is not None:
            held.close()
            return slot
    raise RuntimeError(f"all {SLOTS} address ranges for local clusters are taken; stop one with `tiller down`")


def hold_slot(slot: int) -> socket.socket | None:
    """Takes the slot for as long as the socket is open; None when somebody has it."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0tillerman-network-{slot}")
    except OSError:
        held.close()
        return None
    return held


def choose_ports(nodes: list[str], preferred: dict[str, int] | None = None) -> dict[str, int]:
    """A port per purpose: the usual one where it is free, else any free one. Kubelets: "<node>", "<node>-metrics"."""
    wanted = dict(PREFERRED_PORTS)
    for i, node in enumerate(nodes):
        wanted[node] = FIRST_KUBELET_PORT + 2 * i
        wanted[f"{node}-metrics"] = FIRST_KUBELET_PORT + 2 * i + 1
    wanted.update(preferred or {})
    chosen: dict[str, int] = {}
    reserved: list[socket.socket] = []
    try:
        for purpose, port in wanted.items():
            held = bind(port) or bind(0)
            if held is None:
                raise RuntimeError(f"no free port for {purpose}")
            reserved.append(held)
            chosen[purpose] = held.getsockname()[1]
    finally:
        for held in reserved:
            held.close()
    return chosen


def bind(port: int) -> socket.socket | None:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind(("0.0.0.0", port))
    except OSError:
        held.close()
        return None
    return held


def primary_address() -> str:
    """The address that this machine's outgoing packets carry, or 127.0.0.1 without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
