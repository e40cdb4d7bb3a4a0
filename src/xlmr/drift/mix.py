"""What part of a change is other languages, and what part is other writing in the same ones. Pure.

A figure over all traffic is Σ w·p, the languages' shares by their own figures. From the reference
to now it moves by

    Σ (w' - w) · (p + p') / 2     other languages
  + Σ (p' - p) · (w + w') / 2     within languages

which is exact, treats before and after alike, and adds up over languages and bins.

Suffixes: L languages, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlmr.drift.reference import Reference
from xlmr.drift.signals import Signals, empty_sketch

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """One signal's change over all traffic, as shares that moved: 0 is none, 1 is all.

    Attributes:
        signal: its name.
        total: how far the shares of its bins moved.
        mix: how far they would have by other languages alone.
        within: and by other writing in the same languages alone.
        by_language: language → its share in `within`, at most its share of traffic.
    """

    signal: str
    total: float
    mix: float
    within: float
    by_language: dict[str, float]


def split(reference: Reference, signals: Signals, signal: str) -> Shift:
    """One signal's change, split. Rows for which the signal says nothing are left out.

    A reference without a mix is taken to have today's.

    Args:
        reference: frozen at release.
        signals: of the period that is held against it.
        signal: its name, one of `signals.SIGNALS`.
    """
    names = sorted(reference.languages.keys() | signals.languages.keys())
    rows = {name: sketch.rows for name, sketch in signals.languages.items()}
    weights = reference.mix or rows
    nothing = empty_sketch(len(reference.labels))
    before_LB, after_LB = np.zeros((2, len(names), len(nothing.bins[signal])))
    for place, name in enumerate(names):
        if name in reference.languages:
            sketch = reference.languages[name].sketch
            share_B = np.array(sketch.bins[signal]) / max(sketch.rows, 1)
            before_LB[place] = share_B * weights.get(name, 0)
        after_LB[place] = signals.languages.get(name, nothing).bins[signal]
    mix_LB, within_LB = decompose(before_LB, after_LB)
    parts_L = np.abs(within_LB).sum(axis=1) / 2.0
    return Shift(
        signal=signal,
        total=_moved((mix_LB + within_LB).sum(axis=0)),
        mix=_moved(mix_LB.sum(axis=0)),
        within=_moved(within_LB.sum(axis=0)),
        by_language=dict(zip(names, parts_L.tolist(), strict=True)),
    )


def decompose(before_LB: Floats, after_LB: Floats) -> tuple[Floats, Floats]:
    """What the mix, and what each language, adds to the change of each bin's share, [L, B] each.

    A language that is missing before or after changes the mix alone. Without any rows on one side
    there is no change to speak of: zeros.

    Args:
        before_LB: counts of the reference.
        after_LB: counts now.
    """
    if not before_LB.sum() or not after_LB.sum():
        return np.zeros_like(before_LB), np.zeros_like(after_LB)
    weight_L, share_LB = _shares(before_LB)
    weight_after_L, share_after_LB = _shares(after_LB)
    share_LB = np.where(weight_L[:, None] > 0.0, share_LB, share_after_LB)
    share_after_LB = np.where(weight_after_L[:, None] > 0.0, share_after_LB, share_LB)
    mix_LB = (weight_after_L - weight_L)[:, None] * (share_LB + share_after_LB) / 2.0
    within_LB = (weight_L + weight_after_L)[:, None] * (share_after_LB - share_LB) / 2.0
    return mix_LB, within_LB


def _shares(counts_LB: Floats) -> tuple[Floats, Floats]:
    rows_L = counts_LB.sum(axis=1)
    return rows_L / rows_L.sum(), counts_LB / np.maximum(rows_L, 1.0)[:, None]


def _moved(change_B: Floats) -> float:
    return float(np.abs(change_B).sum() / 2.0)
