"""How right answers are if nothing but the frequency of labels changed. Pure.

What a model says of texts whose right label is known stays the same then. So from how often it says
each label now follows how often each is right now: the likeliest frequencies by expectation
maximisation (Saerens and others 2002, on counts as Lipton and others 2018), and from these how many
answers are right. Confidences take no part: what 0.6 means depends on how frequent a label is.

Suffixes: S labels said, T labels that are right, R resampled worlds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of a label that was right less often nobody knows what the model makes of it.
_LEAST_ROWS = 20
# That labels are said in other numbers is no chance.
_SURE = 0.99
_STEPS = 100
_WORLDS = 100


class Shifted(NamedTuple):
    """A share of right answers, and both ends of its interval."""

    share: float
    low: float
    high: float


def accuracy_of_shifted(
    confused_ST: Sequence[Sequence[int]], now_S: Sequence[int], *, confidence: float
) -> Shifted | None:
    """None where labels are said as often as ever, or too little is known of one.

    Args:
        confused_ST: rows at release, by the label that was said and the one that was right.
        now_S: answers, by the label that was said.
        confidence: of the interval.
    """
    seen_ST, said_S = np.array(confused_ST, np.float64), np.array(now_S, np.float64)
    if not seen_ST.size or not moved(seen_ST.sum(axis=1), said_S):
        return None
    right_T = seen_ST.sum(axis=0)
    known_T = right_T > 0.0
    if (right_T[known_T] < _LEAST_ROWS).any():
        return None
    # One row more of each, of which every label may have been said.
    rate_ST = (seen_ST + 1.0 / len(said_S))[:, known_T] / (right_T[known_T] + 1.0)
    share = float(_shares_R(rate_ST[None], said_S[None], known_T)[0])
    generator = np.random.default_rng(0)
    rates_RST = np.stack(
        [
            generator.multinomial(int(rows), rate_S, _WORLDS) / rows
            for rows, rate_S in zip(right_T[known_T], rate_ST.T, strict=True)
        ],
        axis=2,
    )
    rows = int(said_S.sum())
    said_RS = generator.multinomial(rows, said_S / rows, _WORLDS).astype(np.float64)
    shares_R = _shares_R(rates_RST, said_RS, known_T)
    shares_R += generator.normal(0.0, math.sqrt(share * (1.0 - share) / rows), _WORLDS)
    outside = (1.0 - confidence) / 2.0
    low, high = np.quantile(shares_R, [outside, 1.0 - outside])
    return Shifted(share, min(share, max(0.0, float(low))), max(share, min(1.0, float(high))))


def moved(before_S: Floats, now_S: Floats) -> bool:
    """Whether labels are said in other numbers than chance makes of the same (chi-squared)."""
    rows, later = before_S.sum(), now_S.sum()
    both_S = before_S + now_S
    said_S = both_S > 0.0
    free = int(said_S.sum()) - 1
    if not rows or not later or free < 1:
        return False
    pooled_S = both_S[said_S] / (rows + later)
    apart_S = before_S[said_S] / rows - now_S[said_S] / later
    distance = float((apart_S**2 / pooled_S).sum() / (1.0 / rows + 1.0 / later))
    # Wilson and Hilferty: its cube root is nearly normal.
    spread = 2.0 / (9.0 * free)
    most = free * (1.0 - spread + NormalDist().inv_cdf(_SURE) * math.sqrt(spread)) ** 3
    return distance > most


def frequencies(rates_RST: Floats, said_RS: Floats) -> Floats:
    """How often each label is right, [R, T], adding up to 1: where what was said is likeliest.

    Args:
        rates_RST: of rows with a right label, how many are said to be which.
        said_RS: answers by the label that was said.
    """
    worlds, _, labels = rates_RST.shape
    often_RT = np.full((worlds, labels), 1.0 / labels)
    for _ in range(_STEPS):
        joint_RST = rates_RST * often_RT[:, None, :]
        whole_RS = joint_RST.sum(axis=2)
        # A label that no right one explains says nothing.
        per_RS = np.divide(said_RS, whole_RS, out=np.zeros_like(said_RS), where=whole_RS > 0.0)
        found_RT = np.einsum("rs,rst->rt", per_RS, joint_RST)
        total_R = found_RT.sum(axis=1)
        often_RT = np.where(
            total_R[:, None] > 0.0, found_RT / np.maximum(total_R, 1e-300)[:, None], often_RT
        )
    return often_RT


def _shares_R(rates_RST: Floats, said_RS: Floats, known_T: NDArray[np.bool_]) -> Floats:
    places_T = np.flatnonzero(known_T)
    often_RT = frequencies(rates_RST, said_RS)
    shares_R: Floats = (often_RT * rates_RST[:, places_T, np.arange(len(places_T))]).sum(axis=1)
    return shares_R
