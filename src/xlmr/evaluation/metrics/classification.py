"""How right a classifier is: one label a row, several labels a row, or scores to be ranked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


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


def confusion(gold_N: Indices, predicted_N: Indices, *, classes: int) -> NDArray[np.int64]:
    """Counts [C, C]: rows by gold class, columns by predicted class.

    Raises:
        ValueError: no rows, lengths that differ, or a class outside 0 to `classes` - 1.
    """
    _check(gold_N, predicted_N)
    for given_N in (gold_N, predicted_N):
        if given_N.min() < 0 or given_N.max() >= classes:
            raise ValueError(f"a class outside 0 to {classes - 1}")
    counts = np.bincount(gold_N * classes + predicted_N, minlength=classes * classes)
    return counts.reshape(classes, classes)


def multi_label_f1(gold_NC: Flags, predicted_NC: Flags) -> tuple[float, float]:
    """Micro and macro F1 where a row may have any number of labels, none included.

    Micro counts every decision alike; macro counts every label alike, and a label that occurs in
    neither list as 0, as scikit-learn's `zero_division=0` does.

    Raises:
        ValueError: no rows, or shapes that differ.
    """
    _check(gold_NC, predicted_NC)
    hits_C = np.sum(gold_NC & predicted_NC, axis=0)
    sizes_C = np.sum(gold_NC, axis=0) + np.sum(predicted_NC, axis=0)
    micro = 2.0 * hits_C.sum() / max(int(sizes_C.sum()), 1)
    return float(micro), float(np.mean(2.0 * hits_C / np.maximum(sizes_C, 1)))


def auroc(gold_N: Flags, scores_N: Floats) -> float:
    """Chance that a row with the label scores above one without it; ties count half.

    Raises:
        ValueError: lengths that differ, a score that is no number, or only one kind of row.
    """
    positives, negatives = _both_kinds(gold_N, scores_N)
    ranks_N = average_ranks(scores_N)
    above = ranks_N[gold_N].sum() - positives * (positives + 1) / 2.0
    return float(above / (positives * negatives))


def average_precision(gold_N: Flags, scores_N: Floats) -> float:
    """Precision at each threshold, weighted by the recall it adds; rows that tie come together.

    Raises:
        ValueError: lengths that differ, a score that is no number, or no row with the label.
    """
    positives, _ = _both_kinds(gold_N, scores_N, negatives_too=False)
    order_N = np.argsort(-scores_N, kind="stable")
    sorted_N = scores_N[order_N]
    last_of_tie = np.append(np.flatnonzero(np.diff(sorted_N)), len(sorted_N) - 1)
    hits = np.cumsum(gold_N[order_N])[last_of_tie]
    precision = hits / (last_of_tie + 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / positives)


def average_ranks(values_N: Floats) -> Floats:
    """Ranks from 1, rising; values that tie share the mean of their ranks."""
    _, place_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: Floats = last - (counts - 1) / 2.0
    return middle[place_N]


def _both_kinds(gold_N: Flags, scores_N: Floats, *, negatives_too: bool = True) -> tuple[int, int]:
    _check(gold_N, scores_N)
    if not np.all(np.isfinite(scores_N)):
        raise ValueError("a score is not a finite number")
    positives = int(np.sum(gold_N))
    negatives = len(gold_N) - positives
    if not positives or (negatives_too and not negatives):
        raise ValueError(f"{positives} rows with the label and {negatives} without")
    return positives, negatives


def _check(gold: NDArray[np.generic], predicted: NDArray[np.generic]) -> None:
    if len(gold) == 0 or gold.shape != predicted.shape:
        raise ValueError(f"{len(gold)} gold and {len(predicted)} predicted rows")
