"""Drift in traffic of real texts that a real model answered; fills tables of docs/drift.md.

    python benchmarks/drift_real.py --answers topic.npz --beside mood=mood.npz --page docs/drift.md

`drift_answers.py` writes the answers, of a topic model, and `drift_traffic.py` draws traffic of
them: what is measured is what the watch makes of traffic that is as it was, not how unlike one
corpus is to another.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import drift_truth
import numpy as np
from drift_answers import FOREIGN, PLAIN, Answered
from drift_traffic import (
    NAMED,
    TASK,
    USUAL,
    VERSION,
    NamedBy,
    Pools,
    Source,
    World,
    released,
    traffic,
)
from tables import write_tables

from drift import DAYS, PER_HOUR
from xlmr.drift.alarms import Alarm
from xlmr.drift.detectors import Budget, Watch
from xlmr.drift.keeping import GRACE_S, HOUR_S, LOOK_S, Counted, DriftStore
from xlmr.drift.reference import Reference
from xlmr.drift.signals import Signals
from xlmr.drift.tickets import tickets

MODEL = "topics"
# Of an hour, as often as servers look at one that runs.
QUARTERS = HOUR_S // LOOK_S


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
