"""Rules for port numbers, port names and other small values of the network."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from services.apiserver.strategy.causes import Cause, invalid, invalid_all
from tillerman.api.validation import max_length

PROTOCOLS = ("SCTP", "TCP", "UDP")
BAD_IP = "must be a valid IP address"
# As Kubernetes says it where it checks an address alone.
BAD_IP_LONG = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
PORT_RANGE = "must be between 1 and 65535, inclusive"


def port_number(path: str, port: int) -> list[Cause]:
    return [] if 1 <= port <= 65535 else [invalid(path, port, PORT_RANGE)]


def port_name(name: str) -> list[str]:
    """What is wrong with an IANA service name."""
    problems = [max_length(15)] if len(name) > 15 else []
    if not re.fullmatch("[-a-z0-9]+", name):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", name):
        problems.append("must contain at least one letter or number (a-z, 0-9)")
    if "--" in name:
        problems.append("must not contain consecutive hyphens")
    if name and (name[0] == "-" or name[-1] == "-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def port_number_or_name(path: str, port: Any) -> list[Cause]:
    """An IntOrString that names a port."""
    if port.type == 1:
        return invalid_all(path, port.strVal, port_name(port.strVal))
    return port_number(path, port.intVal)


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def parse_cidr(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A network; host bits may be set, as in Kubernetes."""
    if "/" not in text:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
