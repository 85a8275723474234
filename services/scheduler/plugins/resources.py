"""NodeResourcesFit (filter, and the LeastAllocated score) and NodeResourcesBalancedAllocation."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from services.scheduler.arrays import Floats, Mask, Rows
from services.scheduler.plugins.base import MAX_SCORE, Plugin, Scope
from services.scheduler.snapshot import CPU, MEMORY, PODS, Change, Snapshot
from services.scheduler.template import Template


class NodeResourcesFit(Plugin):
    name = "NodeResourcesFit"
    scope = Scope.ROW
    requeue_on = frozenset({Change.NODE_ADD, Change.NODE_RESOURCES, Change.POD_REMOVE})

    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        vector = snapshot.request_vector(pod)
        mask: Mask | None = None
        for number in pod.columns:
            fits = snapshot.allocatable[number, rows] - snapshot.requested[number, rows] >= vector[number]
            mask = fits if mask is None else mask & fits
        return mask

    def score(self, pod: Template, snapshot: Snapshot, rows: Rows, feasible: Mask) -> Floats | None:
        """Prefers nodes with the most left, CPU and memory counting alike."""
        total: Floats | None = None
        for number in (CPU, MEMORY):
            allocatable = snapshot.allocatable[number, rows].astype(np.float64)
            left = allocatable - (snapshot.nonzero[number, rows] + pod.nonzero[number])
            share = np.maximum(left, 0.0) / np.maximum(allocatable, 1.0)
            total = share if total is None else total + share
        assert total is not None
        return total * (MAX_SCORE / 2)

    def explain(self, pod: Template, snapshot: Snapshot, row: int) -> list[str]:
        return list(self.diagnose(pod, snapshot, [row]))

    def diagnose(self, pod: Template, snapshot: Snapshot, rows: Iterable[int]) -> Counter[str]:
        selected = np.fromiter(rows, dtype=np.intp)
        vector = snapshot.request_vector(pod)
        reasons: Counter[str] = Counter()
        for number in pod.columns:
            short = snapshot.allocatable[number, selected] - snapshot.requested[number, selected] < vector[number]
            if short.any():
                reasons[self._reason(snapshot.resources[number], number)] = int(short.sum())
        return reasons

    def resolvable(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        """Not where the pod would not fit an empty node."""
        vector = snapshot.request_vector(pod)
        columns = list(pod.columns)
        empty = snapshot.allocatable[columns][:, rows]
        fits: Mask = np.logical_and.reduce(empty >= vector[columns, np.newaxis])
        return fits

    @staticmethod
    def _reason(resource: str, number: int) -> str:
        return "Too many pods" if number == PODS else f"Insufficient {resource}"


class NodeResourcesBalancedAllocation(Plugin):
    """Prefers nodes whose CPU and memory would be used to the same degree. No opinion on pods that request neither."""

    name = "NodeResourcesBalancedAllocation"
    scope = Scope.ROW

    def score(self, pod: Template, snapshot: Snapshot, rows: Rows, feasible: Mask) -> Floats | None:
        if not pod.requests.get("cpu") and not pod.requests.get("memory"):
            return None
        vector = snapshot.request_vector(pod)
        shares = [
            np.minimum(
                (snapshot.requested[number, rows] + vector[number]) / np.maximum(snapshot.allocatable[number, rows], 1),
                1.0,
            )
            for number in (CPU, MEMORY)
        ]
        balanced: Floats = (1.0 - np.abs(shares[0] - shares[1]) / 2.0) * MAX_SCORE
        return balanced
