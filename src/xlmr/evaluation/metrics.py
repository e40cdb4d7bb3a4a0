"""Numbers that say how right a classifier is. N rows, C classes; everything in 0 to 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def accuracy(gold_N: Indices, predicted_N: Indices) -> float:
    """Share of rows that are right.

    Raises:
        ValueError: no rows, or lengths that differ.
    """
    _check(gold_N, predicted_N)
    return float(np.mean(gold_N == predicted_N))


def macro_f1(gold_N: Indices, predicted_N: Indices) -> float:
    """F1 of each class, averaged over the classes that occur in either list.

    A class that is never predicted, or never gold, counts as 0.

    Raises:
        ValueError: no rows, or lengths that differ.
    """
    _check(gold_N, predicted_N)
    classes = np.union1d(gold_N, predicted_N)
    hits_C = np.array([np.sum((gold_N == c) & (predicted_N == c)) for c in classes])
    sizes_C = np.array([np.sum(gold_N == c) + np.sum(predicted_N == c) for c in classes])
    return float(np.mean(2.0 * hits_C / sizes_C))


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
    if len(values_N) == 0:
        raise ValueError("no rows")
    means = np.empty(samples)
    for i in range(samples):  # one draw at a time: N may be large, samples × N must not be
        means[i] = values_N[generator.integers(0, len(values_N), len(values_N))].mean()
    tail = (1.0 - coverage) / 2.0
    low, high = np.quantile(means, (tail, 1.0 - tail))
    mean = float(values_N.mean())
    return min(float(low), mean), max(float(high), mean)


def _check(gold_N: Indices, predicted_N: Indices) -> None:
    if len(gold_N) == 0 or len(gold_N) != len(predicted_N):
        raise ValueError(f"{len(gold_N)} gold and {len(predicted_N)} predicted rows")
