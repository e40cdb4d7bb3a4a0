"""How right a model is, from rows that chance picked with known probabilities. Pure.

Each row stands for as many as its probability says (Horvitz and Thompson), and the sum is divided
by how many those are (Hájek). The interval is Wilson's, for as many rows of equal weight as these
are worth (Kish): it stays within 0 and 1 and does not vanish where all are right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share of right answers.

    Attributes:
        rows: labelled.
        share: of all answers that are right, 0 to 1.
        low: lower end of its interval.
        high: upper end.
    """

    rows: int
    share: float
    low: float
    high: float


def estimate(rows: Iterable[tuple[float, bool]], *, confidence: float = 0.95) -> Estimate | None:
    """The share of right answers; None where nothing is labelled.

    Args:
        rows: the probability with which each was picked, and whether its answer was right.
        confidence: of the interval holding the share, for one look.

    Raises:
        ValueError: a probability that is none, or 0.
    """
    count, total, squares, right = 0, 0.0, 0.0, 0.0
    for inclusion, was_right in rows:
        if not 0.0 < inclusion <= 1.0:
            raise ValueError(f"a row was picked with a probability of {inclusion}")
        weight = 1.0 / inclusion
        count, total, squares = count + 1, total + weight, squares + weight * weight
        right += weight if was_right else 0.0
    if not count:
        return None
    share, worth = right / total, total * total / squares
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    middle = (share + z * z / (2.0 * worth)) / (1.0 + z * z / worth)
    half = z * math.sqrt(share * (1.0 - share) / worth + (z / (2.0 * worth)) ** 2)
    half /= 1.0 + z * z / worth
    return Estimate(count, share, max(middle - half, 0.0), min(middle + half, 1.0))
