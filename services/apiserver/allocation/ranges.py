"""A range of numbers of which each is given out once, kept in etcd as Kubernetes keeps it.

The state is a v1 RangeAllocation: the range's text and a bitmap (a big-endian integer whose bit n stands for the
range's n-th number), changed by compare-and-swap, so that several apiservers share it and a restart loses nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.apiserver.storage.store import Store
from tillerman.api import envelope
from tillerman.pb.k8s import core_v1_pb2

ATTEMPTS = 64


class Taken(Exception):
    """The number is given out already."""


class Full(Exception):
    """Every number is given out."""


class OutOfRange(Exception):
    """The number does not belong to the range."""


@dataclass(frozen=True, slots=True)
class Range:
    """``text`` as stored; numbers first .. first+size-1; ``reserved`` offsets are only given when asked for."""

    text: str
    first: int
    size: int
    reserved: frozenset[int] = frozenset()


def address_range(cidr: str, *, dns_offset: int = 9) -> Range:
    """The usable addresses of a network: neither the network's own nor the last; .1 and .10 only when asked for."""
    network = ipaddress.ip_network(cidr)
    size = min(network.num_addresses, 1 << 16) - (2 if network.version == 4 else 1)
    return Range(cidr, int(network.network_address) + 1, size, frozenset({0, dns_offset}))


def port_range(text: str) -> Range:
    """``text``: FIRST-LAST."""
    first, _, last = text.partition("-")
    return Range(text, int(first), int(last) - int(first) + 1)


class RangeAllocator:
    """``key``: where the state is kept. Raises StorageError beside what each method says."""

    def __init__(self, store: Store, key: str, allotted: Range) -> None:
        self._store = store
        self._key = key
        self.range = allotted
        self._lock = asyncio.Lock()
        self._known: tuple[int, int] | None = None
        self._suspects: set[int] = set()

    async def take(self, number: int) -> None:
        """Raises Taken, OutOfRange."""
        offset = number - self.range.first
        if not 0 <= offset < self.range.size:
            raise OutOfRange(number)

        def claim(bits: int) -> int:
            if bits >> offset & 1:
                raise Taken(number)
            return bits | 1 << offset

        await self._change(claim)

    async def take_any(self) -> int:
        """Raises Full."""
        chosen = 0

        def claim(bits: int) -> int:
            nonlocal chosen
            chosen = self._free(bits)
            return bits | 1 << chosen

        await self._change(claim)
        return self.range.first + chosen

    async def give_back(self, numbers: Iterable[int]) -> None:
        mask = 0
        for number in numbers:
            if 0 <= number - self.range.first < self.range.size:
                mask |= 1 << number - self.range.first
        if mask:
            await self._change(lambda bits: bits & ~mask)

    async def repair(self, used: Iterable[int]) -> None:
        """Marks what is in use; frees what was found unused twice in a row (a write may be under way)."""
        in_use = {n - self.range.first for n in used if 0 <= n - self.range.first < self.range.size}
        suspects: set[int] = set()

        def mend(bits: int) -> int:
            suspects.clear()
            for offset in in_use:
                bits |= 1 << offset
            for offset in range(bits.bit_length()):
                if bits >> offset & 1 and offset not in in_use:
                    suspects.add(offset)
            for offset in suspects & self._suspects:
                bits &= ~(1 << offset)
            return bits

        await self._change(mend)
        self._suspects = set(suspects)

    def _free(self, bits: int) -> int:
        for _ in range(32):
            offset = random.randrange(self.range.size)
            if not bits >> offset & 1 and offset not in self.range.reserved:
                return offset
        for offset in range(self.range.size):
            if not bits >> offset & 1 and offset not in self.range.reserved:
                return offset
        raise Full(self.range.text)

    async def _change(self, update: Callable[[int], int]) -> None:
        async with self._lock:
            for _ in range(ATTEMPTS):
                bits, revision = self._known if self._known is not None else await self._read()
                try:
                    changed = update(bits)
                except (Taken, Full):
                    # Another apiserver may have given it back since.
                    if self._known is None:
                        raise
                    self._known = None
                    continue
                if changed == bits and revision:
                    return
                outcome = await self._store.put(self._key, self._encode(changed), expected=revision)
                if outcome.succeeded:
                    self._known = (changed, outcome.revision)
                    return
                self._known = None
            raise Full(f"{self.range.text}: too many writers")

    async def _read(self) -> tuple[int, int]:
        pair = await self._store.get(self._key)
        if pair is None:
            return 0, 0
        stored = core_v1_pb2.RangeAllocation.FromString(envelope.unwrap(pair.value).raw)
        if stored.range != self.range.text:
            # Another range was configured before: the repair fills in what is in use.
            return 0, pair.mod_revision
        return int.from_bytes(stored.data, "big"), pair.mod_revision

    def _encode(self, bits: int) -> bytes:
        stored = core_v1_pb2.RangeAllocation(
            range=self.range.text, data=bits.to_bytes((bits.bit_length() + 7) // 8, "big")
        )
        stored.metadata.SetInParent()
        return envelope.wrap("v1", "RangeAllocation", stored.SerializeToString())
