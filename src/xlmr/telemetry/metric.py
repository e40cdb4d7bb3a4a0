"""One row of the table of metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of the table.

    Attributes:
        name: as exported, without the `_total` of counters; holds the unit.
        unit: what is counted or measured: seconds, tokens, bytes, a ratio.
        help: one sentence.
        labels: names of its labels, in the order their values are given.
        buckets: upper bounds, of histograms.
        known: values of its only label that are exported as 0 before anything happened.
        asked: whether it is asked for its value at each scrape, instead of being counted.
        gpu: whether it is there only where there is a GPU.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    known: tuple[str, ...] = ()
    asked: bool = False
    gpu: bool = False


def counter(
    name: str, unit: str, help: str, *labels: str, known: tuple[str, ...] = (), asked: bool = False
) -> Metric:
    """A row for what only rises."""
    return Metric(
        name=name, kind="counter", unit=unit, help=help, labels=labels, known=known, asked=asked
    )


def gauge(name: str, unit: str, help: str, *labels: str, gpu: bool = False) -> Metric:
    """A row for what is asked at each scrape."""
    return Metric(name=name, kind="gauge", unit=unit, help=help, labels=labels, gpu=gpu)


def histogram(
    name: str,
    unit: str,
    help: str,
    buckets: tuple[float, ...],
    *labels: str,
    known: tuple[str, ...] = (),
) -> Metric:
    """A row for what is sorted into buckets."""
    return Metric(
        name=name,
        kind="histogram",
        unit=unit,
        help=help,
        labels=labels,
        buckets=buckets,
        known=known,
    )
