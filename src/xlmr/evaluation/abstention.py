"""When to say nothing: the confidence above which answers are wrong no more often than stated.

Pure. The bound is for rows like those it was fitted on, N of them, and holds with the stated
confidence however the threshold was found: `_STEPS` coverages are tried, decided by the
confidences alone, and each is held to the exact binomial (Clopper-Pearson) upper bound at
(1 - confidence) / `_STEPS`, so that all bounds hold together.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xlmr.model.calibration import Abstention

# Coverages tried: 5 %, 10 %, ... 100 %. More would cost each a looser bound and gain little.
_STEPS = 20


def fit_abstention(
    confidence_N: NDArray[np.float64],
    right_N: NDArray[np.bool_],
    *,
    risk: float,
    confidence: float = 0.95,
) -> Abstention:
    """The threshold that answers most rows and keeps the share of wrong ones at most `risk`.

    Raises:
        ValueError: lengths that differ, or a risk or confidence not between 0 and 1.
    """
    if len(confidence_N) != len(right_N):
        raise ValueError(f"{len(right_N)} rows and {len(confidence_N)} confidences")
    if not (0.0 < risk < 1.0 and 0.0 < confidence < 1.0):
        raise ValueError("risk and confidence lie between 0 and 1")
    rows = len(right_N)
    best = Abstention(None, risk, confidence, None, 0.0, rows)
    falling_N = np.sort(confidence_N)[::-1]
    for step in range(1, _STEPS + 1):
        wanted = rows * step // _STEPS
        # Strictly above the first row left out: rows that tie with it are left out as well.
        threshold = float(falling_N[wanted]) if wanted < rows else 0.0
        given_N = confidence_N > threshold
        given = int(given_N.sum())
        if not given:
            continue
        wrong = given - int(right_N[given_N].sum())
        bound = upper_bound(wrong, given, confidence=1.0 - (1.0 - confidence) / _STEPS)
        if bound <= risk and given / rows >= best.coverage:
            best = Abstention(threshold, risk, confidence, bound, given / rows, rows)
    return best


def upper_bound(hits: int, rows: int, *, confidence: float) -> float:
    """Clopper-Pearson: the largest rate under which so few hits are not yet too unlikely.

    Raises:
        ValueError: no rows, or hits outside 0 to `rows`.
    """
    if rows < 1 or not 0 <= hits <= rows:
        raise ValueError(f"{hits} hits in {rows} rows")
    if hits == rows:
        return 1.0
    low, high = hits / rows, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if _chance_of_at_most(hits, rows, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def _chance_of_at_most(hits: int, rows: int, rate: float) -> float:
    """Binomial: chance of 0 to `hits` in `rows` at `rate`, summed in logs."""
    if rate >= 1.0:
        return 0.0
    k = np.arange(1, hits + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((rows - k + 1) / k))])
    k = np.arange(hits + 1)
    terms = log_choose + k * math.log(rate or 1e-300) + (rows - k) * math.log1p(-rate)
    return float(min(np.exp(terms).sum(), 1.0))
