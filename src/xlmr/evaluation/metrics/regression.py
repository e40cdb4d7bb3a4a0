"""How well predicted numbers follow the gold ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xlmr.evaluation.metrics.classification import average_ranks

Floats = NDArray[np.float64]


def pearson(gold_N: Floats, predicted_N: Floats) -> float:
    """Linear correlation, -1 to 1; 0 where either side never varies, since it then tells nothing.

    Raises:
        ValueError: fewer than two rows, lengths that differ, or a value that is no finite number.
    """
    if len(gold_N) < 2 or len(gold_N) != len(predicted_N):
        raise ValueError(f"{len(gold_N)} gold and {len(predicted_N)} predicted rows")
    if not (np.all(np.isfinite(gold_N)) and np.all(np.isfinite(predicted_N))):
        raise ValueError("a value is not a finite number")
    sides = []
    for values_N in (gold_N, predicted_N):
        if np.all(values_N == values_N[0]):  # exactly: a rounded mean leaves a spread of dust
            return 0.0
        centred_N = values_N / np.abs(values_N).max()
        centred_N = centred_N - centred_N.mean()
        length = float(np.linalg.norm(centred_N))
        if length == 0.0:
            return 0.0
        sides.append(centred_N / length)
    return float(np.clip(sides[0] @ sides[1], -1.0, 1.0))


def spearman(gold_N: Floats, predicted_N: Floats) -> float:
    """Correlation of the ranks, ties sharing the mean rank; otherwise as `pearson`."""
    if len(gold_N) != len(predicted_N):
        raise ValueError(f"{len(gold_N)} gold and {len(predicted_N)} predicted rows")
    if not (np.all(np.isfinite(gold_N)) and np.all(np.isfinite(predicted_N))):
        raise ValueError("a value is not a finite number")
    return pearson(average_ranks(gold_N), average_ranks(predicted_N))
