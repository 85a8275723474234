"""InterPodAffinity: required and preferred affinity and anti-affinity between pods, in both directions."""

import numpy as np

from services.scheduler.arrays import Floats, Mask, PodCounter, Rows
from services.scheduler.plugins.base import MAX_SCORE, Plugin, Scope
from services.scheduler.snapshot import Change, Snapshot
from services.scheduler.template import Template
from services.scheduler.terms import PREFERRED, REQUIRED_AFFINITY, REQUIRED_ANTI_AFFINITY, AffinityTerm

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
OTHERS_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"

# A placed pod's required affinity draws pods that match it, with this weight.
HARD_AFFINITY_WEIGHT = 1


class InterPodAffinity(Plugin):
    name = "InterPodAffinity"
    scope = Scope.CLUSTER
    weight = 2.0
    requeue_on = frozenset(Change)

    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        answers = [
            self._affinity(pod, snapshot),
            self._anti_affinity(pod, snapshot),
            self._others_anti_affinity(pod, snapshot),
        ]
        mask: Mask | None = None
        for answer in answers:
            if answer is not None:
                mask = answer if mask is None else mask & answer
        return None if mask is None else mask[rows]

    def score(self, pod: Template, snapshot: Snapshot, rows: Rows, feasible: Mask) -> Floats | None:
        points = np.zeros(snapshot.size, dtype=np.float64)
        seen = False
        for term in pod.affinity:
            if term.kind == PREFERRED:
                counter = snapshot.counters.selected(term.selector, with_terminating=True)
                points += term.weight * self._in_domain(term, counter, snapshot)
                seen = True
        for term, holders in snapshot.counters.held_terms():
            weight = HARD_AFFINITY_WEIGHT if term.kind == REQUIRED_AFFINITY else term.weight
            if weight and _selects(term, pod, snapshot):
                points += weight * self._in_domain(term, holders, snapshot)
                seen = True
        if not seen:
            return None
        top = float(points.max(initial=-np.inf, where=feasible))
        bottom = float(points.min(initial=np.inf, where=feasible))
        if not top > bottom:
            return None
        return ((points - bottom) * (MAX_SCORE / (top - bottom)))[rows]

    def explain(self, pod: Template, snapshot: Snapshot, row: int) -> list[str]:
        """The first rule that refuses, in Kubernetes' order."""
        for answer, reason in (
            (self._affinity(pod, snapshot), AFFINITY),
            (self._anti_affinity(pod, snapshot), ANTI_AFFINITY),
            (self._others_anti_affinity(pod, snapshot), OTHERS_ANTI_AFFINITY),
        ):
            if answer is not None and not answer[row]:
                return [reason]
        return []

    def resolvable(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        """Evicting brings nobody near: only anti-affinity can be resolved."""
        affinity = self._affinity(pod, snapshot)
        return None if affinity is None else affinity[rows]

    def _affinity(self, pod: Template, snapshot: Snapshot) -> Mask | None:
        terms = [term for term in pod.affinity if term.kind == REQUIRED_AFFINITY]
        if not terms:
            return None
        has_keys = np.ones(snapshot.size, dtype=np.bool_)
        mask = np.ones(snapshot.size, dtype=np.bool_)
        anywhere = 0
        for term in terms:
            counter = snapshot.counters.selected(term.selector, with_terminating=True)
            anywhere += counter.total
            has_keys &= snapshot.label_column(term.topology_key).ids[: snapshot.size] >= 0
            mask &= self._in_domain(term, counter, snapshot) > 0
        # The first of a group that wants its own company may go anywhere.
        if anywhere == 0 and all(_selects(term, pod, snapshot) for term in terms):
            return has_keys
        return mask

    def _anti_affinity(self, pod: Template, snapshot: Snapshot) -> Mask | None:
        mask: Mask | None = None
        for term in pod.affinity:
            if term.kind == REQUIRED_ANTI_AFFINITY:
                counter = snapshot.counters.selected(term.selector, with_terminating=True)
                clear = self._in_domain(term, counter, snapshot) == 0
                mask = clear if mask is None else mask & clear
        return mask

    def _others_anti_affinity(self, pod: Template, snapshot: Snapshot) -> Mask | None:
        mask: Mask | None = None
        for term, holders in snapshot.counters.held_terms():
            if term.kind == REQUIRED_ANTI_AFFINITY and _selects(term, pod, snapshot):
                clear = self._in_domain(term, holders, snapshot) == 0
                mask = clear if mask is None else mask & clear
        return mask

    @staticmethod
    def _in_domain(term: AffinityTerm, counter: PodCounter, snapshot: Snapshot) -> Floats:
        """Pods counted in each node's domain of the term's topology; 0 where the node lacks the key; shape (size,)."""
        column = snapshot.label_column(term.topology_key)
        return column.spread_over(counter.per_domain(column, snapshot.size, snapshot.epoch), snapshot.all_rows)


def _selects(term: AffinityTerm, pod: Template, snapshot: Snapshot) -> bool:
    return term.selector.matches(pod.namespace, pod.labels, snapshot.namespace_labels.get(pod.namespace, {}))
