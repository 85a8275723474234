"""NodeAffinity: spec.nodeSelector and spec.affinity.nodeAffinity."""

import numpy as np

from services.scheduler.arrays import Floats, Mask, Rows
from services.scheduler.plugins.base import Scope, SingleReason, normalized
from services.scheduler.snapshot import Change, Snapshot
from services.scheduler.template import Template
from tillerman.pb.k8s import core_v1_pb2 as core


class NodeAffinity(SingleReason):
    name = "NodeAffinity"
    scope = Scope.NODES
    weight = 2.0
    reason = "node(s) didn't match Pod's node affinity/selector"
    requeue_on = frozenset({Change.NODE_ADD, Change.NODE_LABELS})

    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        mask = eligible_by_affinity(pod, snapshot)
        return None if mask is None else mask[rows]

    def score(self, pod: Template, snapshot: Snapshot, rows: Rows, feasible: Mask) -> Floats | None:
        if not pod.preferred_node_terms:
            return None
        points = np.zeros(snapshot.size, dtype=np.float64)
        for weight, term in pod.preferred_node_terms:
            points += weight * _matching(term, snapshot, when_empty=True)
        return normalized(points[rows], feasible)


def eligible_by_affinity(pod: Template, snapshot: Snapshot) -> Mask | None:
    """Nodes that the pod's node selector and required node affinity allow; shape (size,). None: all."""
    if not pod.node_selector and pod.required_node_terms is None:
        return None
    mask = np.ones(snapshot.size, dtype=np.bool_)
    for key, value in pod.node_selector.items():
        column = snapshot.label_column(key)
        mask &= column.ids[: snapshot.size] == column.number(value)
    if pod.required_node_terms is not None:
        any_term = np.zeros(snapshot.size, dtype=np.bool_)
        for term in pod.required_node_terms:
            any_term |= _matching(term, snapshot, when_empty=False)
        mask &= any_term
    return mask


def _matching(term: core.NodeSelectorTerm, snapshot: Snapshot, *, when_empty: bool) -> Mask:
    """All of a term's demands together. An empty required term matches nothing, an empty preferred one everything."""
    if not term.matchExpressions and not term.matchFields:
        return np.full(snapshot.size, when_empty)
    mask = np.ones(snapshot.size, dtype=np.bool_)
    for demand in term.matchExpressions:
        mask &= _meets(demand, snapshot)
    for demand in term.matchFields:
        named = np.zeros(snapshot.size, dtype=np.bool_)
        named[[row for name in demand.values if (row := snapshot.row_of.get(name)) is not None]] = True
        mask &= named if demand.operator == "In" else ~named
    return mask


def _meets(demand: core.NodeSelectorRequirement, snapshot: Snapshot) -> Mask:
    column = snapshot.label_column(demand.key)
    ids = column.ids[: snapshot.size]
    match demand.operator:
        case "In":
            return np.isin(ids, [column.number(value) for value in demand.values])
        case "NotIn":
            return ~np.isin(ids, [column.number(value) for value in demand.values])
        case "Exists":
            return ids >= 0
        case "DoesNotExist":
            return ids < 0
        case "Gt" | "Lt":
            bound = _number(demand.values[0]) if demand.values else None
            if bound is None:
                return np.zeros(snapshot.size, dtype=np.bool_)
            numbers = [_number(value) for value in column.values]
            good = [n is not None and (n > bound if demand.operator == "Gt" else n < bound) for n in numbers]
            return np.isin(ids, np.flatnonzero(good))
    return np.zeros(snapshot.size, dtype=np.bool_)


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
