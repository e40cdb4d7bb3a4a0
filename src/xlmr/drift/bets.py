"""Bets against "as in the reference": likelihood ratios of counts, many small ones at once. Pure.

An event is a set of bins: a label, or all of a signal's bins from some edge on. The reference says
how often it falls there, up to a band: at least `margin` wide, which is the smallest change worth
telling, and as wide as the reference's own rows leave it uncertain (Wilson, `SIGMAS`). Against
"the rate is at most the band's upper end" we bet on rates above it, by `SHIFTS` of its log odds:

    (q / p)^hits · ((1 - q) / (1 - p))^misses        of all p in the band greatest where it ends,

and likewise downwards. Each is an e-value for independent rows; so is the mean of them, however
they depend on each other. Their logarithms are linear in counts: of two servers, or two hours, they
add up exactly.

Suffixes: B bins, E events, K bets, S signals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlmr.drift.reference import Reference
from xlmr.drift.signals import LABEL, OTHER, SIGNALS, Sketch, name_of_bin

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

MARGIN = 0.01
# Of the mix of languages, which changes more than what is written in each of them.
MIX_MARGIN = 0.02
# So that of some thousand events of a fleet hardly one lies outside its band.
SIGMAS = 3.5
# A language of fewer is what others are mistaken for now and then: it counts in the mix alone.
LEAST_ROWS = 50
SHIFTS = (0.25, 0.75, 1.5)
# Where the reference's mass divides a signal into events.
_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
MIX = "language"


@dataclass(frozen=True, slots=True)
class Event:
    """Something whose share is watched.

    Attributes:
        signal: of which it is a part.
        name: what it is, in words.
        bins: from this one up to, not including, that one.
    """

    signal: str
    name: str
    bins: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the counts say of one signal.

    Attributes:
        signal: its name.
        event: the event that tells most.
        rising: whether it became more frequent.
        was: its share in the reference.
        now: its share in the counts.
        log_e: evidence against "as in the reference", all events of the signal together.
    """

    signal: str
    event: str
    rising: bool
    was: float
    now: float
    log_e: float


class Bets:
    """All bets on the signals of one language, or on the mix of languages.

    Attributes:
        events: what is bet on.
        signals: those with a bet, in order: their bets lie side by side.
        first_S: where each signal's bets begin.
        size_S: how many they are.
    """

    def __init__(
        self, events: Sequence[Event], bins: Mapping[str, Sequence[int]], *, margin: float
    ) -> None:
        self._order = tuple(bins)
        starts = dict(zip(bins, np.cumsum([0, *map(len, bins.values())]).tolist(), strict=False))
        width = sum(map(len, bins.values()))
        inside_EB = np.zeros((len(events), width))
        whole_EB = np.zeros((len(events), width))
        for place, event in enumerate(events):
            start, (low, high) = starts[event.signal], event.bins
            inside_EB[place, start + low : start + high] = 1.0
            whole_EB[place, start : start + len(bins[event.signal])] = 1.0
        self._inside_EB, self._whole_EB = inside_EB, whole_EB
        hits_E, rows_E = self._count(bins)
        found = [
            (place, q > p, math.log(q / p), math.log1p(-q) - math.log1p(-p))
            for place in range(len(events))
            for p, q in _wagers(float(hits_E[place]), float(rows_E[place]), margin)
        ]
        self.events = tuple(events)
        self.was_E = hits_E / np.maximum(rows_E, 1.0)
        self.event_K = np.array([place for place, *_ in found], np.intp)
        self.rising_K = np.array([rising for _, rising, *_ in found], np.bool_)
        self._hit_K = np.array([hit for *_, hit, _ in found])
        self._miss_K = np.array([miss for *_, miss in found])
        signal_K = [events[place].signal for place in self.event_K]
        self.signals = tuple(dict.fromkeys(signal_K))
        self.first_S: Places = np.array([signal_K.index(name) for name in self.signals], np.intp)
        self.size_S = np.array([signal_K.count(name) for name in self.signals], np.float64)

    def log_e_K(self, bins: Mapping[str, Sequence[int]]) -> Floats:
        """Of each bet, by the counts of some rows; 0 of none."""
        hits_E, rows_E = self._count(bins)
        hits_K = hits_E[self.event_K]
        log_e_K: Floats = hits_K * self._hit_K + (rows_E[self.event_K] - hits_K) * self._miss_K
        return log_e_K

    def mean_S(self, log_K: Floats) -> Floats:
        """The logarithm of each signal's mean over its bets."""
        if not len(self.first_S):
            return np.zeros(0)
        mean_S: Floats = np.logaddexp.reduceat(log_K, self.first_S) - np.log(self.size_S)
        return mean_S

    def best(self, signal: int, log_K: Floats) -> int:
        """Which bet of a signal won most."""
        first = int(self.first_S[signal])
        return first + int(log_K[first : first + int(self.size_S[signal])].argmax())

    def finding(self, bet: int, bins: Mapping[str, Sequence[int]], log_e: float) -> Finding:
        """In words, with the share of the bet's event in some counts."""
        hits_E, rows_E = self._count(bins)
        place = int(self.event_K[bet])
        return Finding(
            signal=self.events[place].signal,
            event=self.events[place].name,
            rising=bool(self.rising_K[bet]),
            was=float(self.was_E[place]),
            now=float(hits_E[place] / max(rows_E[place], 1.0)),
            log_e=log_e,
        )

    def findings(self, bins: Mapping[str, Sequence[int]]) -> list[Finding]:
        """What the counts say of each signal, in order."""
        log_K = self.log_e_K(bins)
        return [
            self.finding(self.best(place, log_K), bins, float(log_e))
            for place, log_e in enumerate(self.mean_S(log_K))
        ]

    def _count(self, bins: Mapping[str, Sequence[int]]) -> tuple[Floats, Floats]:
        flat_B = np.concatenate([np.asarray(bins[signal], np.float64) for signal in self._order])
        return self._inside_EB @ flat_B, self._whole_EB @ flat_B


def bets_within(sketch: Sketch, labels: Sequence[str], *, margin: float = MARGIN) -> Bets:
    """Against "this language's signals are as in its reference".

    Args:
        sketch: what the reference counted of the language.
        labels: those told apart.
        margin: the smallest change of a share that is worth telling.
    """
    events = [
        event
        for signal in SIGNALS
        if sum(sketch.bins[signal])
        for event in _events(signal, sketch.bins[signal], labels)
    ]
    return Bets(events, sketch.bins, margin=margin)


def bets_on_mix(mix: Mapping[str, int], *, margin: float = MIX_MARGIN) -> Bets:
    """Against "languages are as frequent as in the reference".

    Args:
        mix: rows by language, none for no bets; languages not in it are one event, `OTHER`.
        margin: the smallest change of a share that is worth telling.
    """
    names = mix_names(mix)
    events = [Event(MIX, name, (place, place + 1)) for place, name in enumerate(names)]
    return Bets(events, {MIX: mix_counts(mix, names)}, margin=margin)


def mix_names(mix: Mapping[str, int]) -> list[str]:
    """Whose shares are watched: the reference's languages, and one name for all others."""
    return [*sorted(mix.keys() - {OTHER}), OTHER]


def mix_counts(mix: Mapping[str, int], names: Sequence[str]) -> list[int]:
    """Rows in the order of `mix_names`."""
    known = [mix.get(name, 0) for name in names[:-1]]
    return [*known, sum(mix.values()) - sum(known)]


def _events(signal: str, counts: Sequence[int], labels: Sequence[str]) -> list[Event]:
    if signal == LABEL:
        return [
            Event(signal, name_of_bin(signal, place, labels), (place, place + 1))
            for place in range(len(counts))
        ]
    bins = len(counts)
    return [
        Event(signal, name_of_bin(signal, cut, labels), (cut, bins))
        for cut in sorted(_cuts(counts))
    ]


def _cuts(counts: Sequence[int]) -> set[int]:
    """Edges at about the quantiles, and both ends of what was seen: beyond them all is new."""
    if len(counts) == 2:
        return {1}
    below = np.cumsum([0, *counts]) / sum(counts)
    cuts = {int(np.abs(below - quantile).argmin()) for quantile in _QUANTILES}
    cuts |= {int((below == 0.0).nonzero()[0][-1]), int((below == 1.0).nonzero()[0][0])}
    return cuts - {0, len(counts)}


def _wagers(hits: float, rows: float, margin: float) -> list[tuple[float, float]]:
    """Pairs of a band's end and a rate beyond it; no band where there are no rows."""
    if not rows:
        return []
    low, high = _band(hits, rows, margin)
    ends = [(low, -shift) for shift in SHIFTS if low > 0.0]
    ends += [(high, shift) for shift in SHIFTS if high < 1.0]
    return [(end, 1.0 / (1.0 + math.exp(-math.log(end / (1.0 - end)) - by))) for end, by in ends]


def _band(hits: float, rows: float, margin: float) -> tuple[float, float]:
    """Wilson's interval of `SIGMAS`, and no less than the margin around the share."""
    share, square = hits / rows, SIGMAS**2
    centre = (share + square / (2.0 * rows)) / (1.0 + square / rows)
    spread = math.sqrt(share * (1.0 - share) / rows + square / (4.0 * rows**2))
    half = SIGMAS * spread / (1.0 + square / rows)
    return min(share - margin, centre - half), max(share + margin, centre + half)


def bets_of(reference: Reference) -> dict[str, Bets]:
    """Of every language of which a reference has `LEAST_ROWS`, in order."""
    return {
        name: bets_within(expected.sketch, reference.labels)
        for name, expected in sorted(reference.languages.items())
        if expected.sketch.rows >= LEAST_ROWS
    }
