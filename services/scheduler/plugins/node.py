"""NodeUnschedulable, NodeName, NodePorts."""

import numpy as np

from services.scheduler.arrays import Mask, Rows
from services.scheduler.plugins.base import Scope, SingleReason
from services.scheduler.plugins.taints import tolerates
from services.scheduler.snapshot import Change, Snapshot
from services.scheduler.template import Template

UNSCHEDULABLE_TAINT = ("node.kubernetes.io/unschedulable", "", "NoSchedule")


class NodeUnschedulable(SingleReason):
    name = "NodeUnschedulable"
    scope = Scope.NODES
    reason = "node(s) were unschedulable"
    requeue_on = frozenset({Change.NODE_ADD, Change.NODE_TAINTS})

    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        if any(tolerates(toleration, UNSCHEDULABLE_TAINT) for toleration in pod.tolerations):
            return None
        return ~snapshot.unschedulable[rows]


class NodeName(SingleReason):
    name = "NodeName"
    scope = Scope.NODES
    reason = "node(s) didn't match the requested node name"

    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        if not pod.pinned_node:
            return None
        mask = np.zeros(snapshot.size, dtype=np.bool_)
        row = snapshot.row_of.get(pod.pinned_node)
        if row is not None:
            mask[row] = True
        return mask[rows]


class NodePorts(SingleReason):
    name = "NodePorts"
    scope = Scope.ROW
    reason = "node(s) didn't have free ports for the requested pod ports"
    requeue_on = frozenset({Change.NODE_ADD, Change.POD_REMOVE})

    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        if not pod.host_ports:
            return None
        return ~snapshot.ports.taken(pod.host_ports, snapshot.size)[rows]
