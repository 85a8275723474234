"""PodTopologySpread: spec.topologySpreadConstraints, and the soft spreading that owned pods get by default."""

from dataclasses import dataclass

import numpy as np

from services.scheduler.arrays import Floats, LabelColumn, Mask, PodCounter, Rows
from services.scheduler.plugins.affinity import eligible_by_affinity
from services.scheduler.plugins.base import MAX_SCORE, Plugin, Scope
from services.scheduler.plugins.taints import REFUSING, untolerated
from services.scheduler.snapshot import HOSTNAME, ZONE, Change, Snapshot
from services.scheduler.template import Template
from services.scheduler.terms import SpreadConstraint

MISMATCH = "node(s) didn't match pod topology spread constraints"
MISSING_LABEL = f"{MISMATCH} (missing required label)"

# (topology key, maxSkew) of pods that have an owner and no constraints of their own.
DEFAULTS = ((HOSTNAME, 3), (ZONE, 5))


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    scope = Scope.CLUSTER
    weight = 2.0
    requeue_on = frozenset(Change)

    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        hard = [constraint for constraint in pod.spread if constraint.hard]
        if not hard:
            return None
        mask = self._has_keys(hard, snapshot)
        for constraint in hard:
            mask &= self._within_skew(pod, constraint, snapshot, mask)
        return mask[rows]

    def score(self, pod: Template, snapshot: Snapshot, rows: Rows, feasible: Mask) -> Floats | None:
        soft = self._soft(pod, snapshot)
        if not soft:
            return None
        size = snapshot.size
        scored = feasible
        if pod.spread:
            scored = feasible.copy()
            for constraint in soft:
                scored &= constraint.column.ids[:size] >= 0
        if not scored.any():
            return None
        cost = np.zeros(size, dtype=np.float64)
        for constraint in soft:
            cost += constraint.cost(snapshot)
        worst = float(cost.max(initial=0.0, where=scored))
        if worst <= 0:
            return None
        best = float(cost.min(initial=worst, where=scored))
        points = np.where(scored, MAX_SCORE * (worst + best - cost) / worst, 0.0)
        return points[rows]

    def explain(self, pod: Template, snapshot: Snapshot, row: int) -> list[str]:
        hard = [constraint for constraint in pod.spread if constraint.hard]
        return [MISMATCH if self._has_keys(hard, snapshot)[row] else MISSING_LABEL]

    def resolvable(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        return self._has_keys([c for c in pod.spread if c.hard], snapshot)[rows]

    @staticmethod
    def _has_keys(constraints: list[SpreadConstraint], snapshot: Snapshot) -> Mask:
        mask = snapshot.present[: snapshot.size].copy()
        for constraint in constraints:
            mask &= snapshot.label_column(constraint.topology_key).ids[: snapshot.size] >= 0
        return mask

    @staticmethod
    def _within_skew(pod: Template, constraint: SpreadConstraint, snapshot: Snapshot, has_keys: Mask) -> Mask:
        size = snapshot.size
        eligible = has_keys.copy()
        if constraint.honor_affinity:
            allowed = eligible_by_affinity(pod, snapshot)
            if allowed is not None:
                eligible &= allowed
        if constraint.honor_taints:
            refusing = untolerated(snapshot.taints, pod.tolerations, REFUSING)
            if refusing:
                eligible &= ~np.logical_or.reduce(snapshot.tainted[refusing][:, :size])
        column = snapshot.label_column(constraint.topology_key)
        counter = snapshot.counters.selected(constraint.selector, with_terminating=False)
        pods = column.per_domain(np.where(eligible, counter.counts[:size], 0), size)
        exists = column.per_domain(eligible, size) > 0
        fewest = float(pods[exists].min()) if exists.any() else 0.0
        if int(exists.sum()) < constraint.min_domains:
            fewest = 0.0
        itself = constraint.selector.matches(
            pod.namespace, pod.labels, snapshot.namespace_labels.get(pod.namespace, {})
        )
        within = pods + (1 if itself else 0) - fewest <= constraint.max_skew
        return column.spread_over(within.astype(np.float64), slice(0, size)) > 0

    @staticmethod
    def _soft(pod: Template, snapshot: Snapshot) -> "list[_Soft]":
        if pod.spread:
            return [
                _Soft(
                    snapshot.label_column(c.topology_key),
                    snapshot.counters.selected(c.selector, with_terminating=False),
                    c.max_skew,
                )
                for c in pod.spread
                if not c.hard
            ]
        if not pod.owner:
            return []
        counter = snapshot.counters.owned_by(pod.owner)
        columns = [(snapshot.label_column(key), skew) for key, skew in DEFAULTS]
        # A single zone tells no nodes apart.
        return [_Soft(column, counter, skew) for column, skew in columns if len(column.values) > 1]


@dataclass(slots=True)
class _Soft:
    column: LabelColumn
    counter: PodCounter
    max_skew: int

    def cost(self, snapshot: Snapshot) -> Floats:
        """Matching pods in each node's domain, weighed by how many domains there are; shape (size,)."""
        size = snapshot.size
        if self.column.key == HOSTNAME:
            weight = np.log(snapshot.node_count + 2)
            return np.asarray(self.counter.counts[:size] * weight + (self.max_skew - 1), dtype=np.float64)
        pods = self.counter.per_domain(self.column, size, snapshot.epoch)
        weight = np.log(len(self.column.values) + 2)
        return self.column.spread_over(pods * weight + (self.max_skew - 1), snapshot.all_rows)
