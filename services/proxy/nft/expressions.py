"""The nf_tables objects that the proxy uses (tables, chains, sets, elements, rules) as netlink messages.

Registers are the kernel's 4-byte ones, 8 to 23. Numbers in keys are either network order (addresses, ports) or the
host's (`number`), as the kernel's expressions produce them.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from services.proxy.nft.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    Message,
    attribute,
    nested,
    text,
    u32,
    u64,
)

NEWTABLE, GETTABLE, DELTABLE = 0, 1, 2
NEWCHAIN, DELCHAIN = 3, 5
NEWRULE = 6
NEWSET = 9
NEWSETELEM, GETSETELEM, DELSETELEM = 12, 13, 14

HOOK_PREROUTING, HOOK_OUTPUT, HOOK_POSTROUTING = 0, 3, 4

# nft's own numbers of data types, so that `nft list table` prints addresses as addresses.
TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT, TYPE_NUMBER = 7, 12, 13, 19
DATA_VERDICT = 0xFFFFFF00

SET_MAP, SET_TIMEOUT, SET_EVAL = 0x8, 0x10, 0x20

NF_DROP = 0
GOTO = -4

CT_STATE_NEW = 1 << 3
CT_STATUS_DNAT = 1 << 5
RTN_LOCAL = 2

# Elements per message: an attribute list holds at most 64 KiB.
ELEMENTS_PER_MESSAGE = 400


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verdict map answers: go to a chain, or drop when chain is empty."""

    chain: str = ""


Data = bytes | Verdict | None


def number(value: int) -> bytes:
    """A number as `numgen` and maps of numbers hold it: four bytes in the machine's order."""
    return struct.pack("=I", value)


def address(value: str) -> bytes:
    return IPv4Address(value).packed


def port(value: int) -> bytes:
    return struct.pack("!H2x", value)


def protocol(value: int) -> bytes:
    return struct.pack("=B3x", value)


# Objects


def new_table(table: str) -> Message:
    return Message(NEWTABLE, NLM_F_CREATE, text(1, table), f"table {table}")


def delete_table(table: str) -> Message:
    return Message(DELTABLE, 0, text(1, table), f"delete table {table}")


def new_chain(table: str, name: str) -> Message:
    return Message(NEWCHAIN, NLM_F_CREATE, text(1, table) + text(3, name), f"chain {name}")


def new_base_chain(table: str, name: str, *, kind: str, hook: int, priority: int) -> Message:
    place = nested(4, u32(1, hook), u32(2, priority))
    return Message(NEWCHAIN, NLM_F_CREATE, text(1, table) + text(3, name) + place + text(7, kind), f"chain {name}")


def delete_chain(table: str, name: str) -> Message:
    return Message(DELCHAIN, 0, text(1, table) + text(3, name), f"delete chain {name}")


def new_rule(table: str, chain: str, expressions: Iterable[bytes]) -> Message:
    body = text(1, table) + text(2, chain) + nested(4, *expressions)
    return Message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body, f"rule in {chain}")


@dataclass(frozen=True, slots=True)
class SetType:
    """A set (no data) or map. Types are tuples of nft type numbers; every field takes four bytes."""

    name: str
    key: tuple[int, ...]
    data: tuple[int, ...] = ()
    verdicts: bool = False
    dynamic: bool = False
    size: int = 0


def concatenated(types: tuple[int, ...]) -> int:
    combined = 0
    for kind in types:
        combined = combined << 6 | kind
    return combined


def new_set(table: str, kind: SetType, set_id: int) -> Message:
    flags = (SET_MAP if kind.data or kind.verdicts else 0) | (SET_EVAL | SET_TIMEOUT if kind.dynamic else 0)
    body = text(1, table) + text(2, kind.name) + u32(3, flags)
    body += u32(4, concatenated(kind.key)) + u32(5, 4 * len(kind.key))
    if kind.verdicts:
        body += u32(6, DATA_VERDICT) + u32(7, 0)
    elif kind.data:
        body += u32(6, concatenated(kind.data)) + u32(7, 4 * len(kind.data))
    if kind.size:
        body += nested(9, u32(1, kind.size))
    return Message(NEWSET, NLM_F_CREATE, body + u32(10, set_id), f"set {kind.name}")


def elements(table: str, name: str, items: Iterable[tuple[bytes, Data]], *, delete: bool = False) -> list[Message]:
    """The messages that add (or delete) these (key, data) elements."""
    messages = []
    encoded = [element(key, None if delete else data) for key, data in items]
    for start in range(0, len(encoded), ELEMENTS_PER_MESSAGE):
        body = text(1, table) + text(2, name) + nested(3, *encoded[start : start + ELEMENTS_PER_MESSAGE])
        kind, flags = (DELSETELEM, 0) if delete else (NEWSETELEM, NLM_F_CREATE)
        messages.append(Message(kind, flags, body, f"{'delete ' if delete else ''}elements of {name}"))
    return messages


def element(key: bytes, data: Data) -> bytes:
    parts = nested(1, attribute(1, key))
    if isinstance(data, Verdict):
        parts += nested(2, verdict_data(data))
    elif data is not None:
        parts += nested(2, attribute(1, data))
    return nested(1, parts)


def verdict_data(verdict: Verdict) -> bytes:
    if verdict.chain:
        return nested(2, u32(1, GOTO), text(2, verdict.chain))
    return nested(2, u32(1, NF_DROP))


# Expressions of rules


def expression(name: str, *data: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *data))


def load_source_address(register: int) -> bytes:
    return expression("payload", u32(1, register), u32(2, 1), u32(3, 12), u32(4, 4))


def load_destination_address(register: int) -> bytes:
    return expression("payload", u32(1, register), u32(2, 1), u32(3, 16), u32(4, 4))


def load_destination_port(register: int) -> bytes:
    return expression("payload", u32(1, register), u32(2, 2), u32(3, 2), u32(4, 2))


def load_protocol(register: int) -> bytes:
    return expression("meta", u32(1, register), u32(2, 16))


def load_input_interface(register: int) -> bytes:
    """The interface's name: 16 bytes, four registers."""
    return expression("meta", u32(1, register), u32(2, 6))


def load_conntrack_status(register: int) -> bytes:
    return expression("ct", u32(1, register), u32(2, 2))


def load_conntrack_state(register: int) -> bytes:
    return expression("ct", u32(1, register), u32(2, 0))


def load_original_destination(register: int) -> bytes:
    return expression("ct", u32(1, register), u32(2, 20), attribute(3, b"\0"))


def load_original_port(register: int) -> bytes:
    return expression("ct", u32(1, register), u32(2, 12), attribute(3, b"\0"))


def load_address_type(register: int, *, source: bool) -> bytes:
    return expression("fib", u32(1, register), u32(2, 3), u32(3, 1 if source else 2))


def next_number(register: int, *, modulus: int, offset: int = 0) -> bytes:
    """Counts 0, 1 … modulus-1, 0 … (plus offset), one step per new connection."""
    return expression("numgen", u32(1, register), u32(2, modulus), u32(3, 0), u32(4, offset))


def load_constant(register: int, value: bytes) -> bytes:
    return expression("immediate", u32(1, register), nested(2, attribute(1, value)))


def compare(register: int, value: bytes, *, equal: bool = True) -> bytes:
    return expression("cmp", u32(1, register), u32(2, 0 if equal else 1), nested(3, attribute(1, value)))


def mask(register: int, bits: bytes) -> bytes:
    zero = nested(5, attribute(1, b"\0" * len(bits)))
    return expression(
        "bitwise", u32(1, register), u32(2, register), u32(3, len(bits)), nested(4, attribute(1, bits)), zero
    )


def in_network(register: int, network: IPv4Network, *, inside: bool = True) -> list[bytes]:
    """Tests the address in the register, and overwrites it."""
    narrowed = [mask(register, network.netmask.packed)] if network.prefixlen < 32 else []
    return [*narrowed, compare(register, network.network_address.packed, equal=inside)]


def lookup(set_name: str, key: int, into: int | None = None) -> bytes:
    """Leaves the rule when the key is not in the set; `into` 0 is the verdict register."""
    return expression("lookup", text(1, set_name), u32(2, key), *([u32(3, into)] if into is not None else []))


def remember(set_name: str, key: int, data: int, *, seconds: int) -> bytes:
    """Adds key -> data, or renews the element's time when the key is there."""
    return expression("dynset", text(1, set_name), u32(3, 1), u32(4, key), u32(5, data), u64(6, seconds * 1000))


def destination_nat(address_register: int, port_register: int) -> bytes:
    return expression("nat", u32(1, 1), u32(2, 2), u32(3, address_register), u32(5, port_register))


def masquerade() -> bytes:
    return expression("masq")


def reset_tcp() -> bytes:
    return expression("reject", u32(1, 1))


def port_unreachable() -> bytes:
    return expression("reject", u32(1, 0), attribute(2, b"\x03"))


def verdict(value: Verdict) -> bytes:
    return expression("immediate", u32(1, 0), nested(2, verdict_data(value)))
