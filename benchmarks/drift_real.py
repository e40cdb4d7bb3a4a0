"""Drift in traffic of real texts that a real model answered; fills tables of docs/drift.md.

    python benchmarks/drift_real.py --answers topic.npz --beside mood=mood.npz --page docs/drift.md

`drift_answers.py` writes the answers, of a topic model. Each answer is counted once, by
`Signals.see`; traffic draws among them, hour by hour, and counts add up. The reference is drawn of
the same texts, two days of them, as a shadow would have seen them: what is measured is what the
watch makes of traffic that is as it was, not how unlike one corpus is to another.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import drift_truth
import numpy as np
from drift_answers import FOREIGN, PLAIN, Answered
from numpy.typing import NDArray
from tables import write_tables

from drift import DAYS, PER_HOUR
from xlmr.drift.alarms import Alarm
from xlmr.drift.detectors import Budget, Watch
from xlmr.drift.keeping import GRACE_S, HOUR_S, LOOK_S, Counted, DriftStore
from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import SIGNALS, Signals, Sketch, empty_sketch
from xlmr.drift.tickets import tickets

TASK, MODEL, VERSION = "classify", "topics", "1"
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
# Of an hour, as often as servers look at one that runs.
QUARTERS = HOUR_S // LOOK_S


@dataclass(frozen=True)
class World:
    """Traffic of all languages; those not named are as ever."""

    languages: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What happens, what it should be called, and how soon.

    Attributes:
        language: in which.
        within: how its texts are from then on; nothing where the mix changes.
        stated: requests of the language until it should be found, set down before measuring: twice
            what the same took in made-up traffic.
        weight: how much more frequent the language is.
        before: how its texts were at release, where unlike usual.
    """

    language: str
    stated: int
    within: tuple[Source, ...] = ()
    weight: float = 1.0
    before: tuple[Source, ...] = USUAL

    @property
    def kind(self) -> str:
        """`mix` or `within`."""
        return "within" if self.within else "mix"

    @property
    def usual(self) -> World:
        """Before."""
        return World({self.language: self.before})

    @property
    def world(self) -> World:
        """After."""
        return World({self.language: self.within or USUAL}, {self.language: self.weight})


def partly(treatment: str, share: float) -> tuple[Source, ...]:
    """A language of which a share is no longer as it was."""
    return (Source(PLAIN, 1.0 - share), Source(treatment, share))


NO_HEALTH = (("health", 0.0),)
CHANGES = {
    "health, never asked before, in 30 % of Turkish": Change(
        "tr",
        620,
        (
            Source(tilt=NO_HEALTH, share=0.7),
            Source(tilt=(("*", 0.0), ("health", 1.0)), share=0.3),
        ),
        before=(Source(tilt=NO_HEALTH),),
    ),
    "orders to a smart home in 20 % of French": Change("fr", 620, partly(FOREIGN, 0.2)),
    "Indonesian three times as frequent": Change("id", 17_500, weight=3.0),
    "a third of Russian transliterated": Change("ru", 770, partly("transliterated", 1 / 3)),
    "a third of Hindi transliterated": Change("hi", 770, partly("transliterated", 1 / 3)),
    "a client strips diacritics from 40 % of Vietnamese": Change(
        "vi", 460, partly("stripped", 0.4)
    ),
    "a client strips diacritics from 40 % of Czech": Change("cs", 460, partly("stripped", 0.4)),
    "politics twice as likely in German": Change("de", 1610, (Source(tilt=(("politics", 2.5),)),)),
    "typos in half of Swahili": Change("sw", 480, partly("typos", 0.5)),
    "typos in half of German": Change("de", 480, partly("typos", 0.5)),
}


@dataclass
class Found:
    """What became of one change: when its first alarm came, and who else was accused."""

    requests: int | None = None
    hours: float = 0.0
    signal: str = ""
    named: str = ""
    accused: set[str] = field(default_factory=set)


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


class Direct:
    """A watch by itself, looked at every quarter of an hour.

    Args:
        reference: held against.
    """

    def __init__(self, reference: Reference) -> None:
        self.watch = Watch(reference)
        self._hour = Signals(VERSION, TASK, reference.labels)

    def take(self, hour: int, quarter: int, seen: Signals) -> list[Alarm]:
        """The alarms of a quarter of an hour."""
        self._hour = seen if quarter == 0 else self._hour + seen
        look = self.watch.step if quarter == QUARTERS - 1 else self.watch.look
        return look(hour, self._hour)


class Stored:
    """A watch in the drift store, as servers keep it.

    Args:
        url: of the store.
        reference: held against.
    """

    def __init__(self, url: str, reference: Reference) -> None:
        self._store, self._reference = DriftStore(url), reference

    def take(self, hour: int, quarter: int, seen: Signals) -> list[Alarm]:
        """Adds what one server saw in a quarter of an hour, and has it weighed."""
        now_s = hour * HOUR_S + (quarter + 1) * LOOK_S + GRACE_S
        number = QUARTERS * hour + quarter + 1
        self._store.add("one", number, [Counted(MODEL, hour, seen)], now_s=now_s)
        while self._store.step(MODEL, VERSION, self._reference, now_s=now_s, budget=Budget()):
            pass
        return [alarm for _, alarm in self._store.alarms(since=hour, until=hour + 1)]

    def close(self) -> None:
        """Lets the store go."""
        self._store.close()


def quiet(pools: Pools, seeds: range, *, days: int = DAYS) -> Iterator[str]:
    """One row: alarms, and tickets of daily looks, of months without drift."""
    alarms, looks = [], []
    for seed in seeds:
        rng = np.random.default_rng([4, seed])
        reference = released(rng, pools, World())
        watched, day = Direct(reference), Signals(VERSION, TASK, pools.labels)
        alarms.append(0)
        for hour in range(24 * days):
            for quarter in range(QUARTERS):
                signals, _ = traffic(rng, pools, World(), hour, part=1.0 / QUARTERS)
                alarms[-1] += len(watched.take(hour, quarter, signals))
                day = day + signals
            if hour % 24 == 23:
                looks.append(len(tickets(reference, day)))
                day = Signals(VERSION, TASK, pools.labels)
    yield (
        f"{len(alarms)} | {len(reference.languages)} | {watched.watch.streams:,} |"
        f" {PER_HOUR * 24 * days:,} | {np.mean(alarms):.2f} | {max(alarms)} |"
        f" {np.sum(looks)} of {len(looks)} |"
    )


def find(
    pools: Pools,
    change: Change,
    seed: int,
    *,
    days: int = 3,
    watched: Callable[[Reference], Direct | Stored] = Direct,
) -> Found:
    """A quiet day, then the change: until when it is found, and everything else that is accused."""
    rng = np.random.default_rng([5, seed])
    watch = watched(released(rng, pools, change.usual))
    # What identification no longer tells is among the texts of which nobody can tell.
    right = {f"{change.kind} {change.language}"} | (
        {"mix und"} if pools.named_by == "identified" else set()
    )
    found, requests = Found(), 0
    for hour in range(24 * (days + 1) + 1):
        world = change.usual if hour < 24 else change.world
        for quarter in range(QUARTERS):
            signals, asked = traffic(rng, pools, world, hour, part=1.0 / QUARTERS)
            requests += asked[change.language] if hour >= 24 else 0
            for alarm in watch.take(hour, quarter, signals):
                who = f"{alarm.kind} {alarm.language}"
                # The mix of the quiet day is looked at when it is over.
                early = hour < 24 or (hour == 24 and alarm.kind == "mix")
                if early or who not in right:
                    found.accused.add(who)
                elif found.requests is None:
                    found.requests = requests
                    found.hours = hour - 24 + (quarter + 1) / QUARTERS
                    found.signal, found.named = alarm.finding.signal, who
    return found


def changes(pools: Pools, seeds: range) -> Iterator[str]:
    """Rows: each change, how often found, how soon, beside what was stated, and who else."""
    for name, change in CHANGES.items():
        runs = [find(pools, change, seed) for seed in seeds]
        seen = [run for run in runs if run.requests is not None]
        took = "– | – | –"
        if seen:
            requests = [run.requests for run in seen]
            took = f"{np.median(requests):,.0f} | {max(requests):,} | "
            took += f"{np.median([run.hours for run in seen]):.3g}"
        yield (
            f"| {name} | {len(seen)} of {len(runs)} | {_tally(run.named for run in seen)} |"
            f" {change.stated:,} | {took} | {_tally(run.signal for run in seen)} |"
            f" {_tally(who for run in runs for who in sorted(run.accused))} |"
        )


def _tally(names: Iterable[str]) -> str:
    """`sw`, or of several how often each: `sw 3, de 1`; `nobody`."""
    found = Counter(names).most_common()
    if len(found) == 1:
        return found[0][0]
    return ", ".join(f"{name} {times}" for name, times in found) or "nobody"


TABLES = ("real-quiet", "real-changes", "real-changes-identified", "real-label-free")
# Halves of each language.
_HALVES = 4


def main() -> None:
    """Writes each table between its two markers; prints them where no page is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=Path, required=True, help="of a topic model")
    parser.add_argument(
        "--beside", nargs="*", default=[], help="NAME=FILE of other models' answers"
    )
    parser.add_argument("--page", type=Path, help="whose tables are replaced")
    parser.add_argument("--runs", type=int, default=10, help="of each kind")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES)
    asked = parser.parse_args()
    pairs = [value.partition("=") for value in asked.beside]
    beside = {name: Answered.load(Path(file)) for name, _, file in pairs}
    answered, seeds = Answered.load(asked.answers), range(asked.runs)
    pools: dict[NamedBy, Pools] = {by: Pools(answered, by) for by in NAMED}
    tables: dict[str, Callable[[], Iterator[str]]] = {
        "real-quiet": lambda: (
            f"| {NAMED[by]} | {row}" for by, pool in pools.items() for row in quiet(pool, seeds)
        ),
        "real-changes": partial(changes, pools["language"], seeds),
        "real-changes-identified": partial(changes, pools["identified"], seeds),
        "real-label-free": partial(drift_truth.table, {"topic": answered} | beside, range(_HALVES)),
    }
    write_tables({name: tables[name] for name in asked.only}, asked.page)


if __name__ == "__main__":
    main()
