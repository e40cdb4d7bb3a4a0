"""What watching for drift costs in false alarms, and how soon it finds what; fills a page's tables.

    python benchmarks/drift.py --page docs/drift.md

Traffic is made up: thirty languages that wake and sleep, topics, answers with calibrated
confidences. Nothing is timed and everything is seeded: the same tables on any machine, in some
minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tables import write_tables

from xlmr.drift.alarms import Alarm
from xlmr.drift.detectors import Watch
from xlmr.drift.label_free import estimated_accuracy
from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import EDGES, LABEL, Signals, Sketch, empty_sketch

LANGUAGES = (
    *("en", "de", "fr", "es", "pt", "it", "nl", "pl", "ru", "uk"),
    *("tr", "ar", "fa", "he", "hi", "bn", "ur", "ta", "te", "th"),
    *("vi", "id", "zh", "ja", "ko", "sw", "fi", "hu", "ro", "el"),
)
LABELS = ("complaint", "question", "praise", "order")
TASK, VERSION = "classify", "3"
PER_HOUR = 6000
DAYS = 30
# Pieces by character: scripts of few, long-known words need fewer.
FERTILITY = {name: 0.2 + 0.02 * (place % 9) for place, name in enumerate(LANGUAGES)}
TOPICS = np.array(
    # How strongly a topic speaks for each label: three plain ones, one that is hard.
    [[3.0, 0.0, 0.0, 0.5], [0.0, 3.2, 0.0, 0.0], [0.0, 0.5, 3.0, 0.0], [0.6, 0.6, 0.0, 1.4]]
)
NEW_TOPIC = np.array([0.9, 0.8, 0.7, 0.5])
ABSTAIN_BELOW = 0.4

Column = NDArray[Any]


@dataclass(frozen=True)
class Traffic:
    """How texts of one language are.

    Attributes:
        topics: their shares.
        touched: the share of texts that something happens to.
        fertility: pieces by character of those, as a multiple.
        clarity: of the logits of those, as a multiple: what the model does not understand is less
            sure, and as often right as it says.
        unknown: share of unknown pieces of those.
        new_topic: those are about something that was not there.
    """

    topics: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    touched: float = 0.0
    fertility: float = 1.0
    clarity: float = 1.0
    unknown: float = 0.0
    new_topic: bool = False


@dataclass(frozen=True)
class World:
    """Traffic of all languages; those not named are as ever."""

    languages: Mapping[str, Traffic] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


USUAL = World()
# What happens, to which language, and what it should be called.
CHANGES: dict[str, tuple[World, str, str]] = {
    "a new topic in 30 % of Turkish": (
        World({"tr": Traffic(touched=0.3, new_topic=True)}),
        "tr",
        "within",
    ),
    "Indonesian three times as frequent": (World(weights={"id": 3.0}), "id", "mix"),
    "a third of Russian transliterated": (
        World({"ru": Traffic(touched=0.33, fertility=1.6, clarity=0.6)}),
        "ru",
        "within",
    ),
    "a client strips diacritics from 40 % of Vietnamese": (
        World({"vi": Traffic(touched=0.4, fertility=1.25, clarity=0.75)}),
        "vi",
        "within",
    ),
    "complaints 55 % of German instead of 40 %": (
        World({"de": Traffic(topics=(0.55, 0.2, 0.15, 0.1))}),
        "de",
        "within",
    ),
    "typos in half of Swahili": (
        World({"sw": Traffic(touched=0.5, fertility=1.15, clarity=0.85, unknown=0.004)}),
        "sw",
        "within",
    ),
}


def texts(
    rng: np.random.Generator, language: str, traffic: Traffic, rows: int, *, sureness: float = 1.0
) -> dict[str, Column]:
    """Made-up answered texts of one language, by column; `right` is drawn as confidences promise.

    Args:
        rng: of everything.
        language: decides pieces by character.
        traffic: how its texts are.
        rows: how many.
        sureness: by how much shown logits exceed honest ones; 1 is calibrated.
    """
    touched_N = rng.random(rows) < traffic.touched
    topic_N = rng.choice(len(TOPICS), rows, p=traffic.topics)
    logits_NC = TOPICS[topic_N] * rng.gamma(6.0, 1.0 / 6.0, (rows, 1))
    if traffic.new_topic:
        logits_NC[touched_N] = NEW_TOPIC * rng.gamma(6.0, 1.0 / 6.0, (int(touched_N.sum()), 1))
    logits_NC += rng.normal(0.0, 0.5, logits_NC.shape)
    logits_NC *= np.where(touched_N, traffic.clarity, 1.0)[:, None]
    shown_NC = softmax(logits_NC * sureness)
    answer_N = shown_NC.argmax(axis=1)
    honest_N = softmax(logits_NC)[np.arange(rows), answer_N]
    characters_N = np.clip(rng.lognormal(4.3, 0.8, rows), 3, 4000).astype(np.int64)
    pieces_N = FERTILITY[language] * np.where(touched_N, traffic.fertility, 1.0)
    pieces_N = pieces_N * characters_N * rng.gamma(60.0, 1.0 / 60.0, rows)
    whole_N = np.round(pieces_N).astype(np.int64) + 2
    unknown_N = rng.binomial(whole_N, np.where(touched_N, traffic.unknown, 0.0) + 0.0005)
    confidence_N = shown_NC[np.arange(rows), answer_N]
    return {
        "tokens": np.minimum(whole_N, 512),
        "characters": characters_N,
        "unknown": unknown_N,
        "truncated": whole_N > 512,
        LABEL: answer_N,
        "confidence": confidence_N,
        "entropy": -(shown_NC * np.log(shown_NC)).sum(axis=1),
        "abstained": confidence_N < ABSTAIN_BELOW,
        "right": rng.random(rows) < honest_N,
    }


def softmax(logits_NC: Column) -> Column:
    """Probabilities of each row."""
    powers_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    found_NC: Column = powers_NC / powers_NC.sum(axis=1, keepdims=True)
    return found_NC


def sketch_of(columns: Mapping[str, Column]) -> Sketch:
    """What `Signals.see` would count, all rows at once."""
    values = dict(columns)
    values["tokens_per_character"] = columns["tokens"] / columns["characters"]
    values["unknown_pieces"] = columns["unknown"] / columns["tokens"]
    sketch = empty_sketch(len(LABELS))
    sketch.rows = len(columns["tokens"])
    for signal, edges in EDGES.items():
        if signal not in values:
            # Made-up texts have no letters.
            continue
        sketch.bins[signal] = counted(np.searchsorted(edges, values[signal], "right"), edges)
    sketch.bins[LABEL] = np.bincount(columns[LABEL], minlength=len(LABELS) + 1).tolist()
    places = np.searchsorted(EDGES["confidence"], columns["confidence"], "right")
    millionths = np.round(columns["confidence"] * 1e6)
    sketch.millionths = counted(places, EDGES["confidence"], millionths)
    return sketch


def counted(places: Column, edges: tuple[float, ...], weights: Column | None = None) -> list[int]:
    """Rows, or sums of weights, by bin."""
    found: list[int] = np.bincount(places, weights, len(edges) + 1).astype(np.int64).tolist()
    return found


def expected_of(columns: Mapping[str, Column]) -> Expected:
    """A language's part of a reference whose rows are all labelled."""
    sketch, edges = sketch_of(columns), EDGES["confidence"]
    places = np.searchsorted(edges, columns["confidence"], "right")
    right = counted(places, edges, columns["right"].astype(np.float64))
    return Expected(sketch, Judged(sketch.bins["confidence"], right, sketch.millionths))


def hour(rng: np.random.Generator, world: World, number: int, hours: int) -> Signals:
    """All texts of some hours from one on, as counts."""
    signals = Signals(VERSION, TASK, LABELS)
    for language, share in shares(world, number, hours).items():
        rows = int(rng.poisson(PER_HOUR * hours * share))
        traffic = world.languages.get(language, Traffic())
        signals.languages[language] = sketch_of(texts(rng, language, traffic, rows))
    return signals


def shares(world: World, number: int, hours: int) -> dict[str, float]:
    """Of each language, waking and sleeping; a third of the languages have half of all texts."""
    weight = {name: 1.0 / (place + 6.0) for place, name in enumerate(LANGUAGES)}
    whole = sum(weight.values())
    weight = {name: value * world.weights.get(name, 1.0) for name, value in weight.items()}
    times = number + np.arange(hours)
    return {
        name: weight[name]
        / whole
        * float(1.0 + 0.6 * np.sin((times / 24.0 + place / len(LANGUAGES)) * 2.0 * np.pi).mean())
        for place, name in enumerate(LANGUAGES)
    }


def released(rng: np.random.Generator, days: int = 2) -> Reference:
    """A reference of some days of usual traffic."""
    whole = shares(USUAL, 0, 24)
    expected = {
        name: expected_of(
            texts(rng, name, Traffic(), int(rng.poisson(PER_HOUR * 24 * days * share)))
        )
        for name, share in whole.items()
    }
    mix = {name: one.sketch.rows for name, one in expected.items()}
    return Reference(TASK, "shadow", LABELS, expected, mix)


def watched(
    rng: np.random.Generator,
    watch: Watch,
    world: World,
    *,
    first_hour: int,
    hours: int,
    hours_a_window: int = 1,
) -> Iterator[tuple[Signals, list[Alarm]]]:
    """The windows of some hours of traffic, and the alarms after each."""
    for number in range(first_hour, first_hour + hours, hours_a_window):
        signals = hour(rng, world, number, hours_a_window)
        yield signals, watch.step(number // hours_a_window, signals)


def quiet_months(seeds: range) -> Iterator[str]:
    """Rows: alarms of each month without drift."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([1, seed])
        watch = Watch(released(rng))
        steps = watched(rng, watch, USUAL, first_hour=0, hours=24 * DAYS)
        found.append(sum(len(alarms) for _, alarms in steps))
        streams = watch.streams
    yield (
        f"| {len(found)} | {len(LANGUAGES)} | {streams} | {PER_HOUR * 24 * DAYS:,} |"
        f" {np.mean(found):.2f} | {max(found)} |"
    )


@dataclass
class Found:
    """What became of one change: when its first alarm came, and who else was accused."""

    requests: int | None = None
    hours: int = 0
    signal: str = ""
    others: int = 0


def find(seed: int, world: World, language: str, kind: str, *, days: int = 7) -> Found:
    """A quiet day, then the change: until when it is found, and everything else that is accused."""
    rng = np.random.default_rng([2, seed])
    watch = Watch(released(rng))
    found, requests = Found(), 0
    for _, alarms in watched(rng, watch, USUAL, first_hour=0, hours=24):
        found.others += len(alarms)
    for step, (signals, alarms) in enumerate(
        watched(rng, watch, world, first_hour=24, hours=24 * days + 1), 1
    ):
        requests += signals.languages[language].rows
        for alarm in alarms:
            if (alarm.language, alarm.kind) != (language, kind):
                found.others += 1
            elif found.requests is None:
                found.requests, found.hours = requests, step
                found.signal = alarm.finding.signal
    return found


def changes(seeds: range) -> Iterator[str]:
    """Rows: each change, how often found, requests and hours until then (medians), others."""
    for name, (world, language, kind) in CHANGES.items():
        runs = [find(seed, world, language, kind) for seed in seeds]
        seen = [run for run in runs if run.requests is not None]
        signals = sorted({run.signal for run in seen})
        yield (
            f"| {name} | {len(seen)} of {len(runs)} | {kind} {language} |"
            f" {np.median([run.requests for run in seen]):,.0f} |"
            f" {np.median([run.hours for run in seen]):.0f} | {', '.join(signals)} |"
            f" {sum(run.others for run in runs)} |"
        )


SHIFTS = {
    "as at release": Traffic(),
    "a new topic in 30 %": Traffic(touched=0.3, new_topic=True),
    "half much less clear": Traffic(touched=0.5, clarity=0.5),
    "mostly the hard topic": Traffic(topics=(0.15, 0.1, 0.05, 0.7)),
}


def estimates(
    shift: Traffic, *, sureness: float, seeds: range, rows: int = 2000
) -> tuple[float, float, float]:
    """Mean absolute error in points, how much accuracy moved, and how often intervals hold it."""
    errors, moves, holds = [], [], []
    for seed in seeds:
        rng = np.random.default_rng([3, seed])
        for language in LANGUAGES:
            before = texts(rng, language, Traffic(), 2000, sureness=sureness)
            now = texts(rng, language, shift, rows, sureness=sureness)
            estimate = estimated_accuracy(sketch_of(now), expected_of(before))
            assert estimate is not None
            truth = float(now["right"].mean())
            errors.append(abs(estimate.share - truth) * 100.0)
            moves.append((truth - float(before["right"].mean())) * 100.0)
            holds.append(estimate.low <= truth <= estimate.high)
    return float(np.mean(errors)), float(np.mean(moves)), float(np.mean(holds))


def label_free(seeds: range) -> Iterator[str]:
    """Rows: shift, by how much accuracy moved, then error and coverage, calibrated and too sure."""
    for name, shift in SHIFTS.items():
        honest = estimates(shift, sureness=1.0, seeds=seeds)
        boastful = estimates(shift, sureness=1.3, seeds=seeds)
        yield (
            f"| {name} | {honest[1]:+.1f} | {honest[0]:.1f} | {honest[2] * 100.0:.0f} % |"
            f" {boastful[0]:.1f} | {boastful[2] * 100.0:.0f} % |"
        )


TABLES: dict[str, Callable[[range], Iterator[str]]] = {
    "quiet": quiet_months,
    "changes": changes,
    "label-free": label_free,
}


def main() -> None:
    """Writes each table between its two markers; prints them where no page is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="whose tables are replaced")
    parser.add_argument("--runs", type=int, default=10, help="of each kind")
    asked = parser.parse_args()
    seeds = range(asked.runs)
    write_tables({name: partial(rows, seeds) for name, rows in TABLES.items()}, asked.page)


if __name__ == "__main__":
    main()
