"""Keeps the proxy's nftables table equal to the desired state.

One caller at a time (the sync loop). A change of some ports becomes one kernel transaction of just the elements that
differ. The first sync, and any sync after the kernel refused one or the table vanished, replaces the table as a whole,
also in one transaction: traffic never sees a table that is half there.
"""

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping

import structlog

from services.proxy.model import PortKey, ServicePort
from services.proxy.nft import conntrack
from services.proxy.nft import expressions as nf
from services.proxy.nft.claims import Claims, Difference
from services.proxy.nft.layout import (
    AFFINITY,
    ANY_ADDRESS,
    Chain,
    ElementKey,
    Plan,
    TableOptions,
    chain_messages,
    plan,
    skeleton,
)
from services.proxy.nft.netlink import (
    NFNL_SUBSYS_NFTABLES,
    Message,
    NetlinkError,
    NetlinkSocket,
    attributes,
    is_missing,
    text,
)

log = structlog.get_logger(__name__)

# Below this many elements a transaction is shorter than the hand-over to a thread.
IN_LOOP_ELEMENTS = 200


class NftablesBackend:
    """The kernel as service proxy. `sync` with changes, `check` now and then, `close` at the end."""

    mode = "nftables"

    def __init__(self, options: TableOptions) -> None:
        self._options = options
        self._socket = NetlinkSocket()
        self._conntrack = NetlinkSocket()
        self._lock = threading.Lock()
        self._elements: Claims[PortKey, ElementKey, nf.Data] = Claims()
        self._chains: Claims[PortKey, Chain, None] = Claims()
        self._ports: dict[PortKey, ServicePort] = {}
        self._stale = True
        self._reconfigured = False

    async def sync(self, changes: Mapping[PortKey, ServicePort | None]) -> None:
        """Applies the changed ports (None: gone). Raises NetlinkError; the next sync then starts afresh."""
        before = {key: self._ports.get(key) for key in changes}
        for key, port in changes.items():
            self._want(key, port)
        elements, chains = self._elements.finish(), self._chains.finish()
        try:
            if self._stale:
                await asyncio.to_thread(self._replace)
            elif len(elements.add) + len(elements.remove) > IN_LOOP_ELEMENTS:
                await asyncio.to_thread(self._update, elements, chains)
            else:
                self._update(elements, chains)
        except NetlinkError as error:
            if self._stale:
                raise
            log.warning("the kernel refused an update of the table; replacing it", error=str(error))
            self._stale = True
            await asyncio.to_thread(self._replace)
        changed = [(before[key], port) for key, port in changes.items()]
        await self._flush_udp(changed)
        await self._forget_clients(changed)

    def _want(self, key: PortKey, port: ServicePort | None) -> None:
        if port is None:
            self._elements.set(key, {})
            self._chains.set(key, {})
            self._ports.pop(key, None)
            return
        wanted: Plan = plan(port)
        self._ports[key] = port
        self._elements.set(key, wanted.elements)
        self._chains.set(key, dict.fromkeys(wanted.chains))
        for (name, _), holder in self._elements.contested(key).items():
            log.warning(
                "two Services claim one address and port; the first keeps it",
                set=name,
                service=str(key),
                holder=str(holder),
            )

    def _update(self, elements: Difference[ElementKey, nf.Data], chains: Difference[Chain, None]) -> None:
        table = self._options.table
        messages: list[Message] = []
        for chain in chains.add:
            messages += chain_messages(table, chain)
        messages += element_messages(table, elements.remove, delete=True)
        messages += element_messages(table, elements.add)
        messages += [nf.delete_chain(table, chain.name) for chain in chains.remove if chain not in chains.add]
        with self._lock:
            self._socket.transact(messages)

    def _replace(self) -> None:
        table = self._options.table
        # Making the table first lets its removal succeed whether or not there was one.
        messages = [nf.new_table(table), nf.delete_table(table), *skeleton(self._options)]
        for chain in self._chains.all():
            messages += chain_messages(table, chain)
        messages += element_messages(table, self._elements.all())
        with self._lock:
            self._socket.transact(messages)
        self._stale = self._reconfigured = False

    async def _flush_udp(self, changes: list[tuple[ServicePort | None, ServicePort | None]]) -> None:
        stale = [found for before, after in changes if (found := conntrack.StaleFlows.between(before, after))]
        if stale:
            await asyncio.to_thread(conntrack.flush, self._conntrack, stale)

    async def _forget_clients(self, changes: list[tuple[ServicePort | None, ServicePort | None]]) -> None:
        """Clients of a sticky Service whose endpoint is gone get a new one at their next connection."""
        if any(before and before.affinity_seconds and lost_targets(before, after) for before, after in changes):
            sticky = {key: port for key, port in self._ports.items() if port.affinity_seconds}
            await asyncio.to_thread(self._drop_affinity, affinity_targets(sticky.values()))

    def _drop_affinity(self, valid: Mapping[bytes, set[bytes]]) -> None:
        table = self._options.table
        with self._lock:
            for key, data in list(dump_elements(self._socket, table, AFFINITY.name)):
                if data in valid.get(key[4:], ()):
                    continue
                try:
                    self._socket.transact(nf.elements(table, AFFINITY.name, [(key, None)], delete=True))
                except NetlinkError as error:
                    if not is_missing(error):  # it ran out meanwhile
                        raise

    async def check(self) -> None:
        """Puts the table back when somebody removed it (`nft flush ruleset`)."""
        if self._reconfigured:
            await self.sync({})
            return
        if self._stale or await asyncio.to_thread(self._exists):
            return
        log.warning("the table is gone; putting it back", table=self._options.table)
        self._stale = True
        await self.sync({})

    def _exists(self) -> bool:
        with self._lock:
            return table_exists(self._socket, self._options.table)

    def configure(self, options: TableOptions) -> None:
        """The next sync or check replaces the table when the options differ from the present ones."""
        if options != self._options:
            self._options = options
            self._stale = self._reconfigured = True

    async def close(self) -> None:
        """Leaves the table in place: pods keep being served while the proxy restarts."""
        self._socket.close()
        self._conntrack.close()


def element_messages(table: str, wanted: Mapping[ElementKey, nf.Data], *, delete: bool = False) -> list[Message]:
    by_set: dict[str, list[tuple[bytes, nf.Data]]] = {}
    for (name, key), data in wanted.items():
        by_set.setdefault(name, []).append((key, data))
    return [message for name, items in by_set.items() for message in nf.elements(table, name, items, delete=delete)]


def lost_targets(before: ServicePort, after: ServicePort | None) -> bool:
    had = {*before.targets, *before.outside_targets}
    return after is None or not had <= {*after.targets, *after.outside_targets}


def affinity_targets(ports: Iterable[ServicePort]) -> dict[bytes, set[bytes]]:
    """What may be remembered: (address . protocol . port) of a Service -> its endpoints' (address . port)."""
    valid = {}
    for port in ports:
        targets = {nf.address(ip) + nf.port(n) for ip, n in (*port.targets, *port.outside_targets)}
        proto = nf.protocol(port.protocol_number)
        for ip in port.addresses:
            valid[nf.address(ip) + proto + nf.port(port.port)] = targets
        if port.node_port:
            valid[nf.address(ANY_ADDRESS) + proto + nf.port(port.node_port)] = targets
    return valid


def dump_elements(socket: NetlinkSocket, table: str, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The (key, data) elements that a map holds. Raises NetlinkError."""
    for body in socket.dump(NFNL_SUBSYS_NFTABLES, nf.GETSETELEM, text(1, table) + text(2, name)):
        for kind, elements in attributes(body):
            if kind != 3:
                continue
            for _, element in attributes(elements):
                parts = dict(attributes(element))
                key, data = (dict(attributes(parts.get(part, b""))).get(1, b"") for part in (1, 2))
                yield key, data


def table_exists(socket: NetlinkSocket, table: str) -> bool:
    try:
        socket.request(NFNL_SUBSYS_NFTABLES, Message(nf.GETTABLE, 0, text(1, table), f"table {table}"))
    except NetlinkError as error:
        if is_missing(error):
            return False
        raise
    return True


def remove_table(table: str) -> bool:
    """Removes the proxy's table; False when there is none. Raises PermissionError or NetlinkError."""
    socket = NetlinkSocket()
    try:
        socket.transact([nf.delete_table(table)])
    except NetlinkError as error:
        if is_missing(error):
            return False
        raise
    finally:
        socket.close()
    return True


def is_usable() -> bool:
    """True when this process may program nftables: a trial table is made and undone in one transaction."""
    name = "tillerman-probe"
    try:
        socket = NetlinkSocket()
    except OSError:
        return False
    try:
        probe = nf.new_base_chain(name, "probe", kind="nat", hook=nf.HOOK_POSTROUTING, priority=100)
        socket.transact([nf.new_table(name), probe, nf.delete_table(name)])
    except OSError:
        return False
    finally:
        socket.close()
    return True
