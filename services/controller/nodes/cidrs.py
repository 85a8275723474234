"""A cluster's pod network cut into equal parts, one per node."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


class CIDRExhausted(Exception):
    """Every part of the cluster's network is taken."""


class CIDRSet:
    """Which parts are taken, as one bit each. Not shared between threads.

    ValueError when the mask does not fit into the network.
    """

    def __init__(self, network: str, mask: int) -> None:
        self._network = ipaddress.ip_network(network)
        if not self._network.prefixlen <= mask <= self._network.max_prefixlen:
            raise ValueError(f"--node-cidr-mask-size {mask} does not fit into --cluster-cidr {network}")
        self._mask = mask
        self._size = 1 << (self._network.max_prefixlen - mask)
        self.capacity = 1 << (mask - self._network.prefixlen)
        self._taken = bytearray((self.capacity + 7) // 8)
        self.used = 0
        self._next = 0

    def allocate(self) -> str:
        """The next free part after the last one given; raises CIDRExhausted. A freed part is reused late."""
        for step in range(self.capacity):
            index = (self._next + step) % self.capacity
            if not self._is_taken(index):
                self._take(index)
                self._next = (index + 1) % self.capacity
                return self._cidr(index)
        raise CIDRExhausted(f"no part of {self._network} with prefix length {self._mask} is left")

    def occupy(self, cidr: str) -> bool:
        """Marks what `cidr` covers as taken; whether none of it was. One outside the network is not ours to track."""
        free = True
        for index in self._covered(cidr):
            if self._is_taken(index):
                free = False
            else:
                self._take(index)
        return free

    def release(self, cidr: str) -> None:
        for index in self._covered(cidr):
            if self._is_taken(index):
                self._taken[index // 8] &= ~(1 << index % 8)
                self.used -= 1

    def _covered(self, cidr: str) -> Iterable[int]:
        try:
            part = ipaddress.ip_network(cidr, strict=False)
        except ValueError:
            return ()
        if part.version != self._network.version or not part.overlaps(self._network):
            return ()
        base = int(self._network.network_address)
        first = max(int(part.network_address) - base, 0) // self._size
        last = (int(part.broadcast_address) - base) // self._size
        return range(first, min(last, self.capacity - 1) + 1)

    def _cidr(self, index: int) -> str:
        address = ipaddress.ip_address(int(self._network.network_address) + index * self._size)
        return f"{address}/{self._mask}"

    def _is_taken(self, index: int) -> bool:
        return bool(self._taken[index // 8] & (1 << index % 8))

    def _take(self, index: int) -> None:
        self._taken[index // 8] |= 1 << index % 8
        self.used += 1
