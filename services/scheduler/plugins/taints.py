"""TaintToleration."""

from collections.abc import Iterable

import numpy as np

from services.scheduler.arrays import Floats, Mask, Rows
from services.scheduler.plugins.base import Plugin, Scope, normalized
from services.scheduler.snapshot import Change, Snapshot, Taint
from services.scheduler.template import Template
from tillerman.pb.k8s import core_v1_pb2 as core

REFUSING = ("NoSchedule", "NoExecute")


def tolerates(toleration: core.Toleration, taint: Taint) -> bool:
    key, value, effect = taint
    if toleration.effect and toleration.effect != effect:
        return False
    if toleration.key and toleration.key != key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.operator in ("", "Equal") and toleration.value == value


def untolerated(taints: Iterable[Taint], tolerations: Iterable[core.Toleration], effects: tuple[str, ...]) -> list[int]:
    """Numbers of the taints of these effects that no toleration covers."""
    return [
        number
        for number, taint in enumerate(taints)
        if taint[2] in effects and not any(tolerates(toleration, taint) for toleration in tolerations)
    ]


class TaintToleration(Plugin):
    name = "TaintToleration"
    scope = Scope.NODES
    weight = 3.0
    requeue_on = frozenset({Change.NODE_ADD, Change.NODE_TAINTS})

    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        refusing = untolerated(snapshot.taints, pod.tolerations, REFUSING)
        if not refusing:
            return None
        clear: Mask = ~np.logical_or.reduce(snapshot.tainted[refusing][:, rows])
        return clear

    def score(self, pod: Template, snapshot: Snapshot, rows: Rows, feasible: Mask) -> Floats | None:
        disliked = untolerated(snapshot.taints, pod.tolerations, ("PreferNoSchedule",))
        if not disliked:
            return None
        counts = snapshot.tainted[disliked][:, rows].sum(axis=0).astype(np.float64)
        return normalized(counts, feasible, reverse=True)

    def explain(self, pod: Template, snapshot: Snapshot, row: int) -> list[str]:
        """Names the first taint only, as Kubernetes does."""
        node = snapshot.nodes[row]
        if node is None:
            return []
        for taint in node.spec.taints:
            if untolerated([(taint.key, taint.value, taint.effect)], pod.tolerations, REFUSING):
                return [f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"]
        return []
