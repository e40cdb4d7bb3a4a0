"""A table of metrics made real: counted, observed, asked, exported. Knows none of their names.

The numbers are kept here rather than by prometheus_client: a request touches a dozen of them, which
takes its objects three times as long. Label values that a stranger could choose are folded: see
`Folded`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from xlmr.telemetry.exposition import Observed, Row, page, samples
from xlmr.telemetry.metric import Metric

OTHER = "other"

# A metric's name and its label values, in the table's order.
Key = tuple[str, ...]
# What a metric is asked for at a scrape: one number, or one for each tuple of label values.
Asked = float | Mapping[tuple[str, ...], float]


class Folded:
    """The first `most` values are themselves; later ones share `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: set[tuple[str, ...]] = set()

    def __call__(self, *value: str) -> tuple[str, ...]:
        """The value, or `other` in each of its places."""
        if value in self._kept:
            return value
        if len(self._kept) >= self._most:
            return (OTHER,) * len(value)
        self._kept.add(value)
        return value

    def forget(self, *value: str) -> None:
        """Makes room for another."""
        self._kept.discard(value)


class Registry:
    """The metrics of a table. Safe to use from several threads."""

    def __init__(self, table: Sequence[Metric]) -> None:
        self._table = {metric.name: metric for metric in table}
        self._bounds = {metric.name: metric.buckets for metric in table if metric.buckets}
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, ...], float] = {}
        self._observed: dict[tuple[str, ...], Observed] = {}
        self._sources: dict[str, Callable[[], Asked]] = {}
        for metric in table:
            self._begin(metric)
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def count(self, amount: float, *key: str) -> None:
        """Adds to a counter; `key` is its name and its label values, in the table's order."""
        with self._lock:
            self._counted[key] = self._counted.get(key, 0.0) + amount

    def observe(self, value: float, *key: str) -> None:
        """Puts a value into a histogram; `key` as for `count`."""
        self.update((), ((key, value),))

    def update(
        self,
        counts: Iterable[tuple[Key, float]],
        observed: Iterable[tuple[Key, float]],
    ) -> None:
        """Many counts and values at once, by their keys."""
        counted, bounds, kept = self._counted, self._bounds, self._observed
        with self._lock:
            for key, amount in counts:
                counted[key] = counted.get(key, 0.0) + amount
            for key, value in observed:
                edges = bounds[key[0]]
                series = kept.get(key)
                if series is None:
                    series = kept[key] = Observed([0] * (len(edges) + 1), 0.0)
                series.counts[bisect_left(edges, value)] += 1
                series.total += value

    def ask(self, name: str, source: Callable[[], Asked]) -> None:
        """Has a metric ask `source` at each scrape, from whatever thread that is done in."""
        metric = self._table[name]
        assert metric.kind == "gauge" or metric.asked, name
        self._sources[name] = source

    def remove(self, **labels: str) -> None:
        """Drops every series that has all these label values."""
        with self._lock:
            series: list[dict[tuple[str, ...], Any]] = [self._counted, self._observed]
            for keys in series:
                for key in list(keys):
                    values = dict(zip(self._table[key[0]].labels, key[1:], strict=True))
                    if labels.items() <= values.items():
                        del keys[key]

    def export(self) -> bytes:
        """Everything in Prometheus' text format, facts of the process at the end."""
        return page(self._rows()).encode() + generate_latest(self._process)

    def value(self, name: str, labels: Mapping[str, str]) -> float:
        """The sum of a name's samples that have these label values; 0 where there are none."""
        return sum(
            value
            for sample, has, value in samples(self._rows())
            if sample == name and labels.items() <= has.items()
        )

    def _rows(self) -> list[Row]:
        """Every metric with its series as they are now, in the table's order."""
        found: dict[str, dict[tuple[str, ...], float | Observed]] = {
            name: dict(self._asked(metric)) for name, metric in self._table.items()
        }
        with self._lock:
            for key, amount in self._counted.items():
                found[key[0]][key[1:]] = amount
            for key, series in self._observed.items():
                found[key[0]][key[1:]] = Observed(list(series.counts), series.total)
        return [
            Row(metric, found[name])
            for name, metric in self._table.items()
            if found[name] or not metric.gpu
        ]

    def _asked(self, metric: Metric) -> Mapping[tuple[str, ...], float]:
        """What a metric says when asked; 0 without labels while nobody knows how to tell."""
        if metric.kind != "gauge" and not metric.asked:
            return {}
        source = self._sources.get(metric.name)
        if source is None:
            return {} if metric.labels else {(): 0.0}
        value = source()
        return value if isinstance(value, Mapping) else {(): value}

    def _begin(self, metric: Metric) -> None:
        """Series that are there before anything has happened."""
        if metric.kind == "gauge" or metric.asked:
            return
        values = [(value,) for value in metric.known] if metric.labels else [()]
        for value in values:
            key = (metric.name, *value)
            if metric.kind == "counter":
                self._counted[key] = 0.0
            else:
                self._observed[key] = Observed([0] * (len(metric.buckets) + 1), 0.0)
