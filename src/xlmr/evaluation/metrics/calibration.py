"""Whether 0.8 means eight in ten: reliability, ECE, Brier score and log loss."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlmr.evaluation.metrics.intervals import bootstrap_statistic

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

# Most bins, and fewest rows of one where the caller names no number of bins: bins of a few rows
# measure chance. At 30 rows and 86 % right, chance alone makes a gap of about 0.05.
BINS = 15
ROWS_A_BIN = 30


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of similar confidence: how sure on average, how often right, how many."""

    confidence: float
    accuracy: float
    n: int


def reliability(
    confidence_N: Floats, right_N: Flags, *, bins: int | None = None
) -> tuple[Bin, ...]:
    """Bins of equal mass by rising confidence: at most `bins`, fewer where confidences tie.

    Without `bins` there are as many as leave each `ROWS_A_BIN` rows, at least 1 and at most `BINS`.
    Rows of equal confidence share a bin, so the order of rows never matters.

    Raises:
        ValueError: no rows, lengths that differ, or a confidence outside 0 to 1.
    """
    _check(confidence_N, right_N)
    order_N = np.argsort(confidence_N, kind="stable")
    sorted_N, right_N = confidence_N[order_N], right_N[order_N]
    edges = [*_starts(sorted_N, bins).tolist(), len(sorted_N)]
    return tuple(
        Bin(float(sorted_N[a:b].mean()), float(right_N[a:b].mean()), b - a)
        for a, b in itertools.pairwise(edges)
    )


def ece(confidence_N: Floats, right_N: Flags, *, bins: int | None = None) -> float:
    """Expected calibration error: the bins' gaps between confidence and accuracy, by mass.

    Few rows make it large by chance alone: with 15 bins of 70 rows, a model that is right in 85 %
    and perfectly honest measures about 0.03.

    Raises:
        ValueError: as `reliability`.
    """
    found = reliability(confidence_N, right_N, bins=bins)
    return sum(bin_.n * abs(bin_.confidence - bin_.accuracy) for bin_ in found) / len(right_N)


def ece_by_chance(
    confidence_N: Floats, *, bins: int | None = None, samples: int = 200, seed: int = 0
) -> float:
    """The ECE that these confidences would show on average, were every one of them true.

    What an honest model measures on as many rows: an ECE near it says nothing against a model.

    Raises:
        ValueError: as `reliability`.
    """
    _check(confidence_N, confidence_N)
    sorted_N = np.sort(confidence_N)
    starts = _starts(sorted_N, bins)
    generator = np.random.default_rng(seed)
    found = 0.0
    for _ in range(samples):  # one draw at a time: samples × N may be large
        miss_N = sorted_N - (generator.random(len(sorted_N)) < sorted_N)
        found += float(np.abs(np.add.reduceat(miss_N, starts)).sum())
    return found / (samples * len(sorted_N))


def ece_beyond_chance(
    confidence_N: Floats, right_N: Flags, *, bins: int | None = None
) -> tuple[float, float]:
    """The bins' root mean square gap without what chance adds, and the square it is the root of.

    A bin's squared gap is less its accuracy's sampling variance (Bröcker 2012; Kumar et al. 2019),
    which leaves the mean square without bias: mean those of many languages before taking a root.
    Of an honest model the square is often below 0, and the root 0.

    Raises:
        ValueError: as `reliability`.
    """
    found = reliability(confidence_N, right_N, bins=bins)
    square = sum(
        bin_.n * ((bin_.confidence - bin_.accuracy) ** 2 - _variance(bin_)) for bin_ in found
    ) / len(right_N)
    return math.sqrt(max(square, 0.0)), square


def beyond_chance_interval(
    confidence_N: Floats,
    right_N: Flags,
    *,
    generator: np.random.Generator,
    bins: int | None = None,
    samples: int = 1000,
    coverage: float = 0.95,
) -> tuple[float, float]:
    """Interval of `ece_beyond_chance`'s root: from 0 where chance alone may have made the gaps.

    Drawn rows scatter around the rows, as those do around the truth: the basic bootstrap.

    Raises:
        ValueError: as `reliability`.
    """
    _check(confidence_N, right_N)
    _, square = ece_beyond_chance(confidence_N, right_N, bins=bins)
    plain = sum(
        bin_.n * (bin_.confidence - bin_.accuracy) ** 2
        for bin_ in reliability(confidence_N, right_N, bins=bins)
    ) / len(right_N)
    low, high = bootstrap_statistic(
        lambda rows_N: ece_beyond_chance(confidence_N[rows_N], right_N[rows_N], bins=bins)[1],
        len(right_N),
        generator=generator,
        samples=samples,
        coverage=coverage,
    )
    ends = (square + plain - high, square + plain - low)
    return math.sqrt(max(min(ends[0], square), 0.0)), math.sqrt(max(*ends, square, 0.0))


def ece_interval(
    confidence_N: Floats,
    right_N: Flags,
    *,
    generator: np.random.Generator,
    bins: int | None = None,
    samples: int = 1000,
    coverage: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the ECE over drawn rows; leans upwards, as ECE itself does.

    Raises:
        ValueError: as `reliability`.
    """
    _check(confidence_N, right_N)
    return bootstrap_statistic(
        lambda rows_N: ece(confidence_N[rows_N], right_N[rows_N], bins=bins),
        len(right_N),
        generator=generator,
        samples=samples,
        coverage=coverage,
    )


def brier(probabilities_NC: Floats, gold_N: Indices) -> float:
    """Mean over rows of the squared distance to certainty in the gold class: 0 to 2.

    Raises:
        ValueError: no rows, or lengths that differ.
    """
    if len(gold_N) == 0 or len(gold_N) != len(probabilities_NC):
        raise ValueError(f"{len(gold_N)} gold and {len(probabilities_NC)} predicted rows")
    distance_NC = probabilities_NC.astype(np.float64)  # a copy
    distance_NC[np.arange(len(gold_N)), gold_N] -= 1.0
    return float(np.mean(np.sum(distance_NC**2, axis=1)))


def log_loss(logits_NC: Floats, gold_N: Indices) -> float:
    """Mean negative log probability of the gold classes, in nats."""
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    normaliser_N = np.log(np.exp(shifted_NC).sum(axis=1))
    return float(np.mean(normaliser_N - shifted_NC[np.arange(len(gold_N)), gold_N]))


def _starts(sorted_N: Floats, bins: int | None) -> Indices:
    """Where each bin of rising confidences begins."""
    rows = len(sorted_N)
    bins = bins or min(max(rows // ROWS_A_BIN, 1), BINS)
    ideal = np.arange(1, bins) * rows // bins
    # A cut inside a tie moves to the tie's first row.
    cuts = np.unique(np.searchsorted(sorted_N, sorted_N[ideal]))
    return np.concatenate([np.zeros(1, np.int64), cuts[cuts > 0]])


def _variance(bin_: Bin) -> float:
    """Of a bin's accuracy, without bias; of a single row nothing is known, so all of its gap."""
    if bin_.n == 1:
        return (bin_.confidence - bin_.accuracy) ** 2
    return bin_.accuracy * (1.0 - bin_.accuracy) / (bin_.n - 1)


def _check(confidence_N: Floats, right_N: Flags | Floats) -> None:
    if len(right_N) == 0 or len(right_N) != len(confidence_N):
        raise ValueError(f"{len(right_N)} rows and {len(confidence_N)} confidences")
    if not (np.all(confidence_N >= 0.0) and np.all(confidence_N <= 1.0)):
        raise ValueError("a confidence is outside 0 to 1")
