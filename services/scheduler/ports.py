"""Host ports in use, by node."""

from collections.abc import Iterable

import numpy as np

from services.scheduler.arrays import Mask
from services.scheduler.template import HostPort

ANY_ADDRESS = "0.0.0.0"


class PortTable:
    """An address clashes with itself, and ANY_ADDRESS with all."""

    def __init__(self) -> None:
        # (protocol, port) -> address -> row -> users
        self._used: dict[tuple[str, int], dict[str, dict[int, int]]] = {}

    def change(self, ports: Iterable[HostPort], row: int, by: int) -> None:
        for protocol, address, port in ports:
            rows = self._used.setdefault((protocol, port), {}).setdefault(address, {})
            left = rows.get(row, 0) + by
            if left > 0:
                rows[row] = left
            else:
                rows.pop(row, None)

    def taken(self, ports: Iterable[HostPort], size: int) -> Mask:
        """Rows where one of the ports is in use; shape (size,)."""
        mask = np.zeros(size, dtype=np.bool_)
        for protocol, address, port in ports:
            for used, rows in self._used.get((protocol, port), {}).items():
                if rows and (used == address or ANY_ADDRESS in (used, address)):
                    mask[list(rows)] = True
        return mask
