"""Pods per node by selector: counters that are made when first asked for and then follow every pod that comes or goes.

Counting goes by template: which counters a template feeds is decided once, so adding a pod costs one increment per
counter that counts it. Counters nobody asked for lately are dropped.
"""

from collections.abc import Callable, Iterable

import numpy as np

from services.scheduler.arrays import PodCounter, grown
from services.scheduler.template import Template
from services.scheduler.terms import AffinityTerm, PodSelector

# Bytes that counters may take, but so many of them at least.
MEMORY = 64 * 1024 * 1024
FEWEST = 512


class PodCounters:
    """`namespace_labels` maps a namespace to its labels; shared with the snapshot."""

    def __init__(self, namespace_labels: dict[str, dict[str, str]]) -> None:
        self._namespace_labels = namespace_labels
        self._capacity = 0
        self._counters: dict[object, PodCounter] = {}
        self._fed_by: dict[Template, list[PodCounter]] = {}
        # (template, terminating) -> {row: pods}
        self._placed: dict[tuple[Template, bool], dict[int, int]] = {}
        self._held: dict[AffinityTerm, PodCounter] = {}

    def __len__(self) -> int:
        return len(self._counters)

    def grow(self, capacity: int) -> None:
        self._capacity = capacity
        for counter in self._counters.values():
            counter.counts = grown(counter.counts, capacity).astype(np.int32, copy=False)

    def change(self, template: Template, terminating: bool, row: int, by: int) -> None:
        """A pod of this template came to (+1) or left (-1) a row."""
        rows = self._placed.setdefault((template, terminating), {})
        left = rows.get(row, 0) + by
        if left:
            rows[row] = left
        else:
            rows.pop(row, None)
        fed = self._fed_by.get(template)
        if fed is None:
            fed = self._admit(template)
        for counter in fed:
            if counter.with_terminating or not terminating:
                counter.add(row, by)
        if by < 0:
            for counter in [c for c in fed if c.pinned and not c.total]:
                self._drop(counter)
        if not rows:
            del self._placed[template, terminating]
            if (template, not terminating) not in self._placed:
                del self._fed_by[template]

    def owned_by(self, owner: str) -> PodCounter:
        """Pods of one controller (uid) that are not going away."""
        return self._get(("owner", owner), lambda template: template.owner == owner, with_terminating=False)

    def selected(self, selector: PodSelector, *, with_terminating: bool) -> PodCounter:
        """Pods that a selector matches."""
        namespace_labels = self._namespace_labels

        def matches(template: Template) -> bool:
            return selector.matches(
                template.namespace, template.labels, namespace_labels.get(template.namespace, _NO_LABELS)
            )

        return self._get(
            ("selector", selector.key, with_terminating),
            matches,
            with_terminating=with_terminating,
            by_namespace_labels=selector.namespace_selector is not None,
        )

    def held_terms(self) -> Iterable[tuple[AffinityTerm, PodCounter]]:
        """The affinity terms of pods that are placed, and who holds them where."""
        return [(term, counter) for term, counter in self._held.items() if counter.total]

    def namespaces_changed(self) -> None:
        """Counts anew what depends on namespaces' labels."""
        for counter in list(self._counters.values()):
            if counter.by_namespace_labels:
                self._drop(counter)

    def _get(
        self,
        key: object,
        matches: Callable[[Template], bool],
        *,
        with_terminating: bool,
        by_namespace_labels: bool = False,
        pinned: bool = False,
    ) -> PodCounter:
        counter = self._counters.pop(key, None)
        if counter is None:
            counter = PodCounter(
                key,
                matches,
                self._capacity,
                with_terminating=with_terminating,
                by_namespace_labels=by_namespace_labels,
                pinned=pinned,
            )
            self._count(counter)
            if len(self._counters) >= max(FEWEST, MEMORY // (4 * self._capacity)):
                self._evict()
        self._counters[key] = counter  # newest last
        return counter

    def _count(self, counter: PodCounter) -> None:
        feeding = {template for template in self._fed_by if counter.matches(template)}
        for template in feeding:
            self._fed_by[template].append(counter)
            for terminating in (False, True) if counter.with_terminating else (False,):
                for row, pods in self._placed.get((template, terminating), _NO_ROWS).items():
                    counter.add(row, pods)

    def _admit(self, template: Template) -> list[PodCounter]:
        """A template that was not placed so far: which counters it feeds."""
        for term in template.affinity:
            if term not in self._held:
                self._held[term] = self._get(
                    ("held", term), _holding(term), with_terminating=True, pinned=True
                )  # fmt: skip
        fed = self._fed_by[template] = [c for c in self._counters.values() if c.matches(template)]
        return fed

    def _evict(self) -> None:
        """Drops the counter that was asked for the longest time ago. Held terms stay while a pod holds them."""
        oldest = next((counter for counter in self._counters.values() if not counter.pinned), None)
        if oldest is not None:
            self._drop(oldest)

    def _drop(self, counter: PodCounter) -> None:
        self._counters.pop(counter.key, None)
        for fed in self._fed_by.values():
            if counter in fed:
                fed.remove(counter)
        for term, held in list(self._held.items()):
            if held is counter:
                del self._held[term]


_NO_LABELS: dict[str, str] = {}
_NO_ROWS: dict[int, int] = {}


def _holding(term: AffinityTerm) -> Callable[[Template], bool]:
    return lambda template: term in template.affinity
