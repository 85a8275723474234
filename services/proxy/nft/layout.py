"""What the proxy's nftables table looks like: its fixed maps and chains, and the elements that one Service port needs.

Pure: everything here returns messages or elements, nothing touches the kernel.

    prerouting, output   address . protocol . port --services--> go to the chain of its endpoint count
                         protocol . port --node_ports--> the same, for destinations that are this machine
    chain spread-3       count 0, 1, 2, 0 … --> slot;  slot . address . protocol . port --endpoints--> DNAT
    chain sticky-3       source . address . protocol . port --affinity--> DNAT, else as above
    record               what a connection to a sticky Service got goes into `affinity`, for its Service's timeout
    postrouting          masquerade only what would not come back here: hairpin, loopback sources, far endpoints

NodePorts use the address 0.0.0.0 in keys. Outside traffic to a Service with externalTrafficPolicy Local looks first in
`services_outside` and `node_ports_outside`, whose chains take slots of their own.

A chain exists per number of endpoints in use, times LANES: Services in one lane share a counter, and two Services that
one client calls in turn would otherwise get every second endpoint only.

No packet mark is used. A lookup's result is never part of another lookup's key: the kernel can, but `nft list ruleset`
of nft 1.0.6 aborts on it.
"""

import ipaddress
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from services.proxy.model import ServicePort
from services.proxy.nft import expressions as nf
from services.proxy.nft.netlink import Message

ADDRESS, PROTOCOL, PORT, NUMBER = nf.TYPE_ADDRESS, nf.TYPE_PROTOCOL, nf.TYPE_PORT, nf.TYPE_NUMBER

WHERE = (ADDRESS, PROTOCOL, PORT)
SERVICES = nf.SetType("services", WHERE, verdicts=True)
SERVICES_OUTSIDE = nf.SetType("services_outside", WHERE, verdicts=True)
NODE_PORTS = nf.SetType("node_ports", (PROTOCOL, PORT), verdicts=True)
NODE_PORTS_OUTSIDE = nf.SetType("node_ports_outside", (PROTOCOL, PORT), verdicts=True)
ENDPOINTS = nf.SetType("endpoints", (NUMBER, *WHERE), (ADDRESS, PORT))
AFFINITY = nf.SetType("affinity", (ADDRESS, *WHERE), (ADDRESS, PORT), dynamic=True, size=1 << 18)
STICKY = nf.SetType("sticky", WHERE, verdicts=True)
CLUSTER_IPS = nf.SetType("cluster_ips", (ADDRESS,))
HAIRPIN = nf.SetType("hairpin", (ADDRESS, ADDRESS))
REMOTE = nf.SetType("remote", (ADDRESS,))
SETS = (
    SERVICES,
    SERVICES_OUTSIDE,
    NODE_PORTS,
    NODE_PORTS_OUTSIDE,
    ENDPOINTS,
    AFFINITY,
    STICKY,
    CLUSTER_IPS,
    HAIRPIN,
    REMOTE,
)

LANES = 8
# The slots of endpoints for outside traffic under externalTrafficPolicy Local lie above all others.
OUTSIDE_SLOTS = 1 << 16
NO_ENDPOINTS = nf.Verdict("no-endpoints")
DROP = nf.Verdict()
ANY_ADDRESS = "0.0.0.0"

TCP, UDP = 6, 17

# Registers, laid out so that every lookup key is a run of neighbours: slot or source, then where.
FIRST, ADDRESS_KEY, PROTOCOL_KEY, PORT_KEY, TO_ADDRESS, TO_PORT, SCRATCH = 8, 9, 10, 11, 12, 13, 14

ElementKey = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class SpreadChain:
    """Spreads new connections over `count` endpoints, `lane` being its copy."""

    count: int
    lane: int
    sticky: bool = False
    outside: bool = False
    node_port: bool = False

    @property
    def name(self) -> str:
        where = ("-outside" if self.outside else "") + ("-node" if self.node_port else "")
        return f"{'sticky' if self.sticky else 'spread'}{where}-{self.count}-{self.lane}"


@dataclass(frozen=True, slots=True)
class RecordChain:
    """Remembers which endpoint a client got, for so many seconds."""

    seconds: int
    node_port: bool

    @property
    def name(self) -> str:
        return f"record{'-node' if self.node_port else ''}-{self.seconds}"


Chain = SpreadChain | RecordChain


@dataclass(frozen=True, slots=True)
class Plan:
    """What one Service port puts into the table."""

    elements: dict[ElementKey, nf.Data]
    chains: frozenset[Chain]


@dataclass(frozen=True, slots=True)
class TableOptions:
    """`masquerade_pods`: the bridge hands pods' replies to each other past this machine's conntrack (no br_netfilter),
    so traffic between pods has to be masqueraded too."""

    table: str
    cluster_cidr: ipaddress.IPv4Network | None = None
    node_port_networks: tuple[ipaddress.IPv4Network, ...] = ()
    masquerade_pods: bool = False


def plan(port: ServicePort) -> Plan:
    """The elements and chains for one Service port."""
    elements, chains = dict[ElementKey, nf.Data](), set[Chain]()
    lane = zlib.crc32(str(port.key).encode()) % LANES
    proto = nf.protocol(port.protocol_number)
    for ip in port.cluster_ips:
        elements[CLUSTER_IPS.name, nf.address(ip)] = None
    for address, _ in (*port.targets, *port.outside_targets):
        elements[HAIRPIN.name, nf.address(address) * 2] = None
        if address in port.remote:
            elements[REMOTE.name, nf.address(address)] = None

    def spread(address: str, number: int, *, outside: bool) -> nf.Verdict:
        targets = port.outside_targets if outside else port.targets
        if not targets:
            # Refused, but dropped where endpoints exist elsewhere, so that a load balancer tries another machine.
            return DROP if outside and port.remote else NO_ENDPOINTS
        where = nf.address(address) + proto + nf.port(number)
        for slot, (to, to_port) in enumerate(targets, OUTSIDE_SLOTS if outside else 0):
            elements[ENDPOINTS.name, nf.number(slot) + where] = nf.address(to) + nf.port(to_port)
        node_port = address == ANY_ADDRESS
        chain = SpreadChain(len(targets), lane, port.affinity_seconds > 0, outside, node_port)
        chains.add(chain)
        if port.affinity_seconds:
            record = RecordChain(port.affinity_seconds, node_port)
            chains.add(record)
            elements[STICKY.name, where] = nf.Verdict(record.name)
        return nf.Verdict(chain.name)

    for ip in port.addresses:
        key = nf.address(ip) + proto + nf.port(port.port)
        elements[SERVICES.name, key] = spread(ip, port.port, outside=False)
        if ip in port.external_ips and port.outside_targets != port.targets:
            elements[SERVICES_OUTSIDE.name, key] = spread(ip, port.port, outside=True)
    if port.node_port:
        key = proto + nf.port(port.node_port)
        elements[NODE_PORTS.name, key] = spread(ANY_ADDRESS, port.node_port, outside=False)
        if port.outside_targets != port.targets:
            elements[NODE_PORTS_OUTSIDE.name, key] = spread(ANY_ADDRESS, port.node_port, outside=True)
    return Plan(elements, frozenset(chains))


def skeleton(options: TableOptions) -> list[Message]:
    """The messages that make a fresh table with its sets, base chains and their rules. The table must not exist."""
    table = options.table
    messages = [nf.new_table(table)]
    messages += [nf.new_set(table, kind, i) for i, kind in enumerate(SETS, 1)]
    messages.append(nf.new_chain(table, NO_ENDPOINTS.chain))
    messages.append(nf.new_rule(table, NO_ENDPOINTS.chain, refuse_tcp()))
    messages.append(nf.new_rule(table, NO_ENDPOINTS.chain, [nf.port_unreachable()]))
    for name, hook in (("prerouting", nf.HOOK_PREROUTING), ("output", nf.HOOK_OUTPUT)):
        # Just before the usual place of destination NAT: Docker's own rules there see what is left.
        messages.append(nf.new_base_chain(table, name, kind="nat", hook=hook, priority=-110))
        messages += [nf.new_rule(table, name, rule) for rule in dispatch_rules(options, hook)]
    for name, hook in (("record-prerouting", nf.HOOK_PREROUTING), ("record-output", nf.HOOK_OUTPUT)):
        messages.append(nf.new_base_chain(table, name, kind="filter", hook=hook, priority=-90))
        messages += [nf.new_rule(table, name, rule) for rule in record_dispatch_rules()]
    messages.append(nf.new_base_chain(table, "postrouting", kind="nat", hook=nf.HOOK_POSTROUTING, priority=90))
    messages += [nf.new_rule(table, "postrouting", rule) for rule in masquerade_rules(options)]
    messages.append(nf.new_base_chain(table, "guard", kind="filter", hook=nf.HOOK_PREROUTING, priority=-300))
    messages.append(nf.new_rule(table, "guard", guard_rule()))
    return messages


def refuse_tcp() -> list[bytes]:
    return [nf.load_protocol(SCRATCH), nf.compare(SCRATCH, bytes([TCP])), nf.reset_tcp()]


def service_key() -> list[bytes]:
    return [
        nf.load_destination_address(ADDRESS_KEY),
        nf.load_protocol(PROTOCOL_KEY),
        nf.load_destination_port(PORT_KEY),
    ]


def node_port_key() -> list[bytes]:
    return [nf.load_protocol(PROTOCOL_KEY), nf.load_destination_port(PORT_KEY)]


def from_outside(options: TableOptions) -> list[bytes]:
    tests = [nf.load_address_type(SCRATCH, source=True), nf.compare(SCRATCH, nf.number(nf.RTN_LOCAL), equal=False)]
    if options.cluster_cidr is not None:
        tests += [nf.load_source_address(SCRATCH), *nf.in_network(SCRATCH, options.cluster_cidr, inside=False)]
    return tests


def to_node_port(options: TableOptions) -> Iterator[list[bytes]]:
    to_here = [nf.load_address_type(SCRATCH, source=False), nf.compare(SCRATCH, nf.number(nf.RTN_LOCAL))]
    if not options.node_port_networks:
        yield to_here
    for network in options.node_port_networks:
        yield [*to_here, nf.load_destination_address(SCRATCH), *nf.in_network(SCRATCH, network)]


def dispatch_rules(options: TableOptions, hook: int) -> Iterator[list[bytes]]:
    """Outside traffic first looks for a rule of its own; then every source takes the usual one."""
    passes: list[tuple[list[bytes], str, str]] = [([], SERVICES.name, NODE_PORTS.name)]
    if hook == nf.HOOK_PREROUTING:
        passes.insert(0, (from_outside(options), SERVICES_OUTSIDE.name, NODE_PORTS_OUTSIDE.name))
    for tests, services, node_ports in passes:
        yield [*tests, *service_key(), nf.lookup(services, ADDRESS_KEY, 0)]
        for here in to_node_port(options):
            yield [*tests, *here, *node_port_key(), nf.lookup(node_ports, PROTOCOL_KEY, 0)]
    for proto in (TCP, UDP):
        # A port that the Service does not have is refused at once instead of leaving for the default route.
        yield [
            nf.load_protocol(SCRATCH),
            nf.compare(SCRATCH, bytes([proto])),
            nf.load_destination_address(SCRATCH),
            nf.lookup(CLUSTER_IPS.name, SCRATCH),
            nf.verdict(NO_ENDPOINTS),
        ]


def spread_rules(chain: SpreadChain) -> Iterator[list[bytes]]:
    """Stay with the known endpoint, else take the next one."""
    offset = OUTSIDE_SLOTS if chain.outside else 0
    where = service_key()
    if chain.node_port:
        where = [nf.load_constant(ADDRESS_KEY, nf.address(ANY_ADDRESS)), *node_port_key()]
    dnat = nf.destination_nat(TO_ADDRESS, TO_PORT)
    if chain.sticky:
        yield [nf.load_source_address(FIRST), *where, nf.lookup(AFFINITY.name, FIRST, TO_ADDRESS), dnat]
    # The last rule finds slot 0 of a Service that lost endpoints between this packet's two lookups.
    for modulus in (chain.count, 1):
        count = nf.next_number(FIRST, modulus=modulus, offset=offset)
        yield [count, *where, nf.lookup(ENDPOINTS.name, FIRST, TO_ADDRESS), dnat]


def original_key(*, node_port: bool) -> list[bytes]:
    """What the client dialled, once the destination has been rewritten."""
    address = nf.load_original_destination(ADDRESS_KEY)
    if node_port:
        address = nf.load_constant(ADDRESS_KEY, nf.address(ANY_ADDRESS))
    return [address, nf.load_protocol(PROTOCOL_KEY), nf.load_original_port(PORT_KEY)]


def record_dispatch_rules() -> Iterator[list[bytes]]:
    fresh = nf.number(nf.CT_STATE_NEW)
    zero = nf.number(0)
    new = [nf.load_conntrack_state(SCRATCH), nf.mask(SCRATCH, fresh), nf.compare(SCRATCH, zero, equal=False)]
    for node_port in (False, True):
        yield [*new, *redirected(), *original_key(node_port=node_port), nf.lookup(STICKY.name, ADDRESS_KEY, 0)]


def record_rule(chain: RecordChain) -> list[bytes]:
    return [
        nf.load_source_address(FIRST),
        *original_key(node_port=chain.node_port),
        nf.load_destination_address(TO_ADDRESS),
        nf.load_destination_port(TO_PORT),
        nf.remember(AFFINITY.name, FIRST, TO_ADDRESS, seconds=chain.seconds),
    ]


def redirected() -> list[bytes]:
    dnat = nf.number(nf.CT_STATUS_DNAT)
    zero = nf.number(0)
    return [nf.load_conntrack_status(SCRATCH), nf.mask(SCRATCH, dnat), nf.compare(SCRATCH, zero, equal=False)]


def masquerade_rules(options: TableOptions) -> Iterator[list[bytes]]:
    """Only connections that were given a destination here, and only those whose replies would go astray."""
    here = redirected()
    pair = [nf.load_source_address(ADDRESS_KEY), nf.load_destination_address(PROTOCOL_KEY)]
    loopback = ipaddress.IPv4Network("127.0.0.0/8")
    yield [*here, *pair, nf.lookup(HAIRPIN.name, ADDRESS_KEY), nf.masquerade()]
    yield [
        *here,
        nf.load_source_address(SCRATCH),
        *nf.in_network(SCRATCH, loopback),
        nf.load_destination_address(SCRATCH),
        *nf.in_network(SCRATCH, loopback, inside=False),
        nf.masquerade(),
    ]
    yield [
        *here,
        nf.load_destination_address(SCRATCH),
        nf.lookup(REMOTE.name, SCRATCH),
        *from_outside(options),
        nf.masquerade(),
    ]
    if options.masquerade_pods and options.cluster_cidr is not None:
        yield [
            *here,
            nf.load_source_address(SCRATCH),
            *nf.in_network(SCRATCH, options.cluster_cidr),
            nf.load_destination_address(SCRATCH),
            *nf.in_network(SCRATCH, options.cluster_cidr),
            nf.masquerade(),
        ]


def guard_rule() -> list[bytes]:
    """127.0.0.0/8 stays reachable from this machine only, though NodePorts on it need route_localnet on the bridge."""
    return [
        nf.load_input_interface(ADDRESS_KEY),
        nf.compare(ADDRESS_KEY, b"lo".ljust(16, b"\0"), equal=False),
        nf.load_destination_address(SCRATCH),
        *nf.in_network(SCRATCH, ipaddress.IPv4Network("127.0.0.0/8")),
        nf.verdict(DROP),
    ]


def chain_messages(table: str, chain: Chain) -> list[Message]:
    rules = [record_rule(chain)] if isinstance(chain, RecordChain) else spread_rules(chain)
    return [nf.new_chain(table, chain.name), *(nf.new_rule(table, chain.name, rule) for rule in rules)]
