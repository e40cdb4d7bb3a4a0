"""Traffic of real texts that a real model answered: drawn hour by hour, counted as servers count.

`drift_answers.py` writes the answers. Each is counted once, by `Signals.see`; traffic draws among
them, and counts add up. The reference is drawn of the same texts, two days of them, as a shadow
would have seen them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from drift_answers import PLAIN, Answered
from numpy.typing import NDArray

from drift import PER_HOUR
from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import SIGNALS, Signals, Sketch, empty_sketch

TASK, VERSION = "classify", "1"
# By whose word a text's language is counted.
NamedBy = Literal["identified", "language"]
NAMED: Mapping[NamedBy, str] = {"identified": "identification", "language": "the caller"}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """Some of a language's texts.

    Attributes:
        treatment: what happened to them.
        share: of the language's traffic.
        tilt: by label, how much likelier such texts are drawn; 0 is never.
    """

    treatment: str = PLAIN
    share: float = 1.0
    tilt: tuple[tuple[str, float], ...] = ()


USUAL = (Source(),)


@dataclass(frozen=True)
class World:
    """Traffic of all languages; those not named are as ever."""

    languages: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


class Pools:
    """Answers to draw from: each row's counts, added up as often as it is drawn.

    Args:
        answered: by `drift_answers.py`.
        named_by: whose word for a text's language counts.
    """

    def __init__(self, answered: Answered, named_by: NamedBy) -> None:
        self.labels, self.named_by = answered.labels, named_by
        self._answered = answered
        self._known: dict[tuple[str, Source], tuple[Floats, list[tuple[str, slice, Floats]]]] = {}
        plain = answered.columns["language"][answered.where(treatment=PLAIN)]
        self.languages = tuple(sorted(set(plain.tolist())))

    def draw(
        self, rng: np.random.Generator, language: str, source: Source, rows: int
    ) -> Iterator[tuple[str, Floats]]:
        """Counts of so many rows, by the language under which each counts."""
        chance_N, parts = self._pool(language, source)
        places = rng.choice(len(chance_N), rows, p=chance_N)
        for code, part, counts_NB in parts:
            these = places[(places >= part.start) & (places < part.stop)] - part.start
            if len(these):
                yield code, counts_NB[these].sum(axis=0)

    def _pool(
        self, language: str, source: Source
    ) -> tuple[Floats, list[tuple[str, slice, Floats]]]:
        key = (language, source)
        if key not in self._known:
            columns = self._answered.columns
            places = self._answered.where(language=language, treatment=source.treatment)
            codes = columns[self.named_by][places]
            order = np.argsort(codes, kind="stable")
            places, codes = places[order], codes[order]
            chance_N = self._chances(places, source)
            found, first_C = np.unique(codes, return_index=True)
            ends = [*first_C[1:].tolist(), len(places)]
            self._known[key] = (
                chance_N,
                [
                    (str(code), slice(first, end), self._counts(places[first:end]))
                    for code, first, end in zip(found, first_C.tolist(), ends, strict=True)
                ],
            )
        return self._known[key]

    def _chances(self, places: NDArray[np.intp], source: Source) -> Floats:
        tilt = dict(source.tilt)
        by_label = [tilt.get(label, tilt.get("*", 1.0)) for label in self.labels]
        # Rows for which no label is right stand behind the last one.
        chance_N = np.array([*by_label, 1.0])[self._answered.columns["truth"][places]]
        return chance_N / chance_N.sum()

    def _counts(self, places: NDArray[np.intp]) -> Floats:
        """What `Signals.see` counts of each, flat."""
        rows = []
        for place in places.tolist():
            signals = Signals(VERSION, TASK, self.labels)
            signals.see("", self._answered.sight(place))
            rows.append(_flat(signals.languages[""]))
        return np.array(rows, np.float64)


def _flat(sketch: Sketch) -> list[int]:
    return [*(count for name in SIGNALS for count in sketch.bins[name]), *sketch.millionths]


def _sketch(flat_B: Floats, labels: int) -> Sketch:
    sketch, first = empty_sketch(labels), 0
    whole = flat_B.astype(np.int64).tolist()
    for name in SIGNALS:
        width = len(sketch.bins[name])
        sketch.bins[name] = whole[first : first + width]
        first += width
    sketch.millionths = whole[first:]
    sketch.rows = sum(sketch.bins["truncated"])
    return sketch


def shares(languages: tuple[str, ...], world: World, hour: int) -> dict[str, float]:
    """Of each language, waking and sleeping, some much more frequent than others."""
    weight = {name: 1.0 / (place + 6.0) for place, name in enumerate(languages)}
    whole = sum(weight.values())
    return {
        name: weight[name]
        / whole
        * world.weights.get(name, 1.0)
        * (1.0 + 0.6 * np.sin((hour / 24.0 + place / len(languages)) * 2.0 * np.pi))
        for place, name in enumerate(languages)
    }


def traffic(
    rng: np.random.Generator,
    pools: Pools,
    world: World,
    hour: int,
    *,
    hours: int = 1,
    part: float = 1.0,
) -> tuple[Signals, dict[str, int]]:
    """The counts of some hours from one on, and how many texts there were of each language.

    Of each hour a `part`.
    """
    sums: dict[str, Floats] = {}
    asked = dict.fromkeys(pools.languages, 0)
    for number in range(hour, hour + hours):
        for language, share in shares(pools.languages, world, number).items():
            for source in world.languages.get(language, USUAL):
                rows = int(rng.poisson(PER_HOUR * part * share * source.share))
                asked[language] += rows
                for code, flat_B in pools.draw(rng, language, source, rows):
                    sums[code] = sums[code] + flat_B if code in sums else flat_B
    signals = Signals(VERSION, TASK, pools.labels)
    signals.languages = {code: _sketch(flat_B, len(pools.labels)) for code, flat_B in sums.items()}
    return signals, asked


def released(rng: np.random.Generator, pools: Pools, world: World, *, days: int = 2) -> Reference:
    """What a shadow of some days would have seen; nobody has labelled it."""
    signals, _ = traffic(rng, pools, world, 0, hours=24 * days)
    nobody = [0] * len(empty_sketch(0).millionths)
    expected = {
        name: Expected(sketch, Judged(nobody, nobody, nobody))
        for name, sketch in signals.languages.items()
    }
    mix = {name: sketch.rows for name, sketch in signals.languages.items()}
    return Reference(TASK, "shadow", pools.labels, expected, mix)
