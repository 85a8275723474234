"""Node state as arrays, kept up to date by events. Not a copy per cycle: the scheduler is single-threaded, so what the
informers last said (plus what is assumed) is the snapshot.

A node has a row for as long as its object or a pod on it exists; `present` says whether the object does. Resource
matrices have shape (resources, rows) in int64: CPU in milli-units, everything else in units.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import cast

import numpy as np

from services.scheduler.arrays import Ints, LabelColumn, Mask, grown
from services.scheduler.counters import PodCounters
from services.scheduler.images import ImageTable
from services.scheduler.ports import PortTable
from services.scheduler.template import PodInfo, Template
from tillerman.api.quantity import milli_value, value
from tillerman.pb.k8s import core_v1_pb2 as core

CPU, MEMORY, STORAGE, PODS = range(4)
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"

Taint = tuple[str, str, str]
"""(key, value, effect)"""


class Change(Enum):
    """What an event changed, so that only the pods that may profit are tried again."""

    NODE_ADD = auto()
    NODE_LABELS = auto()
    NODE_TAINTS = auto()
    NODE_RESOURCES = auto()
    POD_ADD = auto()
    POD_REMOVE = auto()
    POD_LABELS = auto()
    NAMESPACE = auto()


class Snapshot:
    def __init__(self) -> None:
        self.size = 0
        self.capacity = 64
        self.row_of: dict[str, int] = {}
        self.names: list[str] = []
        self.nodes: list[core.Node | None] = []
        self.pods_on: list[dict[str, PodInfo]] = []
        # Counts up whenever a node changes in a way that plugins can see.
        self.epoch = 0
        self.node_count = 0
        self.resources = ["cpu", "memory", "ephemeral-storage", "pods"]
        self.allocatable: Ints = np.zeros((4, self.capacity), dtype=np.int64)
        self.requested: Ints = np.zeros((4, self.capacity), dtype=np.int64)
        # What pods without requests are taken to need; shape (2, rows), CPU and memory.
        self.nonzero: Ints = np.zeros((2, self.capacity), dtype=np.int64)
        self.present: Mask = np.zeros(self.capacity, dtype=np.bool_)
        self.unschedulable: Mask = np.zeros(self.capacity, dtype=np.bool_)
        self.taints: list[Taint] = []
        # Shape (distinct taints, rows).
        self.tainted: Mask = np.zeros((0, self.capacity), dtype=np.bool_)
        self.namespace_labels: dict[str, dict[str, str]] = {}
        self.counters = PodCounters(self.namespace_labels)
        self.counters.grow(self.capacity)
        self.ports = PortTable()
        self.images = ImageTable()
        self._columns: dict[str, LabelColumn] = {}
        self._free_rows: list[int] = []
        self._pods: dict[str, PodInfo] = {}
        self._priorities: Counter[int] = Counter()

    # -- nodes

    @property
    def all_rows(self) -> slice:
        return slice(0, self.size)

    def set_node(self, node: core.Node) -> set[Change]:
        """Adds or updates a node; what changed is empty for a mere heartbeat."""
        name = node.metadata.name
        row = self._row(name)
        before = self.nodes[row]
        changes = _changes(before, node)
        self.nodes[row] = node
        if Change.NODE_LABELS in changes:
            for column in self._columns.values():
                column.set(row, node.metadata.labels)
        if Change.NODE_TAINTS in changes:
            self.unschedulable[row] = node.spec.unschedulable
            self.tainted[:, row] = False
            for taint in node.spec.taints:
                number = self._taint_number((taint.key, taint.value, taint.effect))
                self.tainted[number, row] = True
        if Change.NODE_RESOURCES in changes:
            self.allocatable[:, row] = 0
            for resource, quantity in node.status.allocatable.items():
                amount = milli_value(quantity.string) if resource == "cpu" else value(quantity.string)
                number = self._resource_number(resource)
                self.allocatable[number, row] = amount
        images_changed = self.images.set_node(row, node.status.images)
        if not self.present[row]:
            self.present[row] = True
            self.node_count += 1
        if changes or images_changed:
            self.epoch += 1
        return changes

    def remove_node(self, name: str) -> None:
        row = self.row_of.get(name)
        if row is None or not self.present[row]:
            return
        self.present[row] = False
        self.node_count -= 1
        self.nodes[row] = None
        self.tainted[:, row] = False
        self.allocatable[:, row] = 0
        self.images.set_node(row, ())
        for column in self._columns.values():
            column.set(row, {})
        self.epoch += 1
        self._release(row)

    def label_column(self, key: str) -> LabelColumn:
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = LabelColumn(key, self.capacity)
            for row in range(self.size):
                node = self.nodes[row]
                if node is not None:
                    column.set(row, node.metadata.labels)
        return column

    def set_namespace(self, name: str, labels: dict[str, str] | None) -> bool:
        """None removes it. True if anything changed."""
        if self.namespace_labels.get(name) == labels:
            return False
        if labels is None:
            self.namespace_labels.pop(name, None)
        else:
            self.namespace_labels[name] = labels
        self.counters.namespaces_changed()
        return True

    # -- pods

    def pod(self, key: str) -> PodInfo | None:
        """The placed (bound or assumed) pod of this key."""
        return self._pods.get(key)

    @property
    def pod_count(self) -> int:
        return len(self._pods)

    def has_pods_below(self, priority: int) -> bool:
        """Whether any placed pod has a lower priority."""
        return any(count and known < priority for known, count in self._priorities.items())

    def add_pod(self, info: PodInfo) -> None:
        """Counts a pod on info.node; replaces what was known under its key."""
        if info.key in self._pods:
            self.remove_pod(info.key)
        self._pods[info.key] = info
        self._priorities[info.priority] += 1
        self._account(info, self._row(info.node), 1)

    def remove_pod(self, key: str) -> PodInfo | None:
        info = self._pods.pop(key, None)
        if info is None:
            return None
        self._priorities[info.priority] -= 1
        row = self.row_of[info.node]
        self._account(info, row, -1)
        self._release(row)
        return info

    @contextmanager
    def without(self, infos: Iterable[PodInfo]) -> Iterator[None]:
        """The snapshot as if these pods were not placed; as before afterwards."""
        taken = [info for info in infos if self._pods.get(info.key) is info]
        for info in taken:
            self._account(info, self.row_of[info.node], -1)
        try:
            yield
        finally:
            for info in taken:
                self._account(info, self.row_of[info.node], 1)

    @contextmanager
    def reserving(self, infos: Iterable[PodInfo]) -> Iterator[None]:
        """The snapshot as if these pods (each with its node set) were placed too; they must not be counted already."""
        given = [info for info in infos if info.node in self.row_of]
        for info in given:
            self._account(info, self.row_of[info.node], 1)
        try:
            yield
        finally:
            for info in given:
                self._account(info, self.row_of[info.node], -1)

    def request_vector(self, template: Template) -> Ints:
        """The template's requests over `resources`; shape (resources,)."""
        vector = template.vector
        if vector is None or len(vector) != len(self.resources):
            numbers = {self._resource_number(name): amount for name, amount in template.requests.items()}
            vector = np.zeros(len(self.resources), dtype=np.int64)
            vector[list(numbers)] = list(numbers.values())
            template.vector = vector
            template.columns = tuple(int(i) for i in np.flatnonzero(vector))
        return cast(Ints, vector)

    def _account(self, info: PodInfo, row: int, sign: int) -> None:
        template = info.template
        vector = self.request_vector(template)
        if sign > 0:
            self.requested[:, row] += vector
            self.pods_on[row][info.key] = info
        else:
            self.requested[:, row] -= vector
            self.pods_on[row].pop(info.key, None)
        self.nonzero[0, row] += sign * template.nonzero[0]
        self.nonzero[1, row] += sign * template.nonzero[1]
        if template.host_ports:
            self.ports.change(template.host_ports, row, sign)
        self.counters.change(template, info.terminating, row, sign)

    # -- rows and numbers

    def _row(self, name: str) -> int:
        row = self.row_of.get(name)
        if row is not None:
            return row
        if self._free_rows:
            row = self._free_rows.pop()
            self.names[row] = name
        else:
            row = self.size
            if row == self.capacity:
                self._grow()
            self.size += 1
            self.names.append(name)
            self.nodes.append(None)
            self.pods_on.append({})
        self.row_of[name] = row
        return row

    def _release(self, row: int) -> None:
        if not self.present[row] and not self.pods_on[row]:
            del self.row_of[self.names[row]]
            self.names[row] = ""
            self._free_rows.append(row)

    def _grow(self) -> None:
        self.capacity *= 2
        self.allocatable = cast(Ints, grown(self.allocatable, self.capacity))
        self.requested = cast(Ints, grown(self.requested, self.capacity))
        self.nonzero = cast(Ints, grown(self.nonzero, self.capacity))
        self.present = cast(Mask, grown(self.present, self.capacity))
        self.unschedulable = cast(Mask, grown(self.unschedulable, self.capacity))
        self.tainted = cast(Mask, grown(self.tainted, self.capacity))
        for column in self._columns.values():
            column.ids = grown(column.ids, self.capacity, -1).astype(np.int32, copy=False)
        self.counters.grow(self.capacity)

    def _resource_number(self, name: str) -> int:
        try:
            return self.resources.index(name)
        except ValueError:
            self.resources.append(name)
            empty = np.zeros((1, self.capacity), dtype=np.int64)
            self.allocatable = np.concatenate([self.allocatable, empty])
            self.requested = np.concatenate([self.requested, empty])
            return len(self.resources) - 1

    def _taint_number(self, taint: Taint) -> int:
        try:
            return self.taints.index(taint)
        except ValueError:
            self.taints.append(taint)
            self.tainted = np.concatenate([self.tainted, np.zeros((1, self.capacity), dtype=np.bool_)])
            return len(self.taints) - 1


def _changes(before: core.Node | None, after: core.Node) -> set[Change]:
    if before is None:
        return {Change.NODE_ADD, Change.NODE_LABELS, Change.NODE_TAINTS, Change.NODE_RESOURCES}
    changes = set()
    if before.metadata.labels != after.metadata.labels:
        changes.add(Change.NODE_LABELS)
    if before.spec.unschedulable != after.spec.unschedulable or before.spec.taints != after.spec.taints:
        changes.add(Change.NODE_TAINTS)
    if before.status.allocatable != after.status.allocatable:
        changes.add(Change.NODE_RESOURCES)
    return changes
