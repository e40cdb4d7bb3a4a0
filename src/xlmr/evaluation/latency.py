"""How long one text takes to answer, on this machine, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xlmr.evaluation.suites import Table, by_language
from xlmr.evaluation.tasks import Evaluator

_WARMING = 5


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a row to its answer, tokenising included; rows were asked one by one."""

    p50_ms: float
    p95_ms: float
    rows: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


def measure_latency(evaluator: Evaluator, rows: Sequence[Any]) -> Latency:
    """Asks for each row by itself, a few of them beforehand to warm up.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("no rows to measure with")
    for row in rows[:_WARMING]:
        list(evaluator.answers([row]))
    took = []
    for row in rows:
        started = time.perf_counter()
        list(evaluator.answers([row]))
        took.append((time.perf_counter() - started) * 1000.0)
    p50, p95 = np.percentile(took, [50, 95])
    return Latency(float(p50), float(p95), len(rows))


def spread_rows(files: Sequence[Table[Any]], most: int) -> list[Any]:
    """At most so many rows, of every language as evenly as can be, evenly through its rows."""
    groups = list(by_language(files).values())
    each = max(most // max(len(groups), 1), 1)
    found = [row for rows in groups for row in rows[:: max(len(rows) // each, 1)][:each]]
    return found[:most]
