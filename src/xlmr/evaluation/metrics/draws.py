"""Figures of many draws of rows at once: a draw says how often each row is in it.

Shapes: S draws, N rows, K values a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Values of N rows, [N] or [N, K], and draws of them, [S, N] → a figure of each draw, [S].
Figures = Callable[[Floats, Floats], Floats]

# Counts held at a time: 16 MB. Rows may be many, draws × rows must not be.
_BLOCK = 2**21


def draw(rows: int, samples: int, generator: np.random.Generator) -> Iterator[Floats]:
    """`samples` draws of as many rows as there are, with replacement: [S, N], in blocks of draws.

    Raises:
        ValueError: no rows.
    """
    if rows == 0:
        raise ValueError("no rows")
    most = max(1, _BLOCK // rows)
    for done in range(0, samples, most):
        block = min(most, samples - done)
        drawn_SN = generator.integers(0, rows, (block, rows))
        apart_SN = drawn_SN + rows * np.arange(block)[:, None]
        counts = np.bincount(apart_SN.ravel(), minlength=block * rows)
        yield counts.reshape(block, rows).astype(np.float64)


def whole(figures: Figures, values: Floats) -> float:
    """The figure of all rows, each once."""
    return float(figures(values, np.ones((1, len(values))))[0])


def means(values: Floats, counts_SN: Floats) -> Floats:
    """The mean of all values, [N] or [N, K]; 0 of a draw without rows."""
    values_N = values.reshape(len(values), -1).mean(axis=1)
    found_S: Floats = counts_SN @ values_N / np.maximum(counts_SN.sum(axis=1), 1.0)
    return found_S


def f1_of_counts(values_N3: Floats, counts_SN: Floats) -> Floats:
    """F1 of hits, gold and given, summed over rows; 0 where there is nothing on either side."""
    hits_S, gold_S, given_S = (counts_SN @ values_N3).T
    found_S: Floats = 2.0 * hits_S / np.maximum(gold_S + given_S, 1.0)
    return found_S


def rank_correlations(values_N2: Floats, counts_SN: Floats) -> Floats:
    """Spearman's, -1 to 1, ties sharing the mean rank; 0 where either side never varies.

    Raises:
        ValueError: a value is no finite number.
    """
    if not np.all(np.isfinite(values_N2)):
        raise ValueError("a value is not a finite number")
    rows_S = np.maximum(counts_SN.sum(axis=1), 1.0)
    first_SN, second_SN = (_ranks(side_N, counts_SN) for side_N in values_N2.T)
    # The mean of ranks is (rows + 1) / 2, ties or not: no rounding, so no spread of dust.
    first_SN -= (rows_S[:, None] + 1.0) / 2.0
    second_SN -= (rows_S[:, None] + 1.0) / 2.0
    together_S = np.sum(counts_SN * first_SN * second_SN, axis=1)
    spread_S = np.sum(counts_SN * first_SN**2, axis=1) * np.sum(counts_SN * second_SN**2, axis=1)
    found_S = together_S / np.sqrt(np.where(spread_S > 0.0, spread_S, np.inf))
    clipped_S: Floats = np.clip(found_S, -1.0, 1.0)
    return clipped_S


def _ranks(values_N: Floats, counts_SN: Floats) -> Floats:
    """Rank of each row within each draw, from 1; values that tie share the mean of their ranks."""
    _, group_N, sizes = np.unique(values_N, return_inverse=True, return_counts=True)
    last_U = np.cumsum(sizes) - 1
    upto_SU = np.cumsum(counts_SN[:, np.argsort(values_N, kind="stable")], axis=1)[:, last_U]
    before_SU = np.concatenate([np.zeros((len(counts_SN), 1)), upto_SU[:, :-1]], axis=1)
    ranks_SN: Floats = ((before_SU + upto_SU + 1.0) / 2.0)[:, group_N]
    return ranks_SN
