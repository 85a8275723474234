"""Puts the plugins together: where may a pod go, where would it best go, and why not elsewhere.

An Evaluation belongs to one template and one stretch of work during which only its own placements change the snapshot:
answers of plugins with Scope.NODES and Scope.ROW are computed once, then repaired for the single row that a placement
changed; those with Scope.CLUSTER are computed per pod. That is what lets pods of one template share their results.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points

import numpy as np

from services.scheduler.arrays import Floats, Mask, Rows
from services.scheduler.plugins.affinity import NodeAffinity
from services.scheduler.plugins.base import Plugin, Scope, one
from services.scheduler.plugins.images import ImageLocality
from services.scheduler.plugins.interpod import InterPodAffinity
from services.scheduler.plugins.node import NodeName, NodePorts, NodeUnschedulable
from services.scheduler.plugins.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from services.scheduler.plugins.spread import PodTopologySpread
from services.scheduler.plugins.taints import TaintToleration
from services.scheduler.snapshot import Change, Snapshot
from services.scheduler.template import Template

PLUGIN_GROUP = "tillerman.scheduler.plugins"

# In the order in which they are asked; a node is refused in the words of the first that refuses.
BUILT_IN: tuple[type[Plugin], ...] = (
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    PodTopologySpread,
    InterPodAffinity,
    NodeResourcesBalancedAllocation,
    ImageLocality,
)


@dataclass(slots=True)
class Verdict:
    """One node's answer. Scores are weighted, by plugin; empty for a refused node."""

    row: int
    node: str
    plugin: str = ""
    reasons: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        return not self.plugin


@dataclass(slots=True)
class Diagnosis:
    """Why no node will do: how many nodes have which reason, and which plugins refused."""

    node_count: int
    reasons: Counter[str]
    plugins: frozenset[str]

    @property
    def message(self) -> str:
        return fit_message(self.node_count, self.reasons)


def fit_message(node_count: int, reasons: Counter[str]) -> str:
    """Kubernetes' sentence: "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable." """
    if not node_count:
        return "no nodes available to schedule pods"
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{node_count} nodes are available" + (f": {listed}." if listed else ".")


class Profile:
    """The plugins of one scheduler name. Keeps the node-only filter results of recent templates."""

    def __init__(self, plugins: Sequence[Plugin], *, rng: random.Random | None = None) -> None:
        self.plugins = tuple(plugins)
        self.rng = rng or random.Random()
        self._by_scope = {scope: [p for p in plugins if p.scope is scope] for scope in Scope}
        self._requeue_on = {p.name: p.requeue_on for p in plugins}
        self._node_masks: dict[Template, Mask] = {}
        self._node_masks_epoch = -1

    @classmethod
    def default(cls, *, rng: random.Random | None = None) -> "Profile":
        """The built-in plugins, then those installed as entry points (which may replace one by its name)."""
        by_name = {plugin.name: plugin() for plugin in BUILT_IN}
        for entry in entry_points(group=PLUGIN_GROUP):
            plugin = entry.load()()
            by_name[plugin.name] = plugin
        return cls(list(by_name.values()), rng=rng)

    def of_scope(self, scope: Scope) -> list[Plugin]:
        return self._by_scope[scope]

    def may_help(self, plugins: Iterable[str], changes: set[Change]) -> bool:
        """Whether changes may make a pod schedulable that these plugins refused."""
        return any(not changes.isdisjoint(self._requeue_on.get(name, changes)) for name in plugins)

    def node_mask(self, template: Template, snapshot: Snapshot) -> Mask:
        """Existing nodes that every Scope.NODES plugin allows; shape (size,). Not to be changed."""
        if self._node_masks_epoch != snapshot.epoch or len(self._node_masks) > 2048:
            self._node_masks.clear()
            self._node_masks_epoch = snapshot.epoch
        mask = self._node_masks.get(template)
        if mask is None or len(mask) != snapshot.size:
            mask = snapshot.present[: snapshot.size].copy()
            for plugin in self._by_scope[Scope.NODES]:
                allowed = plugin.filter(template, snapshot, snapshot.all_rows)
                if allowed is not None:
                    mask &= allowed
            self._node_masks[template] = mask
        return mask

    def feasible(self, template: Template, snapshot: Snapshot, row: int) -> bool:
        """Whether one node will do."""
        if not self.node_mask(template, snapshot)[row]:
            return False
        rows = one(row)
        for scope in (Scope.ROW, Scope.CLUSTER):
            for plugin in self._by_scope[scope]:
                allowed = plugin.filter(template, snapshot, rows)
                if allowed is not None and not allowed[0]:
                    return False
        return True

    def diagnose(self, template: Template, snapshot: Snapshot) -> Diagnosis:
        left = snapshot.present[: snapshot.size].copy()
        reasons: Counter[str] = Counter()
        refusing: set[str] = set()
        for plugin in self.plugins:
            allowed = plugin.filter(template, snapshot, snapshot.all_rows)
            if allowed is None:
                continue
            refused = np.flatnonzero(left & ~allowed)
            if len(refused):
                reasons += plugin.diagnose(template, snapshot, refused.tolist())
                refusing.add(plugin.name)
                left &= allowed
        return Diagnosis(snapshot.node_count, reasons, frozenset(refusing))

    def verdicts(self, template: Template, snapshot: Snapshot) -> list[Verdict]:
        """Every node's answer, in the order of the nodes' names."""
        rows = snapshot.all_rows
        refused_by: dict[int, Plugin] = {}
        left = snapshot.present[: snapshot.size].copy()
        for plugin in self.plugins:
            allowed = plugin.filter(template, snapshot, rows)
            if allowed is not None:
                refused_by.update(dict.fromkeys(np.flatnonzero(left & ~allowed).tolist(), plugin))
                left &= allowed
        scores = {
            plugin.name: plugin.weight * points
            for plugin in self.plugins
            if (points := plugin.score(template, snapshot, rows, left)) is not None
        }
        verdicts = []
        for row in np.flatnonzero(snapshot.present[: snapshot.size]).tolist():
            verdict = Verdict(row, snapshot.names[row])
            refusing = refused_by.get(row)
            if refusing is not None:
                verdict.plugin = refusing.name
                verdict.reasons = refusing.explain(template, snapshot, row)
            else:
                verdict.scores = {name: float(points[row]) for name, points in scores.items()}
            verdicts.append(verdict)
        return sorted(verdicts, key=lambda verdict: verdict.node)


class Evaluation:
    """Places pods of one template, one after the other: `row = pick()`, add the pod to the snapshot, `placed(row)`."""

    def __init__(self, profile: Profile, template: Template, snapshot: Snapshot) -> None:
        self._profile = profile
        self._template = template
        self._snapshot = snapshot
        self._rows = rows = snapshot.all_rows
        self._row_plugins = profile.of_scope(Scope.ROW)
        self._node_mask = profile.node_mask(template, snapshot)
        self._mask = self._node_mask.copy()
        for plugin in self._row_plugins:
            allowed = plugin.filter(template, snapshot, rows)
            if allowed is not None:
                self._mask &= allowed
        self._node_score = np.zeros(snapshot.size, dtype=np.float64)
        for plugin in profile.of_scope(Scope.NODES):
            points = plugin.score(template, snapshot, rows, self._mask)
            if points is not None:
                self._node_score += plugin.weight * points
        self._score = self._node_score + self._row_score(rows)
        cluster = profile.of_scope(Scope.CLUSTER)
        # What has no opinion now will have none after pods of this same template have been placed.
        self._filters = [p for p in cluster if p.filter(template, snapshot, rows) is not None]
        self._scorers = list(cluster)

    def pick(self) -> int | None:
        """The best node's row, any one of equals; None if there is none."""
        template, snapshot, rows = self._template, self._snapshot, self._rows
        mask = self._mask
        for plugin in self._filters:
            allowed = plugin.filter(template, snapshot, rows)
            if allowed is not None:
                mask = mask & allowed
        if not mask.any():
            return None
        total = self._score
        for plugin in self._scorers:
            points = plugin.score(template, snapshot, rows, mask)
            if points is not None:
                total = total + plugin.weight * points
        total = np.where(mask, total, -1.0)
        best = np.flatnonzero(total >= total.max() - 1e-9)
        return int(best[0] if len(best) == 1 else best[self._profile.rng.randrange(len(best))])

    def placed(self, row: int) -> None:
        """A pod of the template was added to the snapshot on this row."""
        rows = one(row)
        allowed = bool(self._node_mask[row])
        for plugin in self._row_plugins:
            answer = plugin.filter(self._template, self._snapshot, rows)
            if answer is not None and not answer[0]:
                allowed = False
        self._mask[row] = allowed
        if allowed:
            self._score[row] = self._node_score[row] + self._row_score(rows)[0]

    def _row_score(self, rows: Rows) -> Floats:
        size = self._snapshot.size if isinstance(rows, slice) else len(rows)
        total = np.zeros(size, dtype=np.float64)
        mask = self._mask[rows]
        for plugin in self._row_plugins:
            points = plugin.score(self._template, self._snapshot, rows, mask)
            if points is not None:
                total += plugin.weight * points
        return total
