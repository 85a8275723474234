"""The kinds of array that the node snapshot is made of. Axis 0 (or the last one) is always the node's row."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from services.scheduler.template import Template

Mask: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Ids: TypeAlias = npt.NDArray[np.int32]
Rows: TypeAlias = slice | npt.NDArray[np.intp]
"""Which nodes: a slice over all rows, or row numbers."""


def grown(array: npt.NDArray[np.generic], capacity: int, fill: int = 0) -> npt.NDArray[np.generic]:
    """The array with its last axis lengthened to `capacity`."""
    bigger = np.full((*array.shape[:-1], capacity), fill, dtype=array.dtype)
    bigger[..., : array.shape[-1]] = array
    return bigger


class LabelColumn:
    """One label key over all nodes: a number per distinct value, -1 where the node lacks the key."""

    def __init__(self, key: str, capacity: int) -> None:
        self.key = key
        self.ids: Ids = np.full(capacity, -1, dtype=np.int32)
        self.values: list[str] = []
        self._numbers: dict[str, int] = {}

    def set(self, row: int, labels: Mapping[str, str]) -> None:
        value = labels.get(self.key)
        if value is None:
            self.ids[row] = -1
            return
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
        self.ids[row] = number

    def number(self, value: str) -> int:
        """-2 (matches no node) for a value that no node ever had."""
        return self._numbers.get(value, -2)

    def per_domain(self, counts: npt.NDArray[np.generic], size: int) -> Floats:
        """Sums of counts by domain; shape (number of domains,)."""
        ids = self.ids[:size]
        known = ids >= 0
        weights = counts[:size][known].astype(np.float64)
        sums: Floats = np.bincount(ids[known], weights=weights, minlength=len(self.values)).astype(
            np.float64, copy=False
        )
        return sums

    def spread_over(self, domains: Floats, rows: Rows, missing: float = 0.0) -> Floats:
        """Each row's domain value; `missing` where the node lacks the key."""
        ids = self.ids[rows]
        if not len(domains):
            return np.full(ids.shape, missing)
        return np.where(ids >= 0, domains[np.maximum(ids, 0)], missing)


class PodCounter:
    """How many pods of some sort are on each node, kept up to date as pods come and go; and, for the topologies that
    somebody asked about, how many are in each domain."""

    __slots__ = ("_sums", "by_namespace_labels", "counts", "key", "matches", "pinned", "total", "with_terminating")

    def __init__(
        self,
        key: object,
        matches: "Callable[[Template], bool]",
        capacity: int,
        *,
        with_terminating: bool,
        by_namespace_labels: bool,
        pinned: bool,
    ) -> None:
        self.key = key
        self.matches = matches
        self.counts: Ids = np.zeros(capacity, dtype=np.int32)
        self.total = 0
        self.with_terminating = with_terminating
        self.by_namespace_labels = by_namespace_labels
        self.pinned = pinned
        # By topology key: the snapshot's epoch when the sums were made, the column, the sums.
        self._sums: dict[str, tuple[int, LabelColumn, Floats]] = {}

    def add(self, row: int, pods: int) -> None:
        self.counts[row] += pods
        self.total += pods
        for key, (_, column, sums) in list(self._sums.items()):
            domain = column.ids[row]
            if domain >= len(sums):
                del self._sums[key]
            elif domain >= 0:
                sums[domain] += pods

    def per_domain(self, column: LabelColumn, size: int, epoch: int) -> Floats:
        """Pods by domain of a topology, as of the snapshot's epoch; shape (number of domains,). Not to be changed."""
        known = self._sums.get(column.key)
        if known is None or known[0] != epoch or known[1] is not column:
            known = self._sums[column.key] = (epoch, column, column.per_domain(self.counts, size))
        return known[2]
