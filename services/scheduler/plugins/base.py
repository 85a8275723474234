"""What a plugin is. Plugins are found as entry points of the group `tillerman.scheduler.plugins`.

A plugin looks at all nodes at once: `rows` selects rows of the snapshot's arrays (usually all of them), and what it
returns has one element per selected row. Plugins hold no state of their own, and never change the snapshot.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar

import numpy as np

from services.scheduler.arrays import Floats, Mask, Rows
from services.scheduler.snapshot import Change, Snapshot
from services.scheduler.template import Template

MAX_SCORE = 100.0


class Scope(IntEnum):
    """What a plugin's answer about a node depends on, hence how long it may be kept."""

    NODES = 0
    """Node objects only: holds until a node changes."""
    ROW = 1
    """Also the pods on that node: placing a pod changes the answer for its node only."""
    CLUSTER = 2
    """Pods anywhere: asked anew for every pod."""


class Plugin(ABC):
    name: ClassVar[str]
    scope: ClassVar[Scope]
    weight: float = 1.0
    requeue_on: ClassVar[frozenset[Change]] = frozenset({Change.NODE_ADD})
    """After which changes a pod that this plugin refused is worth another try."""

    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        """True where the pod may go; None says that every node will do."""
        return None

    def score(self, pod: Template, snapshot: Snapshot, rows: Rows, feasible: Mask) -> Floats | None:
        """0 to MAX_SCORE, higher is better; None has no opinion. With Scope.ROW the score of a node must not depend on
        other nodes, as `rows` may be a single one."""
        return None

    def explain(self, pod: Template, snapshot: Snapshot, row: int) -> list[str]:
        """Why `filter` refuses this node, in Kubernetes' words."""
        return []

    def resolvable(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
        """Where evicting pods could help; None: wherever. The default: nowhere beyond what `filter` allows, unless the
        answer depends on pods."""
        return self.filter(pod, snapshot, rows) if self.scope is Scope.NODES else None

    def diagnose(self, pod: Template, snapshot: Snapshot, rows: Iterable[int]) -> Counter[str]:
        """How many of the refused rows have which reason."""
        reasons: Counter[str] = Counter()
        for row in rows:
            reasons.update(self.explain(pod, snapshot, row))
        return reasons


class SingleReason(Plugin):
    """A plugin that always refuses in the same words."""

    reason: ClassVar[str]

    @abstractmethod
    def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None: ...

    def explain(self, pod: Template, snapshot: Snapshot, row: int) -> list[str]:
        return [self.reason]

    def diagnose(self, pod: Template, snapshot: Snapshot, rows: Iterable[int]) -> Counter[str]:
        return Counter({self.reason: sum(1 for _ in rows)})


def normalized(raw: Floats, feasible: Mask, *, reverse: bool = False) -> Floats | None:
    """Raw points scaled so that the best feasible node has MAX_SCORE; None when they are all nothing."""
    top = float(raw.max(initial=0.0, where=feasible))
    if top <= 0:
        return None
    scaled = raw * (MAX_SCORE / top)
    return MAX_SCORE - scaled if reverse else scaled


def one(row: int) -> Rows:
    return np.array([row], dtype=np.intp)
