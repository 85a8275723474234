"""Fixtures of the proxy's integration tests."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from proxy_machine import GATEWAY, HOST_OUTSIDE, OUTSIDE, Machine, Namespace, ip, run


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    name = f"tlm{secrets.token_hex(3)}"
    host, outside = Namespace(f"{name}h", HOST_OUTSIDE), Namespace(f"{name}o", OUTSIDE)
    made = Machine(host, outside, [host.name, outside.name])
    try:
        for namespace in (host, outside):
            ip("netns", "add", namespace.name)
            ip("-n", namespace.name, "link", "set", "lo", "up")
        ip("-n", host.name, "link", "add", "br0", "type", "bridge")
        ip("-n", host.name, "addr", "add", f"{GATEWAY}/16", "dev", "br0")
        ip("-n", host.name, "link", "set", "br0", "up")
        ip("-n", host.name, "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", outside.name)
        ip("-n", host.name, "addr", "add", f"{HOST_OUTSIDE}/24", "dev", "out")
        ip("-n", host.name, "link", "set", "out", "up")
        ip("-n", outside.name, "addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
        ip("-n", outside.name, "link", "set", "eth0", "up")
        ip("-n", outside.name, "route", "add", "default", "via", HOST_OUTSIDE)
        # Cluster IPs have to be routed somewhere for the host's own connections to reach the output hook.
        ip("-n", host.name, "route", "add", "default", "via", OUTSIDE)
        host.write("/proc/sys/net/ipv4/ip_forward", "1")
        host.write("/proc/sys/net/ipv4/conf/br0/route_localnet", "1")
        with host.inside():
            try:
                made.bridge_netfilter = Path("/proc/sys/net/bridge/bridge-nf-call-iptables").read_text().strip() == "1"
            except OSError:
                made.bridge_netfilter = False
        yield made
    finally:
        for server in made.servers:
            server.close()
        for namespace_name in made.names:
            run("ip", "netns", "del", namespace_name, check=False)
