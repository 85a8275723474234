"""Who owns whom: a graph of all objects with owners or dependents, and what follows from it. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tillerman.pb.k8s import meta_v1_pb2 as meta_v1

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Kind(NamedTuple):
    """A resource as the API serves it: ("apps/v1", "replicasets", "ReplicaSet", True)."""

    api_version: str
    resource: str
    kind: str
    namespaced: bool


class Owner(NamedTuple):
    uid: str
    api_version: str
    kind: str
    name: str
    blocks: bool


@dataclass(slots=True)
class Node:
    """One object, as much of it as collection needs."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    resource_version: str
    owners: tuple[Owner, ...] = ()
    deleting: bool = False
    finalizers: tuple[str, ...] = ()

    @property
    def waits_for_dependents(self) -> bool:
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        return self.deleting and ORPHAN in self.finalizers

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind.kind} {self.name}"


def agrees(owner: Owner, node: Node, dependent: Node) -> bool:
    """Whether a reference names the very object whose uid it has."""
    group, own = (version.rpartition("/")[0] for version in (owner.api_version, node.kind.api_version))
    near = not node.kind.namespaced or node.namespace == dependent.namespace
    return near and (owner.name, owner.kind, group) == (node.name, node.kind.kind, own)


def node_from(kind: Kind, meta: meta_v1.ObjectMeta) -> Node:
    return Node(
        kind=kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resourceVersion,
        owners=tuple(
            Owner(ref.uid, ref.apiVersion, ref.kind, ref.name, ref.blockOwnerDeletion) for ref in meta.ownerReferences
        ),
        deleting=meta.HasField("deletionTimestamp"),
        finalizers=tuple(meta.finalizers),
    )


@dataclass
class Graph:
    """Nodes by uid; dependents by their owner's uid, also of owners that are not (or no longer) here."""

    nodes: dict[str, Node] = field(default_factory=dict)
    _dependents: dict[str, set[str]] = field(default_factory=dict)

    def dependents(self, uid: str) -> list[Node]:
        return [self.nodes[child] for child in self._dependents.get(uid, ()) if child in self.nodes]

    def put(self, node: Node) -> list[str]:
        """Takes a new state in; returns the uids to look at because of it."""
        before = self.nodes.get(node.uid)
        self.nodes[node.uid] = node
        old_owners = {owner.uid for owner in before.owners} if before is not None else set()
        owners = {owner.uid for owner in node.owners}
        for uid in old_owners - owners:
            self._unlink(uid, node.uid)
        for uid in owners - old_owners:
            self._dependents.setdefault(uid, set()).add(node.uid)
        due: list[str] = []
        if any(self._doubtful(owner, node) for owner in node.owners):
            due.append(node.uid)
        waiting_owners = [uid for uid in owners | old_owners if self._waits(uid)]
        due += waiting_owners
        if waiting_owners:
            due.append(node.uid)
        if node.waits_for_dependents or node.orphans_dependents:
            due.append(node.uid)
            if node.waits_for_dependents and not (before is not None and before.waits_for_dependents):
                due += [child.uid for child in self.dependents(node.uid)]
        return list(dict.fromkeys(due))

    def remove(self, uid: str) -> list[str]:
        """The object is gone; returns the uids to look at because of it."""
        node = self.nodes.pop(uid, None)
        due = list(self._dependents.get(uid, ()))
        if node is not None:
            for owner in node.owners:
                self._unlink(owner.uid, uid)
                if self._waits(owner.uid):
                    due.append(owner.uid)
        return due

    def blocking(self, uid: str) -> list[Node]:
        """Dependents that a foreground deletion has to wait for."""
        return [
            child for child in self.dependents(uid) if any(owner.uid == uid and owner.blocks for owner in child.owners)
        ]

    def _doubtful(self, owner: Owner, dependent: Node) -> bool:
        """Whether only the API server can tell if there is such an owner."""
        known = self.nodes.get(owner.uid)
        return known is None or not agrees(owner, known, dependent)

    def _waits(self, uid: str) -> bool:
        node = self.nodes.get(uid)
        return node is not None and node.waits_for_dependents

    def _unlink(self, owner: str, child: str) -> None:
        children = self._dependents.get(owner)
        if children is not None:
            children.discard(child)
            if not children:
                del self._dependents[owner]


@dataclass(frozen=True)
class Action:
    """What to do with one node: `verb` is "none", "delete", "disown", "unblock-and-delete", "finish" or "orphan".

    delete: with `policy` (Background, Foreground, Orphan). disown: drop the owner references in `owners`.
    unblock-and-delete: dependents wait for each other; stop blocking the owners, then delete in the foreground.
    finish: remove the foregroundDeletion finalizer. orphan: release the dependents, then remove the orphan finalizer.
    """

    verb: str
    policy: str = ""
    owners: tuple[str, ...] = ()


NOTHING = Action("none")


def plan(graph: Graph, node: Node, absent: Iterable[str]) -> Action:
    """`absent` are uids of owners that are known not to exist."""
    if node.orphans_dependents:
        return Action("orphan")
    if node.waits_for_dependents:
        return NOTHING if graph.blocking(node.uid) else Action("finish")
    if node.deleting or not node.owners:
        return NOTHING
    gone = set(absent)
    dangling = [owner.uid for owner in node.owners if owner.uid in gone]
    waiting = [
        owner.uid
        for owner in node.owners
        if owner.uid not in gone and (parent := graph.nodes.get(owner.uid)) is not None and parent.waits_for_dependents
    ]
    solid = len(node.owners) - len(dangling) - len(waiting)
    if solid:
        return Action("disown", owners=(*dangling, *waiting)) if dangling or waiting else NOTHING
    if waiting and graph.dependents(node.uid):
        if any(child.waits_for_dependents for child in graph.dependents(node.uid)):
            return Action("unblock-and-delete", policy="Foreground")
        return Action("delete", policy="Foreground")
    if ORPHAN in node.finalizers:
        return Action("delete", policy="Orphan")
    if FOREGROUND in node.finalizers:
        return Action("delete", policy="Foreground")
    return Action("delete", policy="Background")
