"""Counters and histograms for code that runs on one event loop and is on every request's path.

prometheus_client's own take a lock, and look children up, on every change: several microseconds a request. These are
plain numbers, read when metrics are; the names and the text are the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Cell:
    """One number: change ``value``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Counts(Collector):
    """A counter (``gauge``: a gauge) with labels. ``name`` of a counter is without "_total"."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        gauge: bool = False,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._family = (name, documentation, None, tuple(labels))
        self._make = GaugeMetricFamily if gauge else CounterMetricFamily
        self._cells: dict[tuple[str, ...], Cell] = {}
        registry.register(self)

    def cell(self, *labels: str) -> Cell:
        """The number of one combination of labels: keep it where it is changed often."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = Cell()
        return cell

    def describe(self) -> Iterable[Metric]:
        return [self._make(*self._family)]

    def collect(self) -> Iterable[Metric]:
        family = self._make(*self._family)
        for labels, cell in self._cells.items():
            family.add_metric(labels, cell.value)
        return [family]


class Series:
    """One histogram."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, amount: float) -> None:
        self.counts[bisect_left(self._bounds, amount)] += 1
        self.total += amount


class Durations(Collector):
    """A histogram of seconds with labels."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        buckets: tuple[float, ...] = DEFAULT_BUCKETS,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._buckets = buckets
        self._bounds = [*map(str, buckets), "+Inf"]
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def series(self, *labels: str) -> Series:
        """The histogram of one combination of labels: keep it where it is used often."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(self._buckets)
        return series

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, series in self._series.items():
            upto, buckets = 0, []
            for bound, count in zip(self._bounds, series.counts, strict=True):
                upto += count
                buckets.append((bound, float(upto)))
            family.add_metric(labels, buckets, series.total)
        return [family]
