"""What became of a load: latencies from arrival on, refusals, and what was of use. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_REFUSALS = (429, 503)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Attributes:
        status: of the answer; 0 where there was none.
        seconds: from its arrival to its last byte, the wait for a connection included.
    """

    status: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A server under one rate of arrivals. Latencies are of answers, in seconds; NaN without any.

    Attributes:
        offered: requests a second that arrived.
        answered: requests a second that were answered.
        good: requests a second that were answered within the objective.
        refused: share that was refused, with 429 or 503.
        failed: share that met another status, or no answer.
        refusal_p99: of refusals.
        statuses: how many of each; 0 is no answer at all.
    """

    offered: float
    answered: float
    good: float
    refused: float
    failed: float
    p50: float
    p95: float
    p99: float
    refusal_p99: float
    statuses: dict[int, int]

    def keeps(self, objective_s: float) -> bool:
        """Whether all but one in a hundred were answered, and those within the objective."""
        return self.refused + self.failed <= 0.01 and self.p99 <= objective_s

    def to_json(self) -> dict[str, Any]:
        """Plain values; a latency of nothing is None."""
        return {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in asdict(self).items()
        }


def summarise(outcomes: Sequence[Outcome], *, seconds: float, objective_s: float) -> Level:
    """The figures of one level.

    Args:
        outcomes: of every request that arrived.
        seconds: how long arrivals went on.
        objective_s: until when an answer is of use.

    Raises:
        ValueError: nothing arrived.
    """
    if not outcomes:
        raise ValueError("nothing arrived")
    answers = np.array([one.seconds for one in outcomes if one.status == 200])
    refusals = np.array([one.seconds for one in outcomes if one.status in _REFUSALS])
    total = len(outcomes)
    p50, p95, p99 = _percentiles(answers, (50, 95, 99))
    return Level(
        offered=total / seconds,
        answered=len(answers) / seconds,
        good=float((answers <= objective_s).sum()) / seconds,
        refused=len(refusals) / total,
        failed=(total - len(answers) - len(refusals)) / total,
        p50=p50,
        p95=p95,
        p99=p99,
        refusal_p99=_percentiles(refusals, (99,))[0],
        statuses=dict(sorted(Counter(one.status for one in outcomes).items())),
    )


def _percentiles(values: Any, which: Sequence[int]) -> list[float]:
    if not len(values):
        return [float("nan")] * len(which)
    return [float(value) for value in np.percentile(values, which)]
