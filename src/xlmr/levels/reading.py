"""A page of /metrics, read back into numbers. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

from xlmr.errors import DataError

Labels = dict[str, str]


class Reading:
    """What a server exported at one moment.

    Attributes:
        at: the moment, in seconds on any clock that does not jump.
    """

    def __init__(self, text: str, *, at: float) -> None:
        """Reads a page.

        Raises:
            DataError: it is no page of a server of ours.
        """
        self.at = at
        self._samples: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    self._samples[sample.name].append((sample.labels, sample.value))
        except (ValueError, KeyError, IndexError):
            self._samples.clear()
        if "xlmr_engine_threads" not in self._samples:
            raise DataError("this is no page of metrics of xlmr", hint="the path is /metrics")

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels; 0 where there are none."""
        return sum(value for has, value in self._samples[name] if labels.items() <= has.items())

    def values(self, name: str, *by: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Sums by the values of some labels."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for has, value in self._samples[name]:
            if labels.items() <= has.items():
                sums[tuple(has.get(label, "") for label in by)] += value
        return dict(sums)


class Span:
    """What happened between two readings; since the server's start where there is no earlier one.

    Attributes:
        now: the later reading.
        seconds: between them; None where nobody knows when the server started.
    """

    def __init__(
        self, now: Reading, before: Reading | None = None, *, seconds: float | None = None
    ) -> None:
        # After a restart counters begin anew: there is nothing to compare them with.
        began = "process_start_time_seconds"
        same = before is not None and before.value(began) == now.value(began)
        self._before = before if same else None
        self.now = now
        self.seconds = now.at - before.at if before is not None and same else seconds

    def grown(self, name: str, *by: str, **labels: str) -> dict[tuple[str, ...], float]:
        """How much a counter has risen, by the values of some labels."""
        now = self.now.values(name, *by, **labels)
        before = {} if self._before is None else self._before.values(name, *by, **labels)
        # A version that was unloaded and came back began anew, too.
        return {k: v - before.get(k, 0) if v >= before.get(k, 0) else v for k, v in now.items()}

    def total(self, name: str, **labels: str) -> float:
        """How much a counter has risen in all."""
        return sum(self.grown(name, **labels).values())

    def quantile(self, name: str, share: float, **labels: str) -> float | None:
        """Of a histogram, as Prometheus would say; None where nothing was observed."""
        counts = self.grown(f"{name}_bucket", "le", **labels)
        return _quantile(((float(le), count) for (le,), count in counts.items()), share)


def _quantile(buckets: Iterable[tuple[float, float]], share: float) -> float | None:
    """Within a bucket values are taken to lie evenly; beyond the last bound, at it."""
    ordered = sorted(buckets)
    if not ordered or not ordered[-1][1]:
        return None
    rank = share * ordered[-1][1]
    for (low, below), (high, upto) in pairwise(_from_zero(ordered)):
        if upto >= rank and upto > below:
            return low if math.isinf(high) else low + (high - low) * (rank - below) / (upto - below)
    return ordered[-1][0]


def _from_zero(buckets: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    yield 0.0, 0.0
    yield from buckets
