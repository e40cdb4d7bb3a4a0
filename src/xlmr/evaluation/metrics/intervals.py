"""How far a figure would move, were other rows of the same kind drawn: percentile bootstrap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def bootstrap_interval(
    values_N: NDArray[np.float64],
    *,
    generator: np.random.Generator,
    samples: int = 1000,
    coverage: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the mean, by drawing N rows with replacement `samples` times.

    Never excludes the mean itself.

    Raises:
        ValueError: no rows.
    """
    return bootstrap_statistic(
        lambda rows_N: float(values_N[rows_N].mean()),
        len(values_N),
        generator=generator,
        samples=samples,
        coverage=coverage,
    )


def bootstrap_statistic(
    statistic: Callable[[NDArray[np.int64]], float],
    rows: int,
    *,
    generator: np.random.Generator,
    samples: int = 1000,
    coverage: float = 0.95,
) -> tuple[float, float]:
    """The same for any figure: `statistic` takes the indices of N drawn rows.

    Never excludes the figure of all rows, each once.

    Raises:
        ValueError: no rows.
    """
    if rows == 0:
        raise ValueError("no rows")
    drawn = np.empty(samples)
    for i in range(samples):  # one draw at a time: N may be large, samples × N must not be
        drawn[i] = statistic(generator.integers(0, rows, rows))
    return percentile_interval(drawn, statistic(np.arange(rows)), coverage=coverage)


def percentile_interval(
    drawn: NDArray[np.float64], estimate: float, *, coverage: float = 0.95
) -> tuple[float, float]:
    """The middle `coverage` of the drawn figures, widened where needed to hold the estimate."""
    tail = (1.0 - coverage) / 2.0
    low, high = np.quantile(drawn, (tail, 1.0 - tail))
    return min(float(low), estimate), max(float(high), estimate)
