"""Pod addresses of this node, given out round-robin: an address rests as long as possible before it is used again."""

import ipaddress


class AddressesExhausted(Exception):
    """Every address of the node's podCIDR is taken."""


class AddressPool:
    """The first address of the range (the bridge's on the first node), network and broadcast are never given out."""

    def __init__(self, cidr: str) -> None:
        """Raises ValueError for a bad range."""
        self.network = ipaddress.ip_network(cidr)
        self._first = int(self.network.network_address) + 2
        self._count = self.network.num_addresses - 3
        self._next = 0
        self._taken: set[str] = set()

    def take(self) -> str:
        """Raises AddressesExhausted."""
        for _ in range(max(self._count, 0)):
            address = str(ipaddress.ip_address(self._first + self._next))
            self._next = (self._next + 1) % self._count
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise AddressesExhausted(f"no free address in {self.network}")

    def reserve(self, address: str) -> None:
        """For what runs already."""
        self._taken.add(address)
        if address and ipaddress.ip_address(address) in self.network:
            index = int(ipaddress.ip_address(address)) - self._first
            if 0 <= index < self._count:
                self._next = max(self._next, index + 1) % self._count

    def release(self, address: str) -> None:
        self._taken.discard(address)

    def __len__(self) -> int:
        return len(self._taken)
