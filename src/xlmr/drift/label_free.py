"""How right answers are: estimated while nobody has labelled them, and known once some are. Pure.

A calibrated confidence is the chance of being right, so its mean is the accuracy to expect (CBPE),
language by language. Where the reference's labelled rows show that confidences are not quite that,
they are bent by two numbers (log odds moved and scaled), as far as its rows bear it. This follows a
shift of what is asked: harder texts are answered with less confidence. It cannot see that the right
answer itself has changed, which labels alone tell.

Suffix: K bins of confidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from xlmr.binomial import rate_interval
from xlmr.drift.bets import SIGMAS
from xlmr.drift.label_shift import accuracy_of_shifted
from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import LABEL, Signals, Sketch

Floats = NDArray[np.float64]

# Signals of how a text is written, whatever it says.
_WRITTEN = ("tokens_per_character", "unknown_pieces")

_MILLION = 1_000_000
# By how much, before any row is seen, log odds may be off, and their scale (standard deviations).
_SPREAD = 0.3
_STEPS = 20
# A confidence of 1 has no log odds.
_LEAST = 1e-4


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers, and an interval of it.

    Attributes:
        rows: answers that it rests on.
        share: of them that are right, 0 to 1.
        low: lower end.
        high: upper end.
    """

    rows: int
    share: float
    low: float
    high: float

    def below(self, least: float) -> bool:
        """Whether it is shown to be less than this: what wakes somebody."""
        return self.high < least


def estimated_accuracy(
    sketch: Sketch, expected: Expected | None = None, *, confidence: float = 0.95
) -> Accuracy | None:
    """Of one language's answers, those that were withheld included; None where there are none.

    The interval counts the chance in the answers themselves and what is not known of their
    calibration; a change of what is right is not in it. Texts that are written unlike those of the
    reference, without diacritics or in other letters, are answered with too much confidence: the
    interval reaches down as far as if all of those were wrong. Where labels are said in other
    numbers it holds what would be right if only that had changed, too (`accuracy_of_labels`).

    Args:
        sketch: what was seen.
        expected: the reference's part for that language.
        confidence: of the interval holding the share that a full labelling would give.
    """
    count_K = np.array(sketch.bins["confidence"], np.float64)
    rows = int(count_K.sum())
    if not rows:
        return None
    seen_K = count_K > 0.0
    count_K = count_K[seen_K]
    curve = _fitted(None if expected is None else expected.judged)
    mean_K = np.array(sketch.millionths, np.float64)[seen_K] / _MILLION / count_K
    rate_K, moves_K2 = curve.at(mean_K)
    share = float(count_K @ rate_K) / rows
    moves_2 = count_K @ moves_K2 / rows
    # Of chances in one bin rate · (1 - rate) is the most that they vary.
    chance = float(count_K @ (rate_K * (1.0 - rate_K))) / rows**2
    half = NormalDist().inv_cdf(0.5 + confidence / 2.0) * math.sqrt(
        chance + float(moves_2 @ curve.doubt_22 @ moves_2)
    )
    unlike = 0.0 if expected is None else _unlike(sketch, expected.sketch)
    low, high = max(share - half - unlike, 0.0), min(share + half, 1.0)
    shifted = accuracy_of_labels(sketch, expected, confidence=confidence)
    if shifted is not None:
        low, high = min(low, shifted.low), max(high, shifted.high)
    return Accuracy(rows, share, low, high)


def accuracy_of_labels(
    sketch: Sketch, expected: Expected | None, *, confidence: float = 0.95
) -> Accuracy | None:
    """Of one language's answers, if nothing but the frequency of labels changed.

    None where they are as frequent as ever, and where the reference does not tell which labels the
    model takes for which.

    Args:
        sketch: what was seen.
        expected: the reference's part for that language.
        confidence: of the interval.
    """
    if expected is None:
        return None
    now = sketch.bins[LABEL]
    found = accuracy_of_shifted(expected.judged.confused, now, confidence=confidence)
    return None if found is None else Accuracy(sum(now), *found)


def estimated_accuracies(
    reference: Reference, signals: Signals, *, confidence: float = 0.95
) -> dict[str, Accuracy]:
    """By language, in order; a language without confidences is left out."""
    found = {
        name: estimated_accuracy(sketch, reference.languages.get(name), confidence=confidence)
        for name, sketch in sorted(signals.languages.items())
    }
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


@dataclass(frozen=True, slots=True)
class Labelled:
    """Answers whose truth became known. `one + other` is both.

    Only rows that chance chose belong in here. Those picked for being doubtful, or reported by
    people who minded, say nothing of the others.
    """

    rows: int = 0
    right: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.rows:
            raise ValueError(f"{self.right} right of {self.rows} cannot be")

    def __add__(self, other: Labelled) -> Labelled:
        return Labelled(self.rows + other.rows, self.right + other.right)


def labelled_accuracies(
    labelled: Mapping[str, Labelled], *, alpha: float = 0.05
) -> dict[str, Accuracy]:
    """By language, with intervals that all hold at once, however often they are looked at.

    Args:
        labelled: by language.
        alpha: of any language's interval missing its truth at any time.
    """
    return {
        name: labelled_accuracy(found, alpha=alpha / len(labelled))
        for name, found in sorted(labelled.items())
    }


def labelled_accuracy(labelled: Labelled, *, alpha: float = 0.05) -> Accuracy:
    """Of one language; 0 to 1 without labels.

    Raises:
        ValueError: α is not strictly between 0 and 1.
    """
    rows, right = labelled.rows, labelled.right
    low, high = rate_interval(right, rows, alpha=alpha)
    return Accuracy(rows, right / rows if rows else 0.5, low, high)


def _unlike(now: Sketch, was: Sketch) -> float:
    """At least this share of texts is written unlike the reference's, chance left out."""
    shares = [0.0]
    for signal in _WRITTEN:
        counts_2B = np.array([was.bins[signal], now.bins[signal]], np.float64)
        rows_2 = counts_2B.sum(axis=1)
        if not rows_2.all():
            continue
        below_2B = counts_2B.cumsum(axis=1) / rows_2[:, None]
        pooled_B = counts_2B.sum(axis=0).cumsum() / rows_2.sum()
        chance_B = SIGMAS * np.sqrt(pooled_B * (1.0 - pooled_B) * (1.0 / rows_2).sum())
        shares.append(float((np.abs(below_2B[1] - below_2B[0]) - chance_B).max()))
    return max(shares)


@dataclass(frozen=True, slots=True)
class _Curve:
    """How right answers of some confidence are: log odds of it, scaled and moved.

    Attributes:
        bend_2: what is added to the log odds, and by what they are multiplied.
        doubt_22: covariance of both.
    """

    bend_2: Floats
    doubt_22: Floats

    def at(self, mean_K: Floats) -> tuple[Floats, Floats]:
        """Rates of right answers, and by how much each moves with the two numbers, [K, 2]."""
        sides_K2 = _sides(mean_K)
        rate_K = 1.0 / (1.0 + np.exp(-(sides_K2 @ self.bend_2)))
        return rate_K, (rate_K * (1.0 - rate_K))[:, None] * sides_K2


def _fitted(judged: Judged | None) -> _Curve:
    """The curve of a reference's judged rows: of no rows, that confidences are true, but who knows.

    Newton's steps to the most likely one, with a prior around "they are true".
    """
    prior_2, weight_22 = np.array([0.0, 1.0]), np.diag(np.full(2, 1.0 / _SPREAD**2))
    bend_2, precision_22 = prior_2, weight_22
    if judged is not None and any(judged.rows):
        rows_K = np.array(judged.rows, np.float64)
        seen_K = rows_K > 0.0
        rows_K, right_K = rows_K[seen_K], np.array(judged.right, np.float64)[seen_K]
        sides_K2 = _sides(np.array(judged.millionths, np.float64)[seen_K] / _MILLION / rows_K)
        for _ in range(_STEPS):
            rate_K = 1.0 / (1.0 + np.exp(-(sides_K2 @ bend_2)))
            slope_2 = sides_K2.T @ (right_K - rows_K * rate_K) - weight_22 @ (bend_2 - prior_2)
            chance_K = rows_K * rate_K * (1.0 - rate_K)
            precision_22 = (sides_K2 * chance_K[:, None]).T @ sides_K2 + weight_22
            step_2 = np.linalg.solve(precision_22, slope_2)
            bend_2 = bend_2 + step_2 / max(1.0, float(np.abs(step_2).max()))
    return _Curve(bend_2, np.linalg.inv(precision_22))


def _sides(mean_K: Floats) -> Floats:
    """One, and the log odds of a confidence, [K, 2]."""
    inside_K = np.clip(mean_K, _LEAST, 1.0 - _LEAST)
    return np.column_stack([np.ones(len(mean_K)), np.log(inside_K / (1.0 - inside_K))])
